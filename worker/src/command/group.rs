//! `join` and `leave`.

use std::io::{self, Write};

use protocol::code::ErrorCode;
use serde::Serialize;
use shm_table::{GroupLimits, JoinRefused, LeaveRefused};

use crate::connection::Connection;
use crate::work::Work;

pub(super) fn join(
    work: &mut Work<'_>,
    connection: &mut Connection,
    group: &str,
    id: Option<&str>,
) {
    let limits = GroupLimits {
        per_session: work.settings.limits.groups_per_session,
    };
    let refused = match work.hands.join(connection.handle, group, limits) {
        Ok(_) => {
            work.answer(connection, |w| notice(w, "join", group, "joined"));
            return;
        }
        Err(JoinRefused::Groups) => "the server has as many groups as it can hold",
        Err(JoinRefused::Memberships) => "the server has as many memberships as it can hold",
        Err(JoinRefused::PerSession) => "this session is in as many groups as allowed",
        Err(JoinRefused::NotLoggedIn) => "this session cannot join a group now",
    };
    work.refuse(connection, ErrorCode::Capacity, refused, id);
}

pub(super) fn leave(
    work: &mut Work<'_>,
    connection: &mut Connection,
    group: &str,
    id: Option<&str>,
) {
    match work.hands.leave(connection.handle, group) {
        Ok(()) => work.answer(connection, |w| notice(w, "leave", group, "left")),
        Err(LeaveRefused::UnknownGroup) => {
            work.refuse(
                connection,
                ErrorCode::UnknownGroup,
                "there is no such group",
                id,
            );
        }
        Err(LeaveRefused::NotAMember) => {
            work.refuse(
                connection,
                ErrorCode::NotAMember,
                "this session is not in the group",
                id,
            );
        }
    }
}

/// The answer to both requests: a system event that names the group.
#[derive(Serialize)]
struct Notice<'a> {
    r#type: &'a str,
    event: &'a str,
    group: &'a str,
    content: &'a str,
}

fn notice(w: &mut dyn Write, event: &str, group: &str, sentence: &str) -> io::Result<()> {
    let notice = Notice {
        r#type: "system",
        event,
        group,
        content: sentence,
    };
    Ok(serde_json::to_writer(w, &notice)?)
}
