//! WebSocket framing for a server, by RFC 6455 in every rule: [`Decoder`] turns the bytes of a
//! connection into messages and control frames, the functions beside it write the frames that go
//! back.
//!
//! The decoder never changes what it reads, and hands out payloads as unmasked copies. Its input lies
//! in shared memory: a worker may be killed after it took a frame and before that was recorded, and
//! its successor reads the same bytes again. Had they been unmasked where they lie, the second time
//! would mask them anew.
//!
//! No extension is ever negotiated, so all reserved bits are errors. Whether a text message is UTF-8
//! is asked by the caller once it is complete: [`crate::text`].

mod decoder;
mod header;
mod mask;
mod send;

use crate::code::CloseCode;

pub use decoder::Decoder;
pub use header::begins_with_ping;
pub use send::{Header, Opcode, close_answer, close_frame, close_payload, frame, header};

/// The most payload a control frame may have, in bytes.
pub const CONTROL_BYTES_MAX: usize = 125;

/// The most bytes [`Event::NeedMore`] leaves over: a control frame but its last byte. (The header
/// of a data frame, up to 14 bytes, is less.)
pub const TAIL_MAX: usize = 2 + 4 + CONTROL_BYTES_MAX - 1;

/// What a data message is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Claims to be UTF-8.
    Text,
    /// Any bytes.
    Binary,
}

/// What [`Decoder::next`] found. Payloads are unmasked, and lie in the vector it was given.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// Nothing more can be told from this input.
    NeedMore {
        /// So many bytes at its end, at most [`TAIL_MAX`], were not consumed: keep them and put them
        /// in front of what is read next.
        left: usize,
    },
    /// A whole message, all of it in the input and in one frame.
    Message {
        /// Text or binary.
        kind: Kind,
        /// The message.
        payload: &'a [u8],
    },
    /// Part of a message: append it to what is kept of this message.
    Piece {
        /// The bytes; none only at the end.
        payload: &'a [u8],
        /// The message is complete with them, and this is what it is.
        end: Option<Kind>,
    },
    /// Answer with a pong of the same payload. May come between the pieces of a message.
    Ping(&'a [u8]),
    /// A sign of life.
    Pong(&'a [u8]),
    /// The peer closes: send [`close_answer`] unless a close frame was sent before, then end.
    Close {
        /// Why, if it said. Always one a peer may send.
        code: Option<CloseCode>,
        /// In its own words; may be empty.
        reason: &'a str,
    },
    /// The peer broke a rule: send a close frame with this code, then end.
    Violation {
        /// `PROTOCOL_ERROR`, `INVALID_TEXT` (in a close reason) or `TOO_BIG`.
        code: CloseCode,
        /// Which rule: for the close frame and the log.
        sentence: &'static str,
    },
}

#[cfg(test)]
mod tests;
