//! The descriptors that come with the first message to a role.

use std::os::fd::OwnedFd;

/// What a role works with and finds nowhere by a name: names may be gone when a successor starts, or lead to somebody else's things.
#[derive(Debug)]
pub struct Luggage {
    /// Every process slot's doorbell, in slot order.
    pub doorbells: Vec<OwnedFd>,
    /// The segment.
    pub segment: OwnedFd,
}

impl Luggage {
    /// As the packet carries it.
    pub fn into_list(self) -> Vec<OwnedFd> {
        let mut list = self.doorbells;
        list.push(self.segment);
        list
    }

    /// From what a packet carried, so many doorbells among it; `None` if something is missing. What a later version adds behind is left out.
    pub(crate) fn from_list(mut list: Vec<OwnedFd>, doorbells: usize) -> Option<Self> {
        if doorbells > list.len() {
            return None;
        }
        let mut others = list.split_off(doorbells).into_iter();
        Some(Self {
            doorbells: list,
            segment: others.next()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsRawFd;

    fn file() -> OwnedFd {
        File::open("/dev/null").unwrap().into()
    }

    #[test]
    fn each_thing_arrives_as_what_it_was_sent_as() {
        let sent = Luggage {
            doorbells: vec![file(), file()],
            segment: file(),
        };
        let segment = sent.segment.as_raw_fd();
        let mut list = sent.into_list();
        list.push(file());
        let came = Luggage::from_list(list, 2).unwrap();
        assert_eq!(came.doorbells.len(), 2);
        assert_eq!(came.segment.as_raw_fd(), segment);
        assert!(Luggage::from_list(vec![file(), file()], 2).is_none());
        assert!(Luggage::from_list(vec![file()], 2).is_none());
    }
}
