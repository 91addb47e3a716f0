//! The messages of the wire: a length (4 bytes, big endian, of all that follows), a kind (1 byte), a body.

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    FRAME_BYTES_MAX,
    envelope::{ENVELOPE_BYTES_MAX, name},
};

/// Bytes in front of a body.
pub(super) const HEAD_BYTES: usize = 5;
/// Longest body once the ends know each other.
pub(super) const BODY_BYTES_MAX: usize = FRAME_BYTES_MAX + ENVELOPE_BYTES_MAX;
/// Longest body before that.
pub(super) const STRANGER_BODY_BYTES_MAX: usize = 1024;

/// What a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Who an end is, and its challenge.
    Hello = 1,
    /// The answer to the other end's challenge.
    Proof = 2,
    /// Why an end goes away; a sentence.
    Refused = 3,
    /// Nothing: the sender lives.
    Alive = 4,
    /// A frame in its envelope.
    Frame = 5,
    /// From a forwarder: names of the hosts that are connected to it.
    Hosts = 6,
}

impl Kind {
    pub(super) fn read(byte: u8) -> Option<Self> {
        [
            Self::Hello,
            Self::Proof,
            Self::Refused,
            Self::Alive,
            Self::Frame,
            Self::Hosts,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }
}

/// What comes after the introduction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// A frame in its envelope.
    Frame(Bytes),
    /// Names of the hosts that are connected to a forwarder.
    Hosts(Vec<String>),
}

/// Appends a head; a body of `length` bytes must follow.
pub(super) fn put_head(buffer: &mut BytesMut, kind: Kind, length: usize) {
    // Bodies are bounded far below 4 GiB where they are made.
    buffer.put_u32(u32::try_from(length + 1).unwrap_or(u32::MAX));
    buffer.put_u8(kind as u8);
}

/// Appends a whole message.
pub(super) fn put(buffer: &mut BytesMut, kind: Kind, body: &[u8]) {
    put_head(buffer, kind, body.len());
    buffer.put_slice(body);
}

/// The body of [`Kind::Hosts`].
pub(super) fn hosts_body<'a>(names: impl Iterator<Item = &'a str>) -> Vec<u8> {
    let mut body = Vec::new();
    for name in names {
        if let Ok(length) = u8::try_from(name.len()) {
            body.push(length);
            body.extend(name.as_bytes());
        }
    }
    body
}

/// The names in a body of [`Kind::Hosts`]; `None` if it is none.
pub(super) fn hosts(mut body: &[u8]) -> Option<Vec<String>> {
    let mut names = Vec::new();
    while !body.is_empty() {
        let (one, rest) = name(body)?;
        names.push(one.into());
        body = rest;
    }
    Some(names)
}
