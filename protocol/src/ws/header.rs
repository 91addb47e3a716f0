//! Which frame headers a client may send, by themselves: what fragments must follow each other is
//! [`super::Decoder`]'s to know.

use tokio_tungstenite::tungstenite::protocol::frame::coding::OpCode;

use super::CONTROL_BYTES_MAX;

/// True if `input`, which begins where a frame begins, begins with a whole ping: one that is answered in place of a ping before it
/// (RFC 6455, section 5.5.3).
pub fn begins_with_ping(input: &[u8]) -> bool {
    /// Final, no reserved bits, opcode 9.
    const PING: u8 = 0x89;
    let &[PING, second, ..] = input else {
        return false;
    };
    let (masked, length) = (second & 0x80 != 0, usize::from(second & 0x7f));
    masked && length <= CONTROL_BYTES_MAX && input.len() >= 2 + 4 + length
}

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

/// Reads the header at the start of `input` (RFC 6455, section 5.2): `Ok(None)` while it is incomplete, `Err` with the rule
/// it breaks. The rules are asked in a fixed order, from the first bytes on, so that a header that
/// breaks several is always refused for the same.
pub(super) fn read(input: &[u8]) -> Result<Option<Incoming>, &'static str> {
    let &[first, second, ..] = input else {
        return Ok(None);
    };
    first_two_bytes(first, second)?;
    let (length_bytes, payload_bytes, shortest) = match second & 0x7f {
        126 => match input.get(2..4).map(<[u8; 2]>::try_from) {
            Some(Ok(length)) => (2, u64::from(u16::from_be_bytes(length)), 126),
            _ => return Ok(None),
        },
        127 => match input.get(2..10).map(<[u8; 8]>::try_from) {
            Some(Ok(length)) => (8, u64::from_be_bytes(length), 1 << 16),
            _ => return Ok(None),
        },
        length => (0, u64::from(length), 0),
    };
    let bytes = 2 + length_bytes + 4;
    let Some(Ok(mask)) = input.get(bytes - 4..bytes).map(<[u8; 4]>::try_from) else {
        return Ok(None);
    };
    if payload_bytes >> 63 != 0 {
        return Err("frame length has its top bit set");
    }
    if payload_bytes < shortest {
        return Err("frame length is not written in the shortest form");
    }
    Ok(Some(Incoming {
        opcode: OpCode::from(first & 0x0f),
        is_final: first & 0x80 != 0,
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
