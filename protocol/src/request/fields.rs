//! The first step of reading a message: is the text one JSON object, and where are the fields this
//! protocol knows? Each is found as the raw slice of its value; none is interpreted here.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::Refusal;
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

/// Which field a name means.
enum Slot {
    Kind,
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
    Unknown,
}

impl<'de> Deserialize<'de> for Slot {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_identifier(SlotVisitor)
    }
}

struct SlotVisitor;

impl Visitor<'_> for SlotVisitor {
    type Value = Slot;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E>(self, name: &str) -> Result<Slot, E> {
        Ok(match name {
            "type" => Slot::Kind,
            "cmd" => Slot::Cmd,
            "id" => Slot::Id,
            "userName" => Slot::UserName,
            "name" => Slot::Name,
            "token" => Slot::Token,
            "deviceId" => Slot::DeviceId,
            "deviceModel" => Slot::DeviceModel,
            "to" => Slot::To,
            "recv" => Slot::Recv,
            "content" => Slot::Content,
            "quiet" => Slot::Quiet,
            "group" => Slot::Group,
            "users" => Slot::Users,
            _ => Slot::Unknown,
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
        while let Some(key) = map.next_key()? {
            let slot = match key {
                Slot::Kind => &mut fields.kind,
                Slot::Cmd => &mut fields.cmd,
                Slot::Id => &mut fields.id,
                Slot::UserName => &mut fields.user_name,
                Slot::Name => &mut fields.name,
                Slot::Token => &mut fields.token,
                Slot::DeviceId => &mut fields.device_id,
                Slot::DeviceModel => &mut fields.device_model,
                Slot::To => &mut fields.to,
                Slot::Recv => &mut fields.recv,
                Slot::Content => &mut fields.content,
                Slot::Quiet => &mut fields.quiet,
                Slot::Group => &mut fields.group,
                Slot::Users => &mut fields.users,
                Slot::Unknown => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            *slot = Some(map.next_value::<&RawValue>()?.get());
        }
        Ok(fields)
    }
}
