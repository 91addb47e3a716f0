//! `sendgroup`: to every other session in a group, by one of its members.

use protocol::code::ErrorCode;
use protocol::reply::{MessageParts, To};
use protocol::request::Send;

use super::message_id::MessageId;
use crate::connection::Connection;
use crate::work::Work;

pub(super) fn sendgroup(
    work: &mut Work<'_>,
    connection: &mut Connection,
    send: &Send<'_>,
    id: Option<&str>,
) {
    let Some(from) = work.hands.user_name(connection.handle) else {
        return;
    };
    let mut recipients = work.lend_handles();
    let exists = work.hands.members_of(&send.to, &mut recipients);
    let members = recipients.len();
    recipients.retain(|handle| *handle != connection.handle);
    let others = recipients.len();
    if others == members {
        work.return_handles(recipients);
        let (code, sentence) = match exists {
            true => (ErrorCode::NotAMember, "join the group first"),
            false => (ErrorCode::UnknownGroup, "there is no such group"),
        };
        work.refuse(connection, code, sentence, id);
        return;
    }
    if id.is_none() && !send.quiet {
        recipients.push(connection.handle);
    }
    let message_id = MessageId::of(work, connection);
    let parts = MessageParts {
        id: &message_id,
        from: &from,
        to: To::Group(&send.to),
        content: send.content,
        time_ms: work.clock.unix_ms,
    };
    let status = work.send(&parts, &recipients, others);
    work.return_handles(recipients);
    work.acknowledge(connection, &message_id, status, send.quiet, id);
}
