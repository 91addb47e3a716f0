//! From bytes to messages.

use bytes::{Buf, Bytes, BytesMut};

use super::{
    Broken,
    message::{BODY_BYTES_MAX, HEAD_BYTES, Kind, STRANGER_BODY_BYTES_MAX},
};

/// How much is read at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// Room below which a buffer gets a new chunk.
const ROOM_BYTES_MIN: usize = 4 * 1024;

/// What was read and is not a whole message yet.
#[derive(Debug)]
pub(super) struct Decoder {
    buffer: BytesMut,
    body_bytes_max: usize,
}

impl Decoder {
    /// For an end that has not proved anything: its messages are short.
    pub(super) fn stranger() -> Self {
        Self {
            buffer: BytesMut::new(),
            body_bytes_max: STRANGER_BODY_BYTES_MAX,
        }
    }

    /// The other end has proved who it is.
    pub(super) fn trust(&mut self) {
        self.body_bytes_max = BODY_BYTES_MAX;
    }

    /// Where to read to. A long message gets room as it arrives, not as it is announced.
    pub(super) fn room(&mut self) -> &mut BytesMut {
        if self.body_bytes_max == STRANGER_BODY_BYTES_MAX {
            self.buffer.reserve(STRANGER_BODY_BYTES_MAX);
        } else if self.buffer.capacity() - self.buffer.len() < ROOM_BYTES_MIN {
            self.buffer.reserve(self.buffer.len().max(CHUNK_BYTES));
        }
        &mut self.buffer
    }

    /// The next whole message; `None`: more must be read.
    pub(super) fn next(&mut self) -> Result<Option<(Kind, Bytes)>, Broken> {
        let Some(&[a, b, c, d, kind]) = self.buffer.first_chunk::<HEAD_BYTES>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        let body = length
            .checked_sub(1)
            .ok_or(Broken::Malformed("its length is 0"))?;
        if body > self.body_bytes_max {
            return Err(Broken::Malformed("it is too long"));
        }
        let kind = Kind::read(kind).ok_or(Broken::Malformed("its kind is unknown"))?;
        if self.buffer.len() < HEAD_BYTES + body {
            return Ok(None);
        }
        self.buffer.advance(HEAD_BYTES);
        Ok(Some((kind, self.buffer.split_to(body).freeze())))
    }
}
