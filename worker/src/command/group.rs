//! `join` and `leave`.

use protocol::code::ErrorCode;
use protocol::reply;
use shm_table::{GroupLimits, JoinRefused, LeaveRefused};

use crate::connection::Connection;
use crate::work::Work;

pub(super) fn join(
    work: &mut Work<'_>,
    connection: &mut Connection,
    group: &str,
    id: Option<&str>,
) {
    let counted = work.settings.limits.connections_per_ip > 0;
    let limits = GroupLimits {
        per_session: work.settings.limits.groups_per_session,
        share_of_user: work.settings.limits.sessions_per_user > 0,
        // Those who come through a proxy that does not say from where are not one client.
        share_of_address: counted
            && work
                .hands
                .peer(connection.handle)
                .is_some_and(|peer| !work.settings.server.is_proxy(peer.ip())),
    };
    let refused = match work.hands.join(connection.handle, group, limits) {
        Ok(_) => {
            work.answer(connection, |w| {
                reply::group_notice(w, "join", group, "joined")
            });
            return;
        }
        Err(JoinRefused::Groups) => "the server has as many groups as it can hold",
        Err(JoinRefused::Memberships) => "the server has as many memberships as it can hold",
        Err(JoinRefused::PerSession) => "this session is in as many groups as allowed",
        Err(JoinRefused::ShareOfUser) => {
            "groups are short, and this user has its share of them: leave one first"
        }
        Err(JoinRefused::ShareOfAddress) => {
            "groups are short, and your address has its share of them: leave one first"
        }
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
    let left = match work.hands.leave(connection.handle, group) {
        // It took place before the answer was on its way.
        Err(LeaveRefused::UnknownGroup | LeaveRefused::NotAMember) if connection.redo => Ok(()),
        result => result,
    };
    match left {
        Ok(()) => work.answer(connection, |w| {
            reply::group_notice(w, "leave", group, "left")
        }),
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
