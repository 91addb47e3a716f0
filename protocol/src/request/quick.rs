//! The first step of reading a message, for messages as programs write them: one pass, no copy.
//!
//! What it finds, the thorough way finds too. It answers nothing where it is not certain, and leaves names with escapes, numbers with
//! fractions, space in front and behind, and all that is no JSON, to the other.

use serde_json::value::RawValue;

use super::fields::{Field, Fields};
use crate::scan::{integer_len, plain_len};

/// Finds the fields of a JSON object; `None` where it takes a closer look, whatever was found until then.
#[inline]
pub(super) fn find<'a>(text: &'a str, fields: &mut Fields<'a>) -> Option<()> {
    let bytes = text.as_bytes();
    let mut at = after(bytes, 0, b'{')?;
    loop {
        at = after(bytes, at, b'"')?;
        let field = match usual_name(bytes.get(at..)?) {
            Some((field, len)) => {
                at += len;
                Some(field)
            }
            None => {
                let name_end = at + plain_len(bytes.get(at..)?);
                let field = Field::named(text.get(at..name_end)?);
                at = space(bytes, after(bytes, name_end, b'"')?);
                at = after(bytes, at, b':')?;
                field
            }
        };
        at = space(bytes, at);
        let (end, plain) = value_end(text, at)?;
        if let Some(field) = field {
            fields.set(field, text.get(at..end)?, plain);
        }
        at = space(bytes, end);
        match bytes.get(at)? {
            b',' => at = space(bytes, at + 1),
            b'}' => return (at + 1 == bytes.len()).then_some(()),
            _ => return None,
        }
    }
}

/// A field of the messages that come all the time, by one look at eight bytes behind the first quote of its name; and how many bytes
/// its name takes up to the colon.
#[inline]
fn usual_name(bytes: &[u8]) -> Option<(Field, usize)> {
    const fn low(bytes: u32) -> u64 {
        u64::MAX >> (64 - 8 * bytes)
    }
    let word = u64::from_le_bytes(*bytes.first_chunk()?);
    let begins = |text: [u8; 8], len: u32| (word ^ u64::from_le_bytes(text)) & low(len) == 0;
    if begins(*b"to\":\0\0\0\0", 4) {
        Some((Field::To, 4))
    } else if begins(*b"type\":\0\0", 6) {
        Some((Field::Type, 6))
    } else if begins(*b"content\"", 8) && bytes.get(8) == Some(&b':') {
        Some((Field::Content, 9))
    } else if begins(*b"quiet\":\0", 7) {
        Some((Field::Quiet, 7))
    } else if begins(*b"id\":\0\0\0\0", 4) {
        Some((Field::Id, 4))
    } else {
        None
    }
}

/// The offset behind `byte`, which must be at `at`.
#[inline]
fn after(bytes: &[u8], at: usize, byte: u8) -> Option<usize> {
    (*bytes.get(at)? == byte).then_some(at + 1)
}

#[inline]
fn space(bytes: &[u8], mut at: usize) -> usize {
    while bytes.get(at) == Some(&b' ') {
        at += 1;
    }
    at
}

/// Where the value that begins at `at` ends, and whether it is a string without escapes.
#[inline]
fn value_end(text: &str, at: usize) -> Option<(usize, bool)> {
    let bytes = text.as_bytes();
    let rest = bytes.get(at..)?;
    let end = match rest.first()? {
        b'"' => {
            let end = at + 1 + plain_len(bytes.get(at + 1..)?);
            return match bytes.get(end)? {
                b'"' => Some((end + 1, true)),
                _ => Some((string_end(bytes, end)?, false)),
            };
        }
        b't' => rest.starts_with(b"true").then_some(at + 4),
        b'f' => rest.starts_with(b"false").then_some(at + 5),
        b'n' => rest.starts_with(b"null").then_some(at + 4),
        b'-' | b'0'..=b'9' => integer_len(rest).map(|len| at + len),
        b'{' | b'[' => nested_end(text, at),
        _ => None,
    };
    Some((end?, false))
}

fn nested_end(text: &str, at: usize) -> Option<usize> {
    let mut values = serde_json::Deserializer::from_str(text.get(at..)?).into_iter();
    let value: &RawValue = values.next()?.ok()?;
    Some(at + value.get().len())
}

/// Where a string ends whose inside goes on at `at`.
fn string_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += plain_len(bytes.get(at..)?);
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at = escape_end(bytes, at + 1)?,
            _ => return None,
        }
    }
}

fn escape_end(bytes: &[u8], at: usize) -> Option<usize> {
    match bytes.get(at)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(at + 1),
        b'u' => {
            let digits = bytes.get(at + 1..at + 5)?;
            digits.iter().all(u8::is_ascii_hexdigit).then_some(at + 5)
        }
        _ => None,
    }
}
