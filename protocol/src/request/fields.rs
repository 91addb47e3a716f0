//! The first step of reading a message: is the text one JSON object, and where are the fields this
//! protocol knows? Each is found as the raw slice of its value; none is interpreted here.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::Refusal;
use crate::code::ErrorCode;

/// A field that this protocol knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Field {
    Type,
    Cmd,
    Id,
    UserName,
    Name,
    Token,
    DeviceId,
    DeviceModel,
    To,
    Recv,
    Content,
    Quiet,
    Group,
    Users,
}

const FIELDS: usize = Field::Users as usize + 1;

impl Field {
    /// By length first, as most names are then known by one comparison.
    #[inline]
    pub(super) fn named(name: &str) -> Option<Field> {
        let (field, its_name) = match name.len() {
            2 if name == "to" => return Some(Field::To),
            2 => (Field::Id, "id"),
            3 => (Field::Cmd, "cmd"),
            4 if name == "type" => return Some(Field::Type),
            4 if name == "recv" => return Some(Field::Recv),
            4 => (Field::Name, "name"),
            5 if name == "quiet" => return Some(Field::Quiet),
            5 if name == "group" => return Some(Field::Group),
            5 if name == "token" => return Some(Field::Token),
            5 => (Field::Users, "users"),
            7 => (Field::Content, "content"),
            8 if name == "userName" => return Some(Field::UserName),
            8 => (Field::DeviceId, "deviceId"),
            11 => (Field::DeviceModel, "deviceModel"),
            _ => return None,
        };
        (name == its_name).then_some(field)
    }

    /// The field as a sentence calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Field::Type => "type",
            Field::Cmd => "cmd",
            Field::Id => "id",
            Field::UserName => "userName",
            Field::Name => "name",
            Field::Token => "token",
            Field::DeviceId => "deviceId",
            Field::DeviceModel => "deviceModel",
            Field::To => "to",
            Field::Recv => "recv",
            Field::Content => "content",
            Field::Quiet => "quiet",
            Field::Group => "group",
            Field::Users => "users",
        }
    }
}

/// The raw values of the known fields; the last one where a name came twice.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Fields<'a> {
    raw: [Option<&'a str>; FIELDS],
    /// Of which fields, as bits, the value is a string without an escape in it.
    plain: u16,
}

impl<'a> Fields<'a> {
    /// The raw value of a field, if it came.
    #[inline]
    pub(super) fn get(&self, field: Field) -> Option<&'a str> {
        self.raw[field as usize]
    }

    /// True if the value is a string that stands as it is between its quotes.
    #[inline]
    pub(super) fn is_plain(&self, field: Field) -> bool {
        self.plain & 1 << field as u8 != 0
    }

    #[inline]
    pub(super) fn set(&mut self, field: Field, raw: &'a str, plain: bool) {
        self.raw[field as usize] = Some(raw);
        self.plain = self.plain & !(1 << field as u8) | u16::from(plain) << field as u8;
    }
}

/// Finds the fields in any text, or refuses it as a whole.
pub(super) fn find_thoroughly(text: &str) -> Result<Fields<'_>, Refusal<'_>> {
    let first = text
        .bytes()
        .find(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
    let found = if first == Some(b'{') {
        serde_json::from_str(text).map(Some)
    } else {
        serde_json::from_str::<IgnoredAny>(text).map(|_| None)
    };
    match found {
        Ok(Some(fields)) => Ok(fields),
        Ok(None) => Err(Refusal {
            code: ErrorCode::BadRequest,
            sentence: Cow::Borrowed("a message is a JSON object"),
            id: None,
        }),
        Err(error) => Err(Refusal {
            code: ErrorCode::BadJson,
            sentence: Cow::Owned(format!("not JSON: {error}")),
            id: None,
        }),
    }
}

/// The field with this raw name, if it is known.
///
/// A name with an escape in it is copied first; one with half a surrogate pair in it is JSON,
/// though no text, and names nothing.
fn field_of(raw_name: &str) -> Option<Field> {
    if raw_name.contains('\\') {
        let name: String = serde_json::from_str(raw_name).ok()?;
        return Field::named(&name);
    }
    Field::named(raw_name.strip_prefix('"')?.strip_suffix('"')?)
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
        let mut fields = Fields::default();
        while let Some(name) = map.next_key::<&RawValue>()? {
            match field_of(name.get()) {
                Some(field) => {
                    let raw = map.next_value::<&RawValue>()?.get();
                    let plain = raw.starts_with('"') && !raw.contains('\\');
                    fields.set(field, raw, plain);
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(fields)
    }
}
