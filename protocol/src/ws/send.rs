//! Frames that the server sends: whole, final and unmasked.

use std::io::{self, Write};

use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::{CONTROL_BYTES_MAX, Kind};
use crate::code::CloseCode;
use crate::cut;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// A text message.
    Text,
    /// A binary message.
    Binary,
    /// The last frame.
    Close,
    /// Asks for a pong.
    Ping,
    /// Answers a ping with its payload.
    Pong,
}

impl From<Kind> for Opcode {
    fn from(kind: Kind) -> Opcode {
        match kind {
            Kind::Text => Opcode::Text,
            Kind::Binary => Opcode::Binary,
        }
    }
}

impl From<Opcode> for OpCode {
    fn from(opcode: Opcode) -> OpCode {
        match opcode {
            Opcode::Text => OpCode::Data(Data::Text),
            Opcode::Binary => OpCode::Data(Data::Binary),
            Opcode::Close => OpCode::Control(Control::Close),
            Opcode::Ping => OpCode::Control(Control::Ping),
            Opcode::Pong => OpCode::Control(Control::Pong),
        }
    }
}

/// The header of a frame: the first `len` of `bytes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The header, then zeros.
    pub bytes: [u8; 10],
    /// 2, 4 or 10.
    pub len: u8,
}

impl Header {
    /// The header as it goes out.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// The header (RFC 6455, section 5.2) for a payload of so many bytes; for a control frame at most [`CONTROL_BYTES_MAX`].
pub fn header(opcode: Opcode, payload_bytes: usize) -> Header {
    let mut bytes = [0; 10];
    // The last frame of its message, which it is alone.
    bytes[0] = 0x80 | u8::from(OpCode::from(opcode));
    let len = match payload_bytes {
        0..126 => {
            bytes[1] = payload_bytes as u8;
            2
        }
        126..0x1_0000 => {
            bytes[1] = 126;
            bytes[2..4].copy_from_slice(&(payload_bytes as u16).to_be_bytes());
            4
        }
        _ => {
            bytes[1] = 127;
            bytes[2..].copy_from_slice(&(payload_bytes as u64).to_be_bytes());
            10
        }
    };
    Header { bytes, len }
}

/// A whole frame: a pong, an echo. A control frame's payload may have [`CONTROL_BYTES_MAX`] bytes.
pub fn frame<W: Write + ?Sized>(w: &mut W, opcode: Opcode, payload: &[u8]) -> io::Result<()> {
    w.write_all(header(opcode, payload.len()).as_slice())?;
    w.write_all(payload)
}

/// The payload of a close frame: `reason` is cut, between characters, to what fits behind the code.
pub fn close_payload<W: Write + ?Sized>(
    w: &mut W,
    code: CloseCode,
    reason: &str,
) -> io::Result<()> {
    w.write_all(&code.0.to_be_bytes())?;
    w.write_all(fitting(reason).as_bytes())
}

/// A whole close frame.
pub fn close_frame<W: Write + ?Sized>(w: &mut W, code: CloseCode, reason: &str) -> io::Result<()> {
    w.write_all(header(Opcode::Close, 2 + fitting(reason).len()).as_slice())?;
    close_payload(w, code, reason)
}

/// The frame that answers a close frame: it repeats the code, if there was one.
pub fn close_answer<W: Write + ?Sized>(w: &mut W, code: Option<CloseCode>) -> io::Result<()> {
    match code {
        Some(code) => close_frame(w, code, ""),
        None => frame(w, Opcode::Close, b""),
    }
}

fn fitting(reason: &str) -> &str {
    cut(reason, CONTROL_BYTES_MAX - 2)
}
