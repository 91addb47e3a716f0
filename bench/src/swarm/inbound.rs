//! What a client gets: frames, and the content in them.

use super::digits;
use super::template::{BEFORE, LEAST, SENDER};

/// A frame of a server at the start of some bytes.
pub struct Inbound {
    /// Its kind.
    pub opcode: u8,
    /// Where its payload starts.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
}

/// Finds the first frame; `None` while it is incomplete.
pub fn frame(bytes: &[u8]) -> Option<Inbound> {
    let (start, len) = match bytes.get(1)? & 127 {
        126 => {
            let len = bytes.get(2..4)?.try_into().ok()?;
            (4, usize::from(u16::from_be_bytes(len)))
        }
        127 => {
            let len = bytes.get(2..10)?.try_into().ok()?;
            (10, u64::from_be_bytes(len) as usize)
        }
        short => (2, usize::from(short)),
    };
    let end = start + len;
    let opcode = bytes[0] & 15;
    (bytes.len() >= end).then_some(Inbound { opcode, start, end })
}

/// What a content says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content {
    /// Who sent it.
    pub sender: u32,
    /// The running number.
    pub number: u64,
    /// When.
    pub time: u64,
}

/// What a payload turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// A message of the load.
    Message(Content),
    /// One that somebody changed.
    Corrupt,
    /// Something else: an answer, an error.
    Other,
}

/// Reads the contents that one connection gets. A server writes the same before each, so where one was found is where the next
/// one is looked for.
#[derive(Default)]
pub struct Reader {
    hint: usize,
}

impl Reader {
    /// Reads a payload; `filler` is what follows the time in every content.
    pub fn read(&mut self, payload: &[u8], filler: &[u8]) -> Read {
        let hint = self.hint;
        if hint < BEFORE.len() || payload.get(hint - BEFORE.len()..hint) != Some(BEFORE) {
            let found = payload
                .windows(BEFORE.len())
                .position(|part| part == BEFORE);
            let Some(at) = found else {
                return Read::Other;
            };
            // An answer has a content as well, but it is no message and leaves no hint.
            if !payload[at + BEFORE.len()..].starts_with(b"u") && !is_message(payload) {
                return Read::Other;
            }
            self.hint = at + BEFORE.len();
        }
        content(&payload[self.hint..], filler).map_or(Read::Corrupt, Read::Message)
    }
}

/// Whether a payload is of a type that bears a content of the load.
fn is_message(payload: &[u8]) -> bool {
    let start = &payload[..payload.len().min(24)];
    [&b"\"message\""[..], b"\"sendto\"", b"\"sendgroup\""]
        .iter()
        .any(|kind| start.windows(kind.len()).any(|part| part == *kind))
}

fn content(text: &[u8], filler: &[u8]) -> Option<Content> {
    let (fixed, rest) = text.split_first_chunk::<LEAST>()?;
    let (same, behind) = rest.split_at_checked(filler.len())?;
    if fixed[0] != b'u' || same != filler || behind.first() != Some(&b'"') {
        return None;
    }
    Some(Content {
        sender: digits::read_few(&fixed[1..SENDER])?,
        number: digits::read_ten(fixed[SENDER..].first_chunk()?)?,
        time: digits::read_hex(fixed[SENDER + 10..].first_chunk()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm::template::filler;

    fn payload(before: &str, size: usize) -> Vec<u8> {
        let mut text = format!("{{\"type\":\"message\",{before}\"content\":\"u000012").into_bytes();
        text.extend(digits::ten(77));
        text.extend(digits::hex(99));
        text.extend(filler(size));
        text.extend(b"\",\"time\":1}");
        text
    }

    const CONTENT: Content = Content {
        sender: 12,
        number: 77,
        time: 99,
    };

    #[test]
    fn a_content_is_found_again_when_what_stands_before_it_grows() {
        let mut reader = Reader::default();
        for before in ["", "\"id\":\"9\",", "\"id\":\"9\",", "\"id\":\"10\",", ""] {
            let read = reader.read(&payload(before, 64), &filler(64));
            assert_eq!(read, Read::Message(CONTENT));
        }
    }

    #[test]
    fn each_changed_byte_of_what_must_be_is_found() {
        let whole = payload("", 64);
        let start = whole.windows(11).position(|part| part == BEFORE).unwrap() + 11;
        // All but the digits of the time, which its reader holds against the clock, and a digit that becomes another.
        for at in (start..=start + 64).filter(|at| !(start + 17..start + 33).contains(at)) {
            let mut changed = whole.clone();
            changed[at] ^= 0x40;
            let mut reader = Reader::default();
            let read = reader.read(&changed, &filler(64));
            assert_eq!(read, Read::Corrupt, "at {}", at - start);
        }
        let mut reader = Reader::default();
        assert_eq!(reader.read(&whole[..start + 50], &filler(64)), Read::Corrupt);
        assert_eq!(reader.read(&payload("", 65), &filler(64)), Read::Corrupt);
    }

    #[test]
    fn answers_are_no_messages() {
        let mut reader = Reader::default();
        for answer in ["{\"type\":\"error\",\"code\":\"overloaded\",\"content\":\"a queue\"}", "{}"] {
            assert_eq!(reader.read(answer.as_bytes(), &filler(64)), Read::Other);
        }
    }

    #[test]
    fn frames_are_cut_where_they_end() {
        for len in [0, 5, 125, 126, 300, 65_535, 65_536] {
            let mut bytes = ::tests::Frame::new(1, vec![b'x'; len]).unmasked().bytes();
            let whole = bytes.len();
            assert!(frame(&bytes[..whole - 1]).is_none() || len == 0);
            bytes.extend(b"more");
            let found = frame(&bytes).unwrap();
            assert_eq!((found.opcode, found.end - found.start, found.end), (1, len, whole));
        }
    }
}
