//! The id of a message: the sender's session and the ordinal of the message in it.

use std::ops::Deref;

use crate::connection::Connection;
use crate::work::Work;

/// 18 characters, a dot and ten digits at most.
const BYTES_MAX: usize = 32;

/// A message's id, unique over all hosts, and the same when the message is handled again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct MessageId {
    text: [u8; BYTES_MAX],
    len: usize,
}

impl MessageId {
    /// Id of the message that is being handled.
    pub fn of(work: &Work<'_>, connection: &Connection) -> Self {
        let session = work.hands.session_id(connection.handle);
        Self::new(&session, connection.stream.ordinal)
    }

    fn new(session: &str, ordinal: u32) -> Self {
        let mut id = MessageId::default();
        id.append(session);
        id.append(".");
        id.append(itoa::Buffer::new().format(ordinal));
        id
    }

    fn append(&mut self, part: &str) {
        let end = self.len + part.len();
        // There is room, as a session's id and the longest number together are shorter.
        if let Some(room) = self.text.get_mut(self.len..end) {
            room.copy_from_slice(part.as_bytes());
            self.len = end;
        }
    }
}

impl Deref for MessageId {
    type Target = str;

    fn deref(&self) -> &str {
        // Only whole texts were written.
        str::from_utf8(self.text.get(..self.len).unwrap_or_default()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_id_fits() {
        assert_eq!(
            &*MessageId::new("AAAAAAAAAAAAAAAAA-", 7),
            "AAAAAAAAAAAAAAAAA-.7"
        );
        let longest = MessageId::new("AAAAAAAAAAAAAAAAA_", u32::MAX);
        assert_eq!(&*longest, "AAAAAAAAAAAAAAAAA_.4294967295");
    }
}
