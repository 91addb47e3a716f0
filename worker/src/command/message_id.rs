//! The id of a message: the sender's session and the number of the message in it.

use std::ops::Deref;

use shm_table::Stream;

use crate::connection::Connection;
use crate::work::Work;

/// 18 characters, a dot and twenty digits at most.
const BYTES_MAX: usize = 40;

/// The number of the message that a stream is at: no other of its session has it, and it is the same when the message is handled again.
///
/// The ordinal wraps at 2^32 messages. Each of them took at least a byte of the input, so of two messages with one ordinal the later one
/// ends at least 2^32 bytes further on, and the high half of where it ends tells them apart.
#[inline]
fn number(stream: &Stream) -> u64 {
    stream.consumed & !u64::from(u32::MAX) | u64::from(stream.ordinal)
}

/// A message's id, unique over all hosts, and the same when the message is handled again.
#[derive(Clone, Copy, Debug)]
pub(super) struct MessageId {
    text: [u8; BYTES_MAX],
    len: usize,
}

impl MessageId {
    /// Id of the message that is being handled.
    pub fn of(work: &Work<'_>, connection: &Connection) -> Self {
        let session = work.hands.session_id(connection.handle);
        Self::new(&session, number(&connection.stream))
    }

    fn new(session: &str, number: u64) -> Self {
        let mut id = MessageId {
            text: [0; BYTES_MAX],
            len: 0,
        };
        id.append(session);
        id.append(".");
        id.append(itoa::Buffer::new().format(number));
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
        let longest = MessageId::new("AAAAAAAAAAAAAAAAA_", u64::MAX);
        assert_eq!(&*longest, "AAAAAAAAAAAAAAAAA_.18446744073709551615");
    }

    #[test]
    fn the_numbers_of_a_session_hold_past_the_wrap_of_its_ordinal() {
        // The shortest messages there can be, from one wrap to the next and beyond.
        let at = |message: u64| Stream {
            consumed: message,
            ordinal: message as u32,
            ..Stream::default()
        };
        let wrap = 1 << 32;
        let near = |n: u64| (0..3).map(move |step| n + step);
        let messages = near(1).chain(near(wrap - 1)).chain(near(2 * wrap - 1));
        let numbers: std::collections::BTreeSet<u64> =
            messages.clone().map(|n| number(&at(n))).collect();
        assert_eq!(numbers.len(), messages.count());
        assert!(numbers.contains(&1), "a short session keeps short ids");
    }
}
