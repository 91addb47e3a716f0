//! What one host asks of another: a message to deliver, a question, a hint. Travels on a [lane](crate::lane).

use std::hash::Hasher;

use bytes::Bytes;
use directory::Key;
use protocol::letter::{self, Letter};
use siphasher::sip::SipHasher13;

/// What a parcel is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Nothing any more: its sender has given it up.
    Void = 0,
    /// A message to the sessions of user `to`, and to those of user `from`.
    User = 1,
    /// A message to the members of group `to`.
    Group = 2,
    /// A message to everyone.
    Everyone = 3,
    /// A question after the members of group `to`; `body` is how many names are wanted at most (32 bits, little end first).
    Members = 4,
    /// A hint: the entry of user `to` in the directory has changed.
    UserChanged = 5,
    /// A hint: the entry of group `to` has changed.
    GroupChanged = 6,
}

impl Kind {
    const ALL: [Kind; 7] = [
        Kind::Void,
        Kind::User,
        Kind::Group,
        Kind::Everyone,
        Kind::Members,
        Kind::UserChanged,
        Kind::GroupChanged,
    ];
}

/// One parcel; borrows from its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parcel<'a> {
    /// What it is about.
    pub kind: Kind,
    /// Tells the message from every other; 0 for what is no message and may be done twice.
    pub id: u64,
    /// A user or a group, by kind.
    pub to: &'a str,
    /// The sender's user name, where there is one.
    pub from: &'a str,
    /// By kind.
    pub body: &'a [u8],
}

const HEAD_BYTES: usize = 12;

impl Parcel<'_> {
    /// Its bytes. Names have at most 255 bytes, as all names have.
    pub fn bytes(&self) -> Bytes {
        let (to, from) = (short(self.to), short(self.from));
        let mut bytes = Vec::with_capacity(HEAD_BYTES + to.len() + from.len() + self.body.len());
        bytes.extend_from_slice(&[self.kind as u8, to.len() as u8, from.len() as u8, 0]);
        bytes.extend_from_slice(&self.id.to_le_bytes());
        bytes.extend_from_slice(to.as_bytes());
        bytes.extend_from_slice(from.as_bytes());
        bytes.extend_from_slice(self.body);
        bytes.into()
    }
}

/// Names are checked where they come in; this only keeps the lengths in their places.
fn short(name: &str) -> &str {
    if name.len() > 255 { "" } else { name }
}

/// What stands in the place of a parcel that was given up.
pub fn void() -> Bytes {
    Bytes::from_static(&[0; HEAD_BYTES])
}

/// The hint that a key has changed.
pub fn changed(key: &Key) -> Bytes {
    let (kind, to) = match key {
        Key::User(name) => (Kind::UserChanged, name),
        Key::Group(name) => (Kind::GroupChanged, name),
    };
    Parcel {
        kind,
        id: 0,
        to,
        from: "",
        body: &[],
    }
    .bytes()
}

/// What a letter is on its way to another host. `names_max`: how many names a question about a group wants.
pub fn of_letter(letter: &Letter<'_>, names_max: u32) -> Bytes {
    let kind = match letter.kind {
        letter::Kind::User => Kind::User,
        letter::Kind::Group => Kind::Group,
        letter::Kind::Everyone => Kind::Everyone,
        letter::Kind::WhoGroup => {
            return Parcel {
                kind: Kind::Members,
                id: 0,
                to: letter.to,
                from: "",
                body: &names_max.to_le_bytes(),
            }
            .bytes();
        }
        // The directory answers it.
        letter::Kind::WhoUsers => return void(),
    };
    Parcel {
        kind,
        id: id_of(letter.message_id),
        to: letter.to,
        from: letter.from,
        body: letter.body,
    }
    .bytes()
}

/// What tells a message from every other: a hash of its id, which is unique over all hosts and restarts. Two of the last
/// few thousand of one host share a hash once in about 10^13 cases.
fn id_of(message_id: &str) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(message_id.as_bytes());
    // 0 means that there is none, and the lowest bit is the receiver's.
    hasher.finish().max(2)
}

/// Reads a parcel; `None` if it is none, or of a kind that this version does not know.
pub fn read(bytes: &[u8]) -> Option<Parcel<'_>> {
    let (head, rest) = bytes.split_first_chunk::<HEAD_BYTES>()?;
    let [kind, to, from, _, id @ ..] = *head;
    let (to, rest) = rest.split_at_checked(usize::from(to))?;
    let (from, body) = rest.split_at_checked(usize::from(from))?;
    Some(Parcel {
        kind: *Kind::ALL.iter().find(|known| **known as u8 == kind)?,
        id: u64::from_le_bytes(id),
        to: str::from_utf8(to).ok()?,
        from: str::from_utf8(from).ok()?,
        body,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for kind in Kind::ALL {
            let parcel = Parcel {
                kind,
                id: u64::MAX,
                to: "grüße",
                from: "",
                body: b"{}",
            };
            assert_eq!(read(&parcel.bytes()), Some(parcel));
        }
        assert_eq!(read(&void()).unwrap().kind, Kind::Void);
    }

    #[test]
    fn what_is_none_is_none() {
        let whole = changed(&Key::Group("g".into()));
        for len in 0..whole.len() {
            assert_eq!(read(&whole[..len]), None);
        }
        let mut strange = whole.to_vec();
        strange[0] = 99;
        assert_eq!(read(&strange), None);
        let mut broken = whole.to_vec();
        broken[HEAD_BYTES] = 0xff;
        assert_eq!(read(&broken), None);
    }
}
