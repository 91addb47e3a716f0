//! `sendgroup`: to every other session in a group, by one of its members.

use protocol::code::ErrorCode;
use protocol::reply::To;
use protocol::request::Send;

use crate::connection::Connection;
use crate::work::Work;

pub(super) fn sendgroup(
    work: &mut Work<'_>,
    connection: &mut Connection,
    send: &Send<'_>,
    id: Option<&str>,
) {
    let Some(voice) = work.lend_voice(connection) else {
        return;
    };
    let mut recipients = work.lend_handles();
    let exists = work.hands.members_of(&send.to, &mut recipients);
    let members = recipients.len();
    recipients.retain(|handle| *handle != connection.handle);
    let others = recipients.len();
    if others == members {
        work.return_handles(recipients);
        work.return_voice(voice);
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
    let elsewhere = work.group_may_be_elsewhere(&send.to, others > 0);
    work.pass_on(
        connection,
        voice,
        &To::Group(&send.to),
        send,
        id,
        recipients,
        others,
        elsewhere,
    );
}
