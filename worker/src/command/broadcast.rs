//! `broadcast`: an administrator's word to everyone.

use protocol::code::ErrorCode;
use protocol::letter::Kind;
use protocol::reply::{self, Broadcast, Status};

use super::elsewhere::{Fate, Outbound};
use super::message_id::MessageId;
use crate::connection::Connection;
use crate::fanout::Note;
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
    if work.is_for_many(everyone.len()) {
        let message = work.encode(|w| reply::broadcast(w, &parts));
        let outbound = Outbound {
            kind: Kind::Everyone,
            to: "",
            from: &from,
            message_id: &message_id,
            id,
            quiet: false,
        };
        let note = Note {
            others: 0,
            quiet: false,
            elsewhere: work.settings.cluster.enabled,
            id,
            message_id: &message_id,
        };
        work.begin_fanout(connection, message, &everyone, &note, |work, connection| {
            let here = Status::Delivered;
            work.hand_over(connection, &outbound, here, |w| reply::broadcast(w, &parts));
        });
        work.return_handles(everyone);
        return;
    }
    let reached = work
        .encode(|w| reply::broadcast(w, &parts))
        .ok()
        .and_then(|message| work.deliver(message, &everyone));
    work.return_handles(everyone);
    // The sender is among those reached, so this is the answer whatever other hosts do with it.
    let here = Status::Delivered;
    let fate = match reached {
        None => Fate::NoRoom,
        Some(_) if !work.settings.cluster.enabled => Fate::Here(here),
        Some(_) => {
            let outbound = Outbound {
                kind: Kind::Everyone,
                to: "",
                from: &from,
                message_id: &message_id,
                id,
                quiet: false,
            };
            work.hand_over(connection, &outbound, here, |w| reply::broadcast(w, &parts))
        }
    };
    // The sender hears its own word in any case; an `ack` comes only if it asked for one.
    work.acknowledge(connection, fate, false, id);
}
