//! The answer to `who`: the only message with a list in it.

use std::io::{self, Write};

use super::json::{Object, Out, Text, Value, message_of_type};

/// One user in a `presence`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PresenceUser<'a> {
    /// The user's name.
    pub name: &'a str,
    /// Whether there is a session, here or on another host.
    pub online: bool,
    /// The devices of the sessions known here, one per session.
    pub devices: &'a [Device<'a>],
    /// The hosts with a session.
    pub hosts: &'a [&'a str],
    /// Milliseconds since 1970; `None`, written as `null`, where nobody remembers.
    pub last_seen_ms: Option<u64>,
}

/// One device of a user, as far as its login told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device<'a> {
    /// `deviceId` of the login.
    pub id: Option<&'a str>,
    /// `deviceModel` of the login.
    pub model: Option<&'a str>,
}

/// Who is there. `group` is set when a group was asked for; `more` is how many users were left out
/// to keep the answer within a limit of the caller's; `partial` says that other hosts could not all be asked. Both are only written
/// where they say something.
pub fn presence<'a, W: Write + ?Sized>(
    w: &mut W,
    group: Option<&str>,
    users: impl IntoIterator<Item = PresenceUser<'a>>,
    more: u32,
    partial: bool,
) -> io::Result<()> {
    message_of_type(w, "presence", |object| {
        object.optional("group", group.map(Text))?;
        list(object.name("users")?, users, user)?;
        object.optional("more", (more > 0).then_some(u64::from(more)))?;
        object.optional("partial", partial.then_some(true))
    })
}

fn user<W: Write + ?Sized>(out: &mut Out<'_, W>, user: PresenceUser<'_>) -> io::Result<()> {
    let mut object = Object::start(out)?;
    object.field("name", Text(user.name))?;
    object.field("online", user.online)?;
    list(object.name("devices")?, user.devices, device)?;
    list(object.name("hosts")?, user.hosts, |w, host| {
        Text(host).write(w)
    })?;
    match user.last_seen_ms {
        Some(time_ms) => object.field("lastSeen", time_ms)?,
        None => object.name("lastSeen")?.put(b"null")?,
    }
    object.end()
}

fn device<W: Write + ?Sized>(out: &mut Out<'_, W>, device: &Device<'_>) -> io::Result<()> {
    let mut object = Object::start(out)?;
    object.optional("id", device.id.map(Text))?;
    object.optional("model", device.model.map(Text))?;
    object.end()
}

fn list<W: Write + ?Sized, T>(
    out: &mut Out<'_, W>,
    items: impl IntoIterator<Item = T>,
    mut write: impl FnMut(&mut Out<'_, W>, T) -> io::Result<()>,
) -> io::Result<()> {
    out.put(b"[")?;
    let mut first = true;
    for item in items {
        if !first {
            out.put(b",")?;
        }
        first = false;
        write(out, item)?;
    }
    out.put(b"]")
}
