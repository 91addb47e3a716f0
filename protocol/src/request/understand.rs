//! The second step of reading a message: what the fields found in it mean, or which of them is wrong.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::fields::{Field, Fields};
use super::{
    CONTENT_DEPTH_MAX, ID_BYTES_MAX, Login, Message, Refusal, Request, Rules, Send, strict,
};
use crate::code::ErrorCode;
use crate::{cut, name};

/// What is wrong, before it is known which message it was.
struct Wrong {
    code: ErrorCode,
    sentence: Cow<'static, str>,
}

impl Wrong {
    #[cold]
    fn request(sentence: impl Into<Cow<'static, str>>) -> Wrong {
        Wrong {
            code: ErrorCode::BadRequest,
            sentence: sentence.into(),
        }
    }
}

#[inline]
pub(super) fn message<'a>(fields: &Fields<'a>, rules: Rules) -> Result<Message<'a>, Refusal<'a>> {
    let came = fields.get(Field::Id);
    let id = came.filter(|raw| is_id(raw));
    match request(fields, came.is_some() && id.is_none(), rules) {
        Ok(request) => Ok(Message { id, request }),
        Err(Wrong { code, sentence }) => Err(Refusal { code, sentence, id }),
    }
}

/// `id_is_bad` is only a fault where `id` has a meaning.
#[inline]
fn request<'a>(fields: &Fields<'a>, id_is_bad: bool, rules: Rules) -> Result<Request<'a>, Wrong> {
    let called = match fields.get(Field::Type) {
        Some(_) => Field::Type,
        None => Field::Cmd,
    };
    let Some(raw) = fields.get(called) else {
        return Err(Wrong::request("type is missing"));
    };
    let kind = string(fields, called, raw)?;
    let kind = kind.as_ref();
    if id_is_bad && matches!(kind, "sendto" | "chat" | "sendgroup" | "broadcast") {
        return Err(Wrong::request(format!(
            "id must be a string or a number of at most {ID_BYTES_MAX} bytes"
        )));
    }
    Ok(match kind {
        "sendto" => Request::SendTo(send(fields, Field::To, rules)?),
        "sendgroup" => Request::SendGroup(send(fields, Field::To, rules)?),
        "chat" if fields.get(Field::Recv).is_some() => {
            Request::SendTo(send(fields, Field::Recv, rules)?)
        }
        "chat" => Request::SendTo(send(fields, Field::To, rules)?),
        _ => return other_request(kind, fields, rules),
    })
}

/// Everything but the messages from client to client.
fn other_request<'a>(kind: &str, fields: &Fields<'a>, rules: Rules) -> Result<Request<'a>, Wrong> {
    Ok(match kind {
        "login" => Request::Login(login(fields, rules.names)?),
        "join" => Request::Join(required_name(fields, Field::Group, rules.names)?),
        "leave" => Request::Leave(required_name(fields, Field::Group, rules.names)?),
        "broadcast" => Request::Broadcast {
            content: content(fields, rules)?,
        },
        "who" => who(fields, rules.names)?,
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

fn login<'a>(fields: &Fields<'a>, names: name::Rule) -> Result<Login<'a>, Wrong> {
    let user_name = match optional_name(fields, Field::UserName, names)? {
        None => optional_name(fields, Field::Name, names)?,
        found => found,
    };
    let token = optional_string(fields, Field::Token)?;
    if user_name.is_none() && token.is_none() {
        return Err(Wrong::request("userName is missing"));
    }
    let device_id = optional_name(fields, Field::DeviceId, name::Rule::Any)?;
    let device_model = optional_name(fields, Field::DeviceModel, name::Rule::Any)?;
    Ok(Login {
        user_name,
        token,
        device_id,
        device_model,
    })
}

#[inline]
fn send<'a>(fields: &Fields<'a>, to: Field, rules: Rules) -> Result<Send<'a>, Wrong> {
    let to = required_name(fields, to, rules.names)?;
    let quiet = match fields.get(Field::Quiet) {
        Some("true") => true,
        Some("false" | "null") | None => false,
        Some(_) => return Err(Wrong::request("quiet must be true or false")),
    };
    Ok(Send {
        to,
        content: content(fields, rules)?,
        quiet,
    })
}

fn who<'a>(fields: &Fields<'a>, rule: name::Rule) -> Result<Request<'a>, Wrong> {
    let Some(raw) = fields.get(Field::Users).filter(|raw| *raw != "null") else {
        return match optional_name(fields, Field::Group, rule)? {
            Some(group) => Ok(Request::WhoGroup(group)),
            None => Err(Wrong::request("users or group is missing")),
        };
    };
    let wrong = || Wrong::request("users must be a list of user names");
    // Only the list itself is read here, its elements as raw slices: no depth of nesting can hurt.
    let elements: Vec<&RawValue> = serde_json::from_str(raw).map_err(|_| wrong())?;
    let names = elements
        .iter()
        .map(|element| checked(Field::Users, any_string(Field::Users, element.get())?, rule));
    Ok(Request::WhoUsers(names.collect::<Result<_, _>>()?))
}

#[inline]
fn content<'a>(fields: &Fields<'a>, rules: Rules) -> Result<&'a str, Wrong> {
    let raw = fields
        .get(Field::Content)
        .ok_or_else(|| Wrong::request("content is missing"))?;
    if rules.strict_content
        && !fields.is_plain(Field::Content)
        && let Some(fault) = strict::fault(raw)
    {
        return Err(Wrong::request(format!("content {fault}")));
    }
    if deeper_than(raw, CONTENT_DEPTH_MAX) {
        return Err(Wrong::request(format!(
            "content is nested more than {CONTENT_DEPTH_MAX} levels deep"
        )));
    }
    Ok(raw)
}

#[inline]
fn required_name<'a>(
    fields: &Fields<'a>,
    field: Field,
    rule: name::Rule,
) -> Result<Cow<'a, str>, Wrong> {
    let raw = fields
        .get(field)
        .ok_or_else(|| Wrong::request(format!("{} is missing", field.name())))?;
    checked(field, string(fields, field, raw)?, rule)
}

fn optional_name<'a>(
    fields: &Fields<'a>,
    field: Field,
    rule: name::Rule,
) -> Result<Option<Cow<'a, str>>, Wrong> {
    optional_string(fields, field)?
        .map(|text| checked(field, text, rule))
        .transpose()
}

fn optional_string<'a>(fields: &Fields<'a>, field: Field) -> Result<Option<Cow<'a, str>>, Wrong> {
    let raw = fields.get(field).filter(|raw| *raw != "null");
    raw.map(|raw| string(fields, field, raw)).transpose()
}

#[inline]
fn checked(field: Field, text: Cow<'_, str>, rule: name::Rule) -> Result<Cow<'_, str>, Wrong> {
    name::read(text, rule).map_err(|bad| Wrong::request(format!("{} {bad}", field.name())))
}

/// The text of a field's raw value, where it lies unless it has an escape in it.
#[inline]
fn string<'a>(fields: &Fields<'a>, field: Field, raw: &'a str) -> Result<Cow<'a, str>, Wrong> {
    match raw.get(1..raw.len() - 1) {
        Some(inside) if fields.is_plain(field) => Ok(Cow::Borrowed(inside)),
        _ => any_string(field, raw),
    }
}

fn any_string(field: Field, raw: &str) -> Result<Cow<'_, str>, Wrong> {
    let field = field.name();
    let Some(inside) = raw
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
    else {
        return Err(Wrong::request(format!("{field} must be a string")));
    };
    if !inside.contains('\\') {
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
#[inline]
fn deeper_than(raw: &str, depth_max: usize) -> bool {
    // Every level costs two bytes and a string has none, so most messages need no look at all.
    raw.len() > 2 * depth_max && !raw.starts_with('"') && nests_deeper_than(raw, depth_max)
}

fn nests_deeper_than(raw: &str, depth_max: usize) -> bool {
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
