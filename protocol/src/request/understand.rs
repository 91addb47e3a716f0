//! The second step of reading a message: what the fields found in it mean, or which of them is wrong.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::fields::Fields;
use super::{CONTENT_DEPTH_MAX, ID_BYTES_MAX, Login, Message, Refusal, Request, Send};
use crate::code::ErrorCode;
use crate::scan::plain_len;
use crate::{cut, name};

/// What is wrong, before it is known which message it was.
struct Wrong {
    code: ErrorCode,
    sentence: Cow<'static, str>,
}

impl Wrong {
    fn request(sentence: impl Into<Cow<'static, str>>) -> Wrong {
        Wrong {
            code: ErrorCode::BadRequest,
            sentence: sentence.into(),
        }
    }
}

/// A field as it is called in a sentence, with its raw value if it came.
type Field<'a> = (&'static str, Option<&'a str>);

pub(super) fn message<'a>(fields: &Fields<'a>) -> Result<Message<'a>, Refusal<'a>> {
    let id = fields.id.filter(|raw| is_id(raw));
    match request(fields, fields.id.is_some() && id.is_none()) {
        Ok(request) => Ok(Message { id, request }),
        Err(Wrong { code, sentence }) => Err(Refusal { code, sentence, id }),
    }
}

/// `id_is_bad` is only a fault where `id` has a meaning.
fn request<'a>(fields: &Fields<'a>, id_is_bad: bool) -> Result<Request<'a>, Wrong> {
    let (called, raw) = match fields.kind {
        Some(raw) => ("type", Some(raw)),
        None => ("cmd", fields.cmd),
    };
    let Some(raw) = raw else {
        return Err(Wrong::request("type is missing"));
    };
    let kind = string(called, raw)?;
    let takes_id = matches!(kind.as_ref(), "sendto" | "chat" | "sendgroup" | "broadcast");
    if takes_id && id_is_bad {
        return Err(Wrong::request(format!(
            "id must be a string or a number of at most {ID_BYTES_MAX} bytes"
        )));
    }
    let group = ("group", fields.group);
    Ok(match kind.as_ref() {
        "login" => Request::Login(login(fields)?),
        "sendto" => Request::SendTo(send(("to", fields.to), fields)?),
        "chat" if fields.recv.is_some() => Request::SendTo(send(("recv", fields.recv), fields)?),
        "chat" => Request::SendTo(send(("to", fields.to), fields)?),
        "sendgroup" => Request::SendGroup(send(("to", fields.to), fields)?),
        "join" => Request::Join(required_name(group)?),
        "leave" => Request::Leave(required_name(group)?),
        "broadcast" => Request::Broadcast {
            content: content(fields)?,
        },
        "who" => who(fields)?,
        "ping" => Request::Ping,
        "logout" => Request::Logout,
        other => {
            let sentence = Cow::Owned(format!(
                "no message has the type {:?}",
                cut(other, name::BYTES_MAX)
            ));
            return Err(Wrong {
                code: ErrorCode::UnknownType,
                sentence,
            });
        }
    })
}

fn login<'a>(fields: &Fields<'a>) -> Result<Login<'a>, Wrong> {
    let user_name = match optional_name(("userName", fields.user_name))? {
        None => optional_name(("name", fields.name))?,
        found => found,
    };
    let token = optional_string(("token", fields.token))?;
    if user_name.is_none() && token.is_none() {
        return Err(Wrong::request("userName is missing"));
    }
    let device_id = optional_name(("deviceId", fields.device_id))?;
    let device_model = optional_name(("deviceModel", fields.device_model))?;
    Ok(Login {
        user_name,
        token,
        device_id,
        device_model,
    })
}

fn send<'a>(to: Field<'a>, fields: &Fields<'a>) -> Result<Send<'a>, Wrong> {
    let to = required_name(to)?;
    let quiet = match fields.quiet {
        Some("true") => true,
        Some("false" | "null") | None => false,
        Some(_) => return Err(Wrong::request("quiet must be true or false")),
    };
    Ok(Send {
        to,
        content: content(fields)?,
        quiet,
    })
}

fn who<'a>(fields: &Fields<'a>) -> Result<Request<'a>, Wrong> {
    let Some(raw) = fields.users.filter(|raw| *raw != "null") else {
        return match optional_name(("group", fields.group))? {
            Some(group) => Ok(Request::WhoGroup(group)),
            None => Err(Wrong::request("users or group is missing")),
        };
    };
    let wrong = || Wrong::request("users must be a list of user names");
    // Only the list itself is read here, its elements as raw slices: no depth of nesting can hurt.
    let elements: Vec<&RawValue> = serde_json::from_str(raw).map_err(|_| wrong())?;
    let names = elements
        .iter()
        .map(|element| checked("users", string("users", element.get())?));
    Ok(Request::WhoUsers(names.collect::<Result<_, _>>()?))
}

fn content<'a>(fields: &Fields<'a>) -> Result<&'a str, Wrong> {
    let raw = fields
        .content
        .ok_or_else(|| Wrong::request("content is missing"))?;
    if deeper_than(raw, CONTENT_DEPTH_MAX) {
        return Err(Wrong::request(format!(
            "content is nested more than {CONTENT_DEPTH_MAX} levels deep"
        )));
    }
    Ok(raw)
}

fn required_name<'a>((field, raw): Field<'a>) -> Result<Cow<'a, str>, Wrong> {
    let raw = raw.ok_or_else(|| Wrong::request(format!("{field} is missing")))?;
    checked(field, string(field, raw)?)
}

fn optional_name<'a>(field: Field<'a>) -> Result<Option<Cow<'a, str>>, Wrong> {
    optional_string(field)?
        .map(|text| checked(field.0, text))
        .transpose()
}

fn optional_string<'a>((field, raw): Field<'a>) -> Result<Option<Cow<'a, str>>, Wrong> {
    raw.filter(|raw| *raw != "null")
        .map(|raw| string(field, raw))
        .transpose()
}

fn checked<'a>(field: &'static str, text: Cow<'a, str>) -> Result<Cow<'a, str>, Wrong> {
    match name::check(&text) {
        Ok(()) => Ok(text),
        Err(bad) => Err(Wrong::request(format!("{field} {bad}"))),
    }
}

/// The text of a raw JSON string, where it lies unless it has an escape in it.
fn string<'a>(field: &'static str, raw: &'a str) -> Result<Cow<'a, str>, Wrong> {
    let Some(inside) = raw
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
    else {
        return Err(Wrong::request(format!("{field} must be a string")));
    };
    // It is JSON, so an escape is all that it can have that is not plain.
    if plain_len(inside.as_bytes()) == inside.len() {
        return Ok(Cow::Borrowed(inside));
    }
    // What is left to go wrong is half of a surrogate pair.
    match serde_json::from_str(raw) {
        Ok(text) => Ok(Cow::Owned(text)),
        Err(_) => Err(Wrong::request(format!(
            "{field} has an escape that is no character"
        ))),
    }
}

fn is_id(raw: &str) -> bool {
    let scalar = raw
        .bytes()
        .next()
        .is_some_and(|b| matches!(b, b'"' | b'-' | b'0'..=b'9'));
    scalar && raw.len() <= ID_BYTES_MAX
}

/// Whether arrays and objects nest deeper than `depth_max` in `raw`, which is known to be JSON.
fn deeper_than(raw: &str, depth_max: usize) -> bool {
    // Every level costs two bytes and a string has none, so most messages need no look at all.
    if raw.len() <= 2 * depth_max || raw.starts_with('"') {
        return false;
    }
    let mut depth = 0;
    let mut in_string = false;
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => in_string = !in_string,
            b'\\' => {
                // Only stands in strings; what it escapes may be a quote.
                bytes.next();
            }
            b'[' | b'{' if !in_string => {
                depth += 1;
                if depth > depth_max {
                    return true;
                }
            }
            b']' | b'}' if !in_string => depth -= 1,
            _ => {}
        }
    }
    false
}
