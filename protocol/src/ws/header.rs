//! Which frame headers a client may send, by themselves: what fragments must follow each other is
//! [`super::Decoder`]'s to know.

use std::io::Cursor;

use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::OpCode;

use super::CONTROL_BYTES_MAX;

/// A header that is allowed.
pub(super) struct Incoming {
    pub(super) opcode: OpCode,
    pub(super) is_final: bool,
    pub(super) mask: [u8; 4],
    /// Bytes of the header itself.
    pub(super) bytes: usize,
    /// Bytes of the payload: below 2^63, and at most 125 in a control frame.
    pub(super) payload_bytes: u64,
}

/// Reads the header at the start of `input`: `Ok(None)` while it is incomplete, `Err` with the rule
/// it breaks. The rules are asked in a fixed order, from the first bytes on, so that a header that
/// breaks several is always refused for the same.
pub(super) fn read(input: &[u8]) -> Result<Option<Incoming>, &'static str> {
    let &[first, second, ..] = input else {
        return Ok(None);
    };
    first_two_bytes(first, second)?;
    let mut cursor = Cursor::new(input);
    let (header, payload_bytes) = match FrameHeader::parse(&mut cursor) {
        Ok(Some(parsed)) => parsed,
        Ok(None) => return Ok(None),
        Err(_) => return Err("malformed frame header"),
    };
    if payload_bytes >> 63 != 0 {
        return Err("frame length has its top bit set");
    }
    // Reading from a slice moves a cursor by no more than its length.
    let bytes = cursor.position() as usize;
    if bytes != header.len(payload_bytes) {
        return Err("frame length is not written in the shortest form");
    }
    let FrameHeader {
        opcode,
        is_final,
        mask: Some(mask),
        ..
    } = header
    else {
        return Err("frame from a client is not masked");
    };
    Ok(Some(Incoming {
        opcode,
        is_final,
        mask,
        bytes,
        payload_bytes,
    }))
}

fn first_two_bytes(first: u8, second: u8) -> Result<(), &'static str> {
    let (is_final, reserved, opcode) = (first & 0x80 != 0, first & 0x70, first & 0x0f);
    let (masked, length) = (second & 0x80 != 0, usize::from(second & 0x7f));
    if reserved != 0 {
        return Err("reserved bit set without an extension");
    }
    if matches!(opcode, 3..=7 | 11..=15) {
        return Err("reserved opcode");
    }
    if !masked {
        return Err("frame from a client is not masked");
    }
    let control = opcode >= 8;
    if control && !is_final {
        return Err("control frame is fragmented");
    }
    if control && length > CONTROL_BYTES_MAX {
        return Err("control frame is longer than 125 bytes");
    }
    Ok(())
}
