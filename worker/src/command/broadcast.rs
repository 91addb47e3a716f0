//! `broadcast`: an administrator's word to everyone.

use protocol::code::ErrorCode;
use protocol::reply::{self, Broadcast, Status};

use super::message_id::MessageId;
use crate::connection::Connection;
use crate::work::Work;

pub(super) fn broadcast(
    work: &mut Work<'_>,
    connection: &mut Connection,
    content: &str,
    id: Option<&str>,
) {
    let Some(from) = work.hands.user_name(connection.handle) else {
        return;
    };
    if !work
        .settings
        .auth
        .admins
        .iter()
        .any(|admin| **admin == *from)
    {
        work.refuse(
            connection,
            ErrorCode::Forbidden,
            "only administrators may broadcast",
            id,
        );
        return;
    }
    let message_id = MessageId::of(work, connection);
    let mut everyone = work.lend_handles();
    work.hands.everyone(&mut everyone);
    let parts = Broadcast {
        id: &message_id,
        from: &from,
        content,
        time_ms: work.clock.unix_ms,
    };
    let reached = work
        .encode(|w| reply::broadcast(w, &parts))
        .ok()
        .and_then(|message| work.deliver(message, &everyone));
    work.return_handles(everyone);
    // The sender hears its own word in any case; an `ack` comes only if it asked for one.
    work.acknowledge(
        connection,
        &message_id,
        reached.map(|_| Status::Delivered),
        false,
        id,
    );
}
