//! What the messages of a load say: who sent it, as which of its messages, when, and a filling that shows whether it came as it went.

use yardstick::layout::{self, Request};
use yardstick::wire;

const SENDER: usize = 7;
const NUMBER: usize = 10;
const TIME: usize = 16;

/// The shortest content.
pub const BYTES_MIN: usize = SENDER + NUMBER + TIME;

/// Opens the content in every message that the servers deliver.
const OPENING: &[u8] = b"\"content\":\"";

/// The shape of all contents of a load.
#[derive(Clone, Debug)]
pub struct Content {
    filling: Vec<u8>,
}

/// What a message said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said {
    pub sender: usize,
    /// 1 is the first.
    pub number: u64,
    pub time: u64,
}

impl Content {
    /// Contents of so many bytes.
    pub fn new(bytes: usize) -> Content {
        let rest = bytes.checked_sub(BYTES_MIN);
        let rest = rest.unwrap_or_else(|| panic!("a content has at least {BYTES_MIN} bytes"));
        let letters = b"abcdefghijklmnopqrstuvwxyz0123456789";
        Content {
            filling: letters.iter().cycle().take(rest).copied().collect(),
        }
    }

    /// Reads a message that was delivered. `hint` is where the content was found last. `None`: it is not as it was sent.
    #[inline]
    pub fn read(&self, message: &[u8], hint: &mut usize) -> Option<Said> {
        let before = hint.wrapping_sub(OPENING.len());
        if message.get(before..*hint) != Some(OPENING) {
            *hint = memchr::memmem::find(message, OPENING)? + OPENING.len();
        }
        let content = &message[*hint..];
        let (head, rest) = content.split_at_checked(BYTES_MIN)?;
        let filling = rest.strip_prefix(&self.filling[..])?;
        if filling.first() != Some(&b'"') || head[0] != b'u' {
            return None;
        }
        Some(Said {
            sender: layout::number(&head[1..SENDER])?,
            number: layout::number(&head[SENDER..SENDER + NUMBER])? as u64,
            time: time(&head[SENDER + NUMBER..])?,
        })
    }
}

#[inline]
fn time(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |time, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(time << 4 | u64::from(value))
    })
}

/// A client's message as it goes over the wire, of which only number and time change.
#[derive(Debug)]
pub struct Template {
    frame: Vec<u8>,
    mask: [u8; 4],
    /// Where the number stands in the frame, and which byte of the mask meets it.
    number_at: usize,
    phase: usize,
    posted: u64,
}

impl Template {
    pub fn new(sender: usize, request: Request, content: &Content) -> Template {
        let head = format!("{}{:010}{:016x}", layout::user(sender), 0, 0);
        let filling = String::from_utf8_lossy(&content.filling);
        let text = request.text(&format!("{head}{filling}"));
        // Different for each client, and never zero.
        let mask = (0x1357_9bdf_u32 ^ (sender as u32).wrapping_mul(0x9e37_79b1)).to_ne_bytes();
        let mask = mask.map(|byte| byte | 1);
        let frame = wire::text(text.as_bytes(), mask);
        let payload_at = frame.len() - text.len();
        let phase = text.find(&head).expect("it is in it") + SENDER;
        Template {
            frame,
            mask,
            number_at: payload_at + phase,
            phase,
            posted: 0,
        }
    }

    /// The next message.
    #[inline]
    pub fn next(&mut self, time: u64) -> &[u8] {
        self.posted += 1;
        let mut plain = [0; NUMBER + TIME];
        let mut number = self.posted;
        for digit in plain[..NUMBER].iter_mut().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
        }
        for (place, digit) in plain[NUMBER..].iter_mut().enumerate() {
            *digit = b"0123456789abcdef"[(time >> (4 * (TIME - 1 - place))) as usize & 15];
        }
        let room = &mut self.frame[self.number_at..self.number_at + NUMBER + TIME];
        for (at, (to, byte)) in room.iter_mut().zip(plain).enumerate() {
            *to = byte ^ self.mask[(self.phase + at) & 3];
        }
        &self.frame
    }

    pub fn posted(&self) -> u64 {
        self.posted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use yardstick::wire::Frame;

    fn sent(bytes: usize, times: u64) -> (Content, Vec<u8>) {
        let content = Content::new(bytes);
        let mut template = Template::new(12, Request::SendTo(13), &content);
        for time in 1..times {
            template.next(time);
        }
        let bytes = template.next(0xabc_def0_1234).to_vec();
        let frame = Frame::read(&bytes).unwrap();
        let mut plain = Vec::new();
        wire::unmask(frame.payload(&bytes), frame.mask, &mut plain);
        (content, plain)
    }

    #[test]
    fn what_is_sent_is_understood() {
        for bytes in [BYTES_MIN, 64, 1024, 70_000] {
            let (content, plain) = sent(bytes, 1_234);
            assert_eq!(Request::read(&plain), Some(Request::SendTo(13)));
            let json: serde_json::Value = serde_json::from_slice(&plain).unwrap();
            assert_eq!(json["content"].as_str().unwrap().len(), bytes);
            let expected = Said {
                sender: 12,
                number: 1_234,
                time: 0xabc_def0_1234,
            };
            for mut hint in [0, 3, 1_000_000] {
                assert_eq!(content.read(&plain, &mut hint), Some(expected));
                assert_eq!(content.read(&plain, &mut hint), Some(expected));
            }
        }
    }

    #[test]
    fn what_was_changed_on_the_way_is_noticed() {
        let (content, plain) = sent(64, 1);
        let from = memchr::memmem::find(&plain, OPENING).unwrap();
        for at in from..plain.len() - 1 {
            let mut changed = plain.clone();
            changed[at] ^= 0x40;
            let mut hint = 0;
            let said = content.read(&changed, &mut hint);
            assert_ne!(said, content.read(&plain, &mut hint), "byte {at}");
        }
    }
}
