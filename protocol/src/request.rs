//! What a client asks for: one JSON object becomes a [`Message`] that borrows from its text, or a
//! [`Refusal`] ready to be answered, which names the message where it had a name.
//!
//! Rules where JSON leaves a choice:
//! - Of several fields with one name the last counts, as in every browser.
//! - Unknown fields are skipped unread; so are known ones that mean nothing to this type.
//! - An optional field that is `null` counts as absent, except `id`.
//! - `content` is never changed: numbers of any size and any escape pass through, but for what [`strict`] refuses where it is asked to.
//!
//! Reading is two steps. The first finds the known fields as raw slices and proves that the whole text is JSON: `quick` where the text is
//! as programs write it, `fields` for any other. `understand` decides what they mean.

mod fields;
mod quick;
mod shape;
pub mod strict;
mod understand;

use std::borrow::Cow;

use crate::code::ErrorCode;
use crate::name;

pub use shape::Shapes;

/// The longest `id`, in bytes as it was written, quotes and escapes included.
pub const ID_BYTES_MAX: usize = 128;

/// How deep arrays and objects may nest in `content`, the outermost counted.
pub const CONTENT_DEPTH_MAX: usize = 128;

/// What is asked of messages beyond being what they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Names of users and groups.
    pub names: name::Rule,
    /// Whether content is refused that some receivers could not read, see [`strict`].
    pub strict_content: bool,
}

impl Rules {
    /// Nothing more.
    pub const ANY: Rules = Rules {
        names: name::Rule::Any,
        strict_content: false,
    };
    /// All there is.
    pub const STRICT: Rules = Rules {
        names: name::Rule::Safe,
        strict_content: true,
    };
}

/// One message from a client.
#[derive(Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// The client's own name for it: a raw JSON string or number of at most [`ID_BYTES_MAX`] bytes,
    /// to be echoed as it is. Kept for every type, so that any error can name its message.
    pub id: Option<&'a str>,
    /// What is asked for.
    pub request: Request<'a>,
}

/// What a client asks for. All names in it have passed [`crate::name::check`], and those of users and groups the [`Rules`].
#[derive(Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// `login`
    Login(Login<'a>),
    /// `sendto`, or the older `chat`
    SendTo(Send<'a>),
    /// `sendgroup`
    SendGroup(Send<'a>),
    /// `join`: the group
    Join(Cow<'a, str>),
    /// `leave`: the group
    Leave(Cow<'a, str>),
    /// `broadcast`
    Broadcast {
        /// Raw JSON, see [`Send::content`].
        content: &'a str,
    },
    /// `who` with `users`, as many as fitted the message
    WhoUsers(Vec<Cow<'a, str>>),
    /// `who` with `group`
    WhoGroup(Cow<'a, str>),
    /// `ping`
    Ping,
    /// `logout`
    Logout,
}

/// The fields of `login`. At least one of `user_name` and `token` is there.
#[derive(Debug, PartialEq, Eq)]
pub struct Login<'a> {
    /// `userName`, or `name` of older clients.
    pub user_name: Option<Cow<'a, str>>,
    /// `token`: not a name, only known to be text.
    pub token: Option<Cow<'a, str>>,
    /// `deviceId`
    pub device_id: Option<Cow<'a, str>>,
    /// `deviceModel`
    pub device_model: Option<Cow<'a, str>>,
}

/// The fields of `sendto` and `sendgroup`.
#[derive(Debug, PartialEq, Eq)]
pub struct Send<'a> {
    /// A user, or a group.
    pub to: Cow<'a, str>,
    /// Raw JSON as the client wrote it, without space around it, nested at most
    /// [`CONTENT_DEPTH_MAX`] deep. Line breaks may stand between its tokens; [`crate::reply`] turns
    /// them to spaces.
    pub content: &'a str,
    /// The sender wants neither an `ack` nor the message back.
    pub quiet: bool,
}

/// A message that asks for nothing this server knows. The connection stays open.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal<'a> {
    /// `BadJson`, `BadRequest` or `UnknownType`.
    pub code: ErrorCode,
    /// For a person: what is wrong, and with which field.
    pub sentence: Cow<'static, str>,
    /// The message's `id`, wherever the JSON was sound and the id was.
    pub id: Option<&'a str>,
}

/// Understands one message. Allocates only where a name has an escape in it, for lists, and for
/// refusals.
#[inline]
pub fn parse(text: &str, rules: Rules) -> Result<Message<'_>, Refusal<'_>> {
    let mut found = fields::Fields::default();
    if quick::find(text, &mut found).is_none() {
        found = fields::find_thoroughly(text)?;
    }
    understand::message(&found, rules)
}

#[cfg(test)]
mod tests;
