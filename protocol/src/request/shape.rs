//! Reading messages that look like one before: most differ from others of their client only in what stands in `to`, `content` and `id`.
//!
//! A *shape* is what stays: the text around those values. Where a text has it, and plain strings (or a whole number for `id`) between, it
//! is the same JSON with other values, so it needs no other look. Every other text is read the usual way.

use std::borrow::Cow;

use super::{ID_BYTES_MAX, Message, Refusal, Request, Rules, Send};
use crate::name;
use crate::scan::{integer_len, plain_len, same};

/// The most bytes that a shape may have.
const BYTES_MAX: usize = 128;

/// Of so many messages of no shape that is known one's is learned: where all differ, learning would be in vain.
const LEARNS_EVERY: u32 = 16;

/// What differs between messages of one shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    To,
    Content,
    TextId,
    NumberId,
}

/// What stands in front of a value.
#[derive(Clone, Copy, Debug)]
struct Part {
    /// Where that ends in the shape's bytes; it begins where the one before ends.
    end: usize,
    value: Value,
}

#[derive(Debug, Default)]
struct Shape {
    bytes: Vec<u8>,
    parts: Vec<Part>,
    is_group: bool,
    quiet: bool,
}

/// The shapes of the last messages: a cache.
#[derive(Debug, Default)]
pub struct Shapes {
    known: [Shape; 2],
    unknown: u32,
}

impl Shapes {
    /// The same as [`parse`](super::parse), in fewer steps where a message looks like one before.
    #[inline]
    pub fn parse<'a>(&mut self, text: &'a str, rules: Rules) -> Result<Message<'a>, Refusal<'a>> {
        match self.known(text, rules) {
            Some(message) => Ok(message),
            None => self.parse_unknown(text, rules),
        }
    }

    /// The message in a text of a known shape.
    #[inline]
    pub(super) fn known<'a>(&self, text: &'a str, rules: Rules) -> Option<Message<'a>> {
        self.known.iter().find_map(|shape| shape.read(text, rules))
    }

    /// The next message of an unknown shape is one that is learned.
    #[cfg(test)]
    pub(super) fn learn_now(&mut self) {
        self.unknown = 0;
    }

    fn parse_unknown<'a>(
        &mut self,
        text: &'a str,
        rules: Rules,
    ) -> Result<Message<'a>, Refusal<'a>> {
        let message = super::parse(text, rules)?;
        if self.unknown.is_multiple_of(LEARNS_EVERY)
            && let Some(shape) = Shape::of(text, &message)
        {
            self.known.swap(0, 1);
            self.known[0] = shape;
        }
        self.unknown = self.unknown.wrapping_add(1);
        Ok(message)
    }
}

impl Shape {
    /// The shape of a text and what was understood of it; `None` for what has none.
    fn of(text: &str, message: &Message<'_>) -> Option<Shape> {
        let (send, is_group) = match &message.request {
            Request::SendTo(send) => (send, false),
            Request::SendGroup(send) => (send, true),
            _ => return None,
        };
        let Cow::Borrowed(to) = send.to else {
            return None;
        };
        let mut values = vec![
            (place(text, to)?, Value::To),
            (place(text, inside(send.content)?)?, Value::Content),
        ];
        if let Some(id) = message.id {
            values.push(match inside(id) {
                Some(inside) => (place(text, inside)?, Value::TextId),
                None if integer_len(id.as_bytes()) == Some(id.len()) => {
                    (place(text, id)?, Value::NumberId)
                }
                None => return None,
            });
        }
        values.sort_by_key(|((start, _), _)| *start);
        let mut shape = Shape {
            is_group,
            quiet: send.quiet,
            ..Shape::default()
        };
        let mut at = 0;
        for ((start, end), value) in values {
            shape
                .bytes
                .extend_from_slice(text.as_bytes().get(at..start)?);
            let end_of_part = shape.bytes.len();
            shape.parts.push(Part {
                end: end_of_part,
                value,
            });
            at = end;
        }
        shape.bytes.extend_from_slice(text.as_bytes().get(at..)?);
        (shape.bytes.len() <= BYTES_MAX).then_some(shape)
    }

    /// The message in a text of this shape.
    #[inline]
    fn read<'a>(&self, text: &'a str, rules: Rules) -> Option<Message<'a>> {
        let bytes = text.as_bytes();
        let (mut at, mut from) = (0, 0);
        let (mut to, mut content, mut id) = ("", "", None);
        for part in &self.parts {
            at = behind(bytes, at, self.bytes.get(from..part.end)?)?;
            from = part.end;
            let rest = bytes.get(at..)?;
            let end = at
                + match part.value {
                    Value::NumberId => integer_len(rest)?,
                    _ => plain_len(rest),
                };
            // What stands around a string here are its quotes.
            match part.value {
                Value::To => to = text.get(at..end)?,
                Value::Content => content = text.get(at - 1..end + 1)?,
                Value::TextId => id = Some(text.get(at - 1..end + 1)?),
                Value::NumberId => id = Some(text.get(at..end)?),
            }
            at = end;
        }
        let rest = self.bytes.get(from..)?;
        let is_of_shape = behind(bytes, at, rest)? == bytes.len() && !self.parts.is_empty();
        let is_allowed =
            name::stays(to, rules.names) && id.is_none_or(|id| id.len() <= ID_BYTES_MAX);
        if !is_of_shape || !is_allowed {
            return None;
        }
        let send = Send {
            to: Cow::Borrowed(to),
            content,
            quiet: self.quiet,
        };
        let request = match self.is_group {
            true => Request::SendGroup(send),
            false => Request::SendTo(send),
        };
        Some(Message { id, request })
    }
}

/// The inside of a JSON string without escapes.
fn inside(raw: &str) -> Option<&str> {
    let inside = raw.strip_prefix('"')?.strip_suffix('"')?;
    (plain_len(inside.as_bytes()) == inside.len()).then_some(inside)
}

/// Where a part of a text begins and ends in it.
fn place(text: &str, part: &str) -> Option<(usize, usize)> {
    let start = (part.as_ptr() as usize).checked_sub(text.as_ptr() as usize)?;
    let end = start + part.len();
    (end <= text.len()).then_some((start, end))
}

/// The offset behind `part`, which must be at `at`.
#[inline]
fn behind(bytes: &[u8], at: usize, part: &[u8]) -> Option<usize> {
    let end = at + part.len();
    same(bytes.get(at..end)?, part).then_some(end)
}
