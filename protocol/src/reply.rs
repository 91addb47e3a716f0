//! What the server says. Each function writes one JSON object without line breaks, so that the same
//! bytes serve as a WebSocket payload and, with a `\n` behind, as a TCP line. Nothing is allocated.
//!
//! Names and sentences are escaped here. A parameter called `content` or `id: Option<&str>` is raw
//! JSON as [`crate::request`] handed it out: it is written as it is, a line break between its tokens
//! becoming a space. The only errors are those of the writer.

mod json;
mod moment;
mod presence;
mod short;
mod speaker;

use std::io::{self, Write};

use crate::code::{CloseCode, ErrorCode};
use json::{Out, Raw, Text, Value, message_of_type};
use short::{Short, Sink};

pub use moment::Moment;
pub use presence::{Device, PresenceUser, presence};
pub use speaker::Speaker;

/// Whom a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To<'a> {
    /// All sessions of a user.
    User(&'a str),
    /// All sessions in a group.
    Group(&'a str),
}

/// A message from one client to others.
#[derive(Clone, Copy, Debug)]
pub struct MessageParts<'a> {
    /// The sender.
    pub speaker: &'a Speaker,
    /// Which of the sender's messages it is; with its session's id and a dot in front that is the message's id.
    pub ordinal: u32,
    /// The recipient.
    pub to: &'a To<'a>,
    /// Raw JSON.
    pub content: &'a str,
    /// When.
    pub time: &'a Moment,
}

/// A message from an administrator to everyone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broadcast<'a> {
    /// The message's id, given by the server.
    pub id: &'a str,
    /// The sender's user name.
    pub from: &'a str,
    /// Raw JSON.
    pub content: &'a str,
    /// Milliseconds since 1970.
    pub time_ms: u64,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Queued for at least one session here.
    Delivered,
    /// Handed to another host.
    Routed,
    /// Nobody was there.
    Offline,
}

impl Status {
    /// The status as it stands on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Status::Delivered => "delivered",
            Status::Routed => "routed",
            Status::Offline => "offline",
        }
    }
}

/// Whether a sender hears by an `ack` what became of its message: if it gave it an `id`, or if it did not want to hear unless something
/// went wrong and something did.
pub fn is_told(status: Status, quiet: bool, has_id: bool) -> bool {
    if quiet {
        status == Status::Offline
    } else {
        has_id
    }
}

/// The first message on every connection. Times in milliseconds.
pub fn open<W: Write + ?Sized>(
    w: &mut W,
    session: &str,
    server: &str,
    login_timeout_ms: u64,
    heartbeat_ms: u64,
) -> io::Result<()> {
    message_of_type(w, "open", |object| {
        object.field("session", Text(session))?;
        object.field("server", Text(server))?;
        object.field("loginTimeoutMs", login_timeout_ms)?;
        object.field("heartbeatMs", heartbeat_ms)
    })
}

/// The answer to a login.
pub fn welcome<W: Write + ?Sized>(w: &mut W, user_name: &str) -> io::Result<()> {
    message_of_type(w, "system", |object| {
        object.field("event", Text("login"))?;
        let out = object.name("content")?;
        out.put(b"\"hello, welcome ")?;
        json::escaped(out, user_name)?;
        out.put(b"\"")
    })
}

/// A sentence of the server's own, for a person to read.
pub fn notice<W: Write + ?Sized>(w: &mut W, event: &str, sentence: &str) -> io::Result<()> {
    message_of_type(w, "system", |object| {
        object.field("event", Text(event))?;
        object.field("content", Text(sentence))
    })
}

/// The same about a group: the answer to `join` and `leave`.
pub fn group_notice<W: Write + ?Sized>(
    w: &mut W,
    event: &str,
    group: &str,
    sentence: &str,
) -> io::Result<()> {
    message_of_type(w, "system", |object| {
        object.field("event", Text(event))?;
        object.field("group", Text(group))?;
        object.field("content", Text(sentence))
    })
}

/// An administrator's word to everyone.
pub fn broadcast<W: Write + ?Sized>(w: &mut W, parts: &Broadcast<'_>) -> io::Result<()> {
    message_of_type(w, "system", |object| {
        object.field("event", Text("broadcast"))?;
        object.field("id", Text(parts.id))?;
        object.field("from", Text(parts.from))?;
        object.field("content", Raw(parts.content))?;
        object.field("time", parts.time_ms)
    })
}

/// A message, as its recipients get it, and its sender too where no `ack` was asked for.
#[inline]
pub fn message(w: &mut Vec<u8>, parts: &MessageParts<'_>) -> io::Result<()> {
    write_message(w, parts)
}

#[inline]
fn write_message<W: Sink>(w: &mut W, parts: &MessageParts<'_>) -> io::Result<()> {
    // Field by field it would be three times as many writes, and this is what is written all the time.
    w.put_long(&parts.speaker.opening)?;
    w.put_number(parts.ordinal)?;
    w.put_long(&parts.speaker.introduction)?;
    let mut out = Out::new(w);
    let name = match *parts.to {
        To::User(name) => {
            out.put(b"to\":\"")?;
            name
        }
        To::Group(name) => {
            out.put(b"group\":\"")?;
            name
        }
    };
    json::escaped(&mut out, name)?;
    out.put(b"\",\"content\":")?;
    Raw(parts.content).write(&mut out)?;
    w.put_piece(&parts.time.closing)
}

/// The same at the start of `room`; its length, or `None` if there is not room enough.
#[inline]
pub fn message_within(room: &mut [u8], parts: &MessageParts<'_>) -> Option<usize> {
    let mut short = Short::new(room);
    write_message(&mut short, parts).ok()?;
    Some(short.written())
}

/// What became of a message, for the sender who numbered it.
pub fn ack<W: Write + ?Sized>(
    w: &mut W,
    id: Option<&str>,
    message_id: &str,
    status: Status,
) -> io::Result<()> {
    message_of_type(w, "ack", |object| {
        object.optional("id", id.map(Raw))?;
        object.field("messageId", Text(message_id))?;
        object.field("status", Text(status.as_str()))
    })
}

/// The answer to `ping`. Milliseconds since 1970.
pub fn pong<W: Write + ?Sized>(w: &mut W, time_ms: u64) -> io::Result<()> {
    message_of_type(w, "pong", |object| object.field("time", time_ms))
}

/// A refusal: `id` names the message, `close_code` is given where the connection closes with it.
pub fn error<W: Write + ?Sized>(
    w: &mut W,
    code: ErrorCode,
    sentence: &str,
    id: Option<&str>,
    close_code: Option<CloseCode>,
) -> io::Result<()> {
    message_of_type(w, "error", |object| {
        object.field("code", Text(code.as_str()))?;
        object.field("content", Text(sentence))?;
        object.optional("id", id.map(Raw))?;
        object.optional("closeCode", close_code.map(|code| u64::from(code.0)))
    })
}

/// The last word before the server closes a connection.
pub fn kicked<W: Write + ?Sized>(
    w: &mut W,
    reason: &str,
    close_code: Option<CloseCode>,
) -> io::Result<()> {
    message_of_type(w, "kicked", |object| {
        object.field("reason", Text(reason))?;
        object.optional("closeCode", close_code.map(|code| u64::from(code.0)))
    })
}

#[cfg(test)]
mod tests;
