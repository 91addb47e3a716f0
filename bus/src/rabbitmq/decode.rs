//! AMQP 0-9-1, what the broker says.

use bytes::{Buf, Bytes, BytesMut};

use crate::wire::Broken;

pub(super) const METHOD: u8 = 1;
pub(super) const HEADER: u8 = 2;
pub(super) const BODY: u8 = 3;
pub(super) const HEARTBEAT: u8 = 8;
pub(super) const END: u8 = 0xCE;

/// Longest frame this end takes, bytes; it tells the broker so.
pub(super) const FRAME_BYTES_MAX: u32 = 131_072;
/// Bytes around a frame's content.
const AROUND: usize = 8;

/// What the broker says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Start,
    Tune {
        channels: u16,
        frame_bytes: u32,
        heartbeat_s: u16,
    },
    /// Something that was asked for is done: open, declared, bound, and so on.
    Done,
    /// It consumes from now on.
    Consuming,
    /// A content follows under this number.
    Deliver(u64),
    Header {
        bytes: u64,
    },
    Body(Bytes),
    /// It has taken everything up to this number, or only this one.
    Ack {
        number: u64,
        all_before: bool,
    },
    Flow(bool),
    Blocked(String),
    Unblocked,
    /// It ends the channel or the connection, or no longer delivers; why.
    Closed(String),
    Heartbeat,
}

/// Takes the next frame out of what was read; `None`: more must be read.
pub(super) fn next(buffer: &mut BytesMut) -> Result<Option<Said>, Broken> {
    let Some(&[kind, _, _, a, b, c, d]) = buffer.first_chunk::<7>() else {
        return Ok(None);
    };
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    if kind == b'A' {
        return Err(Broken::Malformed(
            "the broker speaks another version of AMQP",
        ));
    }
    if length > FRAME_BYTES_MAX as usize {
        return Err(Broken::Malformed("the broker's frame is too long"));
    }
    if buffer.len() < length + AROUND {
        return Ok(None);
    }
    buffer.advance(7);
    let content = buffer.split_to(length).freeze();
    if buffer.get_u8() != END {
        return Err(Broken::Malformed("the broker's frame has no end"));
    }
    let said = match kind {
        METHOD => method(&content),
        HEADER => content
            .get(4..12)
            .and_then(|bytes| bytes.try_into().ok())
            .map(|bytes| Said::Header {
                bytes: u64::from_be_bytes(bytes),
            }),
        BODY => Some(Said::Body(content)),
        HEARTBEAT => Some(Said::Heartbeat),
        _ => None,
    };
    said.map(Some)
        .ok_or(Broken::Malformed("the broker's frame is unknown"))
}

fn method(content: &[u8]) -> Option<Said> {
    let mut rest = Rest(content);
    Some(match (rest.u16()?, rest.u16()?) {
        (10, 10) => Said::Start,
        (10, 30) => Said::Tune {
            channels: rest.u16()?,
            frame_bytes: rest.u32()?,
            heartbeat_s: rest.u16()?,
        },
        (10, 41 | 51) | (20, 11) | (40, 11) | (50, 11 | 21) | (60, 11) | (85, 11) => Said::Done,
        (10, 50) | (20, 40) => Said::Closed(format!("{} {}", rest.u16()?, rest.text()?)),
        (10, 60) => Said::Blocked(rest.text()?),
        (10, 61) => Said::Unblocked,
        (20, 20) => Said::Flow(rest.u8()? & 1 == 1),
        (60, 21) => Said::Consuming,
        (60, 30) => Said::Closed("the queue was deleted".into()),
        (60, 60) => {
            rest.text()?;
            Said::Deliver(rest.u64()?)
        }
        // A frame that the broker refuses is as lost as one that nobody takes: it is not in hand any more.
        (60, 80 | 120) => Said::Ack {
            number: rest.u64()?,
            all_before: rest.u8()? & 1 == 1,
        },
        _ => return None,
    })
}

/// What is not read yet of a method.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*bytes)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }

    fn text(&mut self) -> Option<String> {
        let length = self.u8()?;
        let (text, rest) = self.0.split_at_checked(length.into())?;
        self.0 = rest;
        Some(String::from_utf8_lossy(text).escape_debug().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_taken_whole_and_garbage_is_refused() {
        let mut buffer = BytesMut::from(
            &b"\x01\0\x01\0\0\0\x0d\0\x3c\0\x50\0\0\0\0\0\0\0\x07\x01\xce\x08\0\0\0\0\0\0\xce"[..],
        );
        assert_eq!(
            next(&mut buffer).unwrap(),
            Some(Said::Ack {
                number: 7,
                all_before: true
            })
        );
        assert_eq!(next(&mut buffer).unwrap(), Some(Said::Heartbeat));
        assert_eq!(next(&mut buffer).unwrap(), None);
        for garbage in [
            &b"AMQP\0\0\x09\x01"[..],
            b"\x01\0\0\xff\xff\xff\xff",
            b"\x01\0\0\0\0\0\0\xce",
            b"\x08\0\0\0\0\0\0\0",
            b"\x01\0\0\0\0\0\x04\0\x63\0\x63\xce",
        ] {
            assert!(next(&mut BytesMut::from(garbage)).is_err(), "{garbage:?}");
        }
    }
}
