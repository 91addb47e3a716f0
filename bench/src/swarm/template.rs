//! What a client sends: masked frames, prepared once.
//!
//! A message differs from the one before it only in its running number and the time it is sent, so a client masks the rest once
//! and for all. The content is
//!
//! | bytes | what |
//! | ---: | --- |
//! | 7 | who sends, `u000012` (in the load `fanout`: which stream) |
//! | 10 | running number, decimal |
//! | 16 | time of sending, ns since the load began, hexadecimal |
//! | rest | filler |

use super::digits;

/// Bytes before the running number.
pub const SENDER: usize = 7;
/// The running number and the time.
pub const CHANGING: usize = 26;
/// The least a content can have.
pub const LEAST: usize = SENDER + CHANGING;
/// Where it starts in a message.
pub const BEFORE: &[u8] = b"\"content\":\"";

const TEXT: u8 = 0x81;
const PONG: u8 = 0x8A;

/// A client's mask: its own, always the same, and no byte of it zero, so that the server's unmasking is never without effect.
pub fn key(client: usize) -> [u8; 4] {
    let mixed = (client as u32).wrapping_add(1).wrapping_mul(0x9E37_79B9);
    (mixed | 0x0101_0101).to_be_bytes()
}

/// A masked text frame.
pub fn text(payload: &[u8], key: [u8; 4]) -> Vec<u8> {
    frame(TEXT, payload, key)
}

/// The answer to a ping.
pub fn pong(payload: &[u8], key: [u8; 4]) -> Vec<u8> {
    frame(PONG, payload, key)
}

fn frame(first: u8, payload: &[u8], key: [u8; 4]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        short @ ..126 => frame.push(0x80 | short as u8),
        middle @ ..65_536 => {
            frame.push(0x80 | 126);
            frame.extend((middle as u16).to_be_bytes());
        }
        long => {
            frame.push(0x80 | 127);
            frame.extend((long as u64).to_be_bytes());
        }
    }
    frame.extend(key);
    let masked = payload.iter().zip(key.iter().cycle());
    frame.extend(masked.map(|(byte, key)| byte ^ key));
    frame
}

/// The filler of a content of `size` bytes.
pub fn filler(size: usize) -> Vec<u8> {
    (b'a'..=b'z').cycle().take(size - LEAST).collect()
}

/// All messages of one sender to one recipient or group, but for what changes.
pub struct Template {
    frame: Vec<u8>,
    /// Where the running number starts.
    at: usize,
    /// The mask there.
    mask: [u8; CHANGING],
}

impl Template {
    /// Messages with `size` bytes of content from the stream `from` to a user.
    pub fn private(from: u32, to: u32, size: usize, key: [u8; 4]) -> Template {
        Template::new("sendto", &format!("u{to:06}"), from, size, key)
    }

    /// The same to a group.
    pub fn group(from: u32, to: u32, size: usize, key: [u8; 4]) -> Template {
        Template::new("sendgroup", &format!("g{to:04}"), from, size, key)
    }

    fn new(kind: &str, to: &str, from: u32, size: usize, key: [u8; 4]) -> Template {
        let head =
            format!("{{\"type\":\"{kind}\",\"to\":\"{to}\",\"quiet\":true,\"content\":\"u{from:06}");
        let mut payload = head.into_bytes();
        let changing = payload.len();
        payload.extend([b'0'; CHANGING]);
        payload.extend(filler(size));
        payload.extend(b"\"}");
        let frame = frame(TEXT, &payload, key);
        Template {
            at: frame.len() - payload.len() + changing,
            mask: std::array::from_fn(|byte| key[(changing + byte) % 4]),
            frame,
        }
    }

    /// Appends message `number`, sent at `time`.
    pub fn write(&self, out: &mut Vec<u8>, number: u64, time: u64) {
        let start = out.len() + self.at;
        out.extend_from_slice(&self.frame);
        let mut text = [0; CHANGING];
        text[..10].copy_from_slice(&digits::ten(number));
        text[10..].copy_from_slice(&digits::hex(time));
        for (byte, (text, mask)) in out[start..start + CHANGING]
            .iter_mut()
            .zip(text.iter().zip(&self.mask))
        {
            *byte = text ^ mask;
        }
    }

    /// Bytes of a message on the wire.
    pub fn len(&self) -> usize {
        self.frame.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::tests::Frame;

    fn unmasked(bytes: &[u8]) -> String {
        let (frame, len) = Frame::parse(bytes).unwrap();
        assert_eq!(len, bytes.len());
        assert_eq!((frame.fin, frame.opcode, frame.reserved), (true, 1, 0));
        assert!(frame.mask.unwrap().iter().all(|byte| *byte != 0));
        String::from_utf8(frame.payload).unwrap()
    }

    #[test]
    fn every_length_of_a_frame_is_right() {
        for size in [33, 64, 90, 1024, 70_000] {
            let template = Template::private(12, 13, size, key(12));
            let mut out = b"before".to_vec();
            template.write(&mut out, 7, 0xABC);
            assert_eq!(out.len(), 6 + template.len());
            let message: serde_json::Value = serde_json::from_str(&unmasked(&out[6..])).unwrap();
            assert_eq!((&message["type"], &message["to"]), (&"sendto".into(), &"u000013".into()));
            let content = message["content"].as_str().unwrap();
            assert_eq!(content.len(), size);
            assert!(content.starts_with("u00001200000000070000000000000abc"));
        }
    }

    #[test]
    fn a_group_s_message_is_laid_out_as_agreed() {
        let mut out = Vec::new();
        Template::group(12, 3, LEAST, key(0)).write(&mut out, 1, 2);
        let text = "{\"type\":\"sendgroup\",\"to\":\"g0003\",\"quiet\":true,\"content\":\"u00001200000000010000000000000002\"}";
        assert_eq!(unmasked(&out), text);
    }

    #[test]
    fn masks_are_each_client_s_own_and_never_zero() {
        let keys: std::collections::HashSet<_> = (0..1000).map(key).collect();
        assert!(keys.len() > 900);
        assert!(keys.iter().flatten().all(|byte| *byte != 0));
    }
}
