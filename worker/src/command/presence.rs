//! `who`: which users are there, with what devices, or when they were last seen.
//!
//! In a cluster the link answers, who can ask the other hosts. Where that cannot be, what is known here is told, and that it is not all;
//! but whose questions are past their share of the link is refused.

use std::borrow::Cow;
use std::io;

use protocol::code::ErrorCode;
use protocol::letter::{Kind, Letter};
use protocol::reply::{self, Device, PresenceUser};
use shm_table::{Name, NotTaken, RowHandle, UserEntry};

use super::elsewhere::past_share;
use crate::connection::Connection;
use crate::work::Work;

/// Devices told of one user. A user with more sessions than this is not a person with devices.
const DEVICES_MAX: usize = 32;

/// Answers for the users named, each once, in the order they were named.
pub(super) fn users(
    work: &mut Work<'_>,
    connection: &mut Connection,
    names: &[Cow<'_, str>],
    id: Option<&str>,
) {
    let ask = |w: &mut Vec<u8>| serde_json::to_writer(w, names).map_err(io::Error::from);
    if work.ask_others(connection, Kind::WhoUsers, "", id, ask) {
        return;
    }
    let most = work.settings.limits.presence_users as usize;
    let mut seen = std::collections::HashSet::new();
    let (mut asked, mut more) = (Vec::with_capacity(names.len().min(most)), 0);
    for name in names.iter().map(|name| &**name) {
        if !seen.insert(name) {
            continue;
        }
        match asked.len() < most {
            true => asked.push((name, work.hands.find_user(name))),
            false => more += 1,
        }
    }
    answer(work, connection, None, &asked, more, id);
}

/// Answers for the users in a group, by name.
pub(super) fn group(
    work: &mut Work<'_>,
    connection: &mut Connection,
    group: &str,
    id: Option<&str>,
) {
    if work.ask_others(connection, Kind::WhoGroup, group, id, |_| Ok(())) {
        return;
    }
    let most = work.settings.limits.presence_users as usize;
    let Some(found) = work.hands.users_in(group, most) else {
        work.refuse(
            connection,
            ErrorCode::UnknownGroup,
            "there is no such group",
            id,
        );
        return;
    };
    let users: Vec<(&str, Option<UserEntry>)> = found
        .users
        .iter()
        .map(|(name, entry)| (&**name, Some(*entry)))
        .collect();
    answer(work, connection, Some(group), &users, found.more, id);
}

/// One user, looked up.
struct Found<'n> {
    name: &'n str,
    devices: std::ops::Range<usize>,
    online: bool,
    last_seen_ms: Option<u64>,
}

fn answer(
    work: &mut Work<'_>,
    connection: &mut Connection,
    group: Option<&str>,
    users: &[(&str, Option<UserEntry>)],
    more: u32,
    id: Option<&str>,
) {
    let mut sessions = work.lend_handles();
    let mut identities = Vec::new();
    let mut found = Vec::with_capacity(users.len());
    for &(name, entry) in users {
        sessions.clear();
        let last_seen_ms = entry.and_then(|entry| work.hands.presence_of(entry, &mut sessions));
        let from = identities.len();
        let known = sessions
            .iter()
            .filter_map(|session| identity(work, *session));
        identities.extend(known.take(DEVICES_MAX));
        found.push(Found {
            name,
            devices: from..identities.len(),
            online: !sessions.is_empty(),
            last_seen_ms,
        });
    }
    work.return_handles(sessions);

    let devices: Vec<Device<'_>> = identities
        .iter()
        .map(|(id, model)| Device {
            id: given(id),
            model: given(model),
        })
        .collect();
    let node = std::mem::take(&mut work.settings.server.node);
    let hosts = [node.as_str()];
    let users = found.iter().map(|user| PresenceUser {
        name: user.name,
        online: user.online,
        devices: devices.get(user.devices.clone()).unwrap_or_default(),
        hosts: if user.online { &hosts } else { &[] },
        last_seen_ms: user.last_seen_ms,
    });
    let partial = work.settings.cluster.enabled;
    let message = work.encode(|w| reply::presence(w, group, users, more, partial));
    work.settings.server.node = node;
    match message {
        Ok(message) => work.queue(connection, Ok(message)),
        Err(_) => {
            let sentence = "the server has no room for this answer now";
            work.refuse(connection, ErrorCode::Overloaded, sentence, id);
        }
    }
}

impl Work<'_> {
    /// Hands a question to the link, or refuses it; false where this host has to answer alone.
    fn ask_others(
        &mut self,
        connection: &mut Connection,
        kind: Kind,
        group: &str,
        id: Option<&str>,
        names: impl FnOnce(&mut Vec<u8>) -> io::Result<()>,
    ) -> bool {
        if !self.settings.cluster.enabled {
            return false;
        }
        let letter = Letter {
            kind,
            quiet: false,
            reached: false,
            sender: (connection.handle.row, connection.handle.generation),
            handed_over_ms: self.clock.table_ms,
            to: group,
            from: "",
            message_id: "",
            id,
            body: &[],
        };
        match self.post(connection.handle, &letter, names) {
            Ok(()) => true,
            Err(NotTaken::Share(share)) => {
                self.refuse(connection, ErrorCode::Overloaded, past_share(share), id);
                true
            }
            Err(NotTaken::Full | NotTaken::Away) => false,
        }
    }
}

/// Device id and model of a session.
fn identity(work: &Work<'_>, session: RowHandle) -> Option<(Name, Name)> {
    Some((
        work.hands.device_id(session)?,
        work.hands.device_model(session)?,
    ))
}

/// What the client gave, if it gave anything.
fn given(name: &Name) -> Option<&str> {
    (!name.is_empty()).then_some(&**name)
}
