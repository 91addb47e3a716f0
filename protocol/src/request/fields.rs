//! The first step of reading a message: is the text one JSON object, and where are the fields this
//! protocol knows? Each is found as the raw slice of its value; none is interpreted here.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{Refusal, quick};
use crate::code::ErrorCode;

/// The raw values of the known fields; the last one where a name came twice.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Fields<'a> {
    pub(super) kind: Option<&'a str>,
    pub(super) cmd: Option<&'a str>,
    pub(super) id: Option<&'a str>,
    pub(super) user_name: Option<&'a str>,
    pub(super) name: Option<&'a str>,
    pub(super) token: Option<&'a str>,
    pub(super) device_id: Option<&'a str>,
    pub(super) device_model: Option<&'a str>,
    pub(super) to: Option<&'a str>,
    pub(super) recv: Option<&'a str>,
    pub(super) content: Option<&'a str>,
    pub(super) quiet: Option<&'a str>,
    pub(super) group: Option<&'a str>,
    pub(super) users: Option<&'a str>,
}

/// Finds the fields, or refuses the text as a whole.
pub(super) fn find(text: &str) -> Result<Fields<'_>, Refusal<'_>> {
    match quick::find(text) {
        Some(fields) => Ok(fields),
        None => find_thoroughly(text),
    }
}

/// The same for any text.
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

impl<'a> Fields<'a> {
    /// Where the value of the field with this raw name goes; nowhere if it is not known.
    ///
    /// A name with an escape in it is copied first; one with half a surrogate pair in it is JSON,
    /// though no text, and names nothing.
    fn slot(&mut self, raw_name: &str) -> Option<&mut Option<&'a str>> {
        if raw_name.contains('\\') {
            let name: String = serde_json::from_str(raw_name).ok()?;
            return self.slot_of(&name);
        }
        self.slot_of(raw_name.strip_prefix('"')?.strip_suffix('"')?)
    }

    #[inline]
    pub(super) fn slot_of(&mut self, name: &str) -> Option<&mut Option<&'a str>> {
        Some(match name {
            "type" => &mut self.kind,
            "cmd" => &mut self.cmd,
            "id" => &mut self.id,
            "userName" => &mut self.user_name,
            "name" => &mut self.name,
            "token" => &mut self.token,
            "deviceId" => &mut self.device_id,
            "deviceModel" => &mut self.device_model,
            "to" => &mut self.to,
            "recv" => &mut self.recv,
            "content" => &mut self.content,
            "quiet" => &mut self.quiet,
            "group" => &mut self.group,
            "users" => &mut self.users,
            _ => return None,
        })
    }
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
            match fields.slot(name.get()) {
                Some(slot) => *slot = Some(map.next_value::<&RawValue>()?.get()),
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(fields)
    }
}
