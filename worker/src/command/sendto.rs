//! `sendto`: to every session of a user, and to the sender's other sessions.

use protocol::code::ErrorCode;
use protocol::letter::Kind;
use protocol::reply::{self, MessageParts, Status, To};
use protocol::request::Send;
use shm_table::RowHandle;

use super::elsewhere::{Fate, Outbound, past_share};
use super::message_id::MessageId;
use crate::connection::Connection;
use crate::fanout::Note;
use crate::work::{Voice, Work};

pub(super) fn sendto(
    work: &mut Work<'_>,
    connection: &mut Connection,
    send: &Send<'_>,
    id: Option<&str>,
) {
    let Some(voice) = work.lend_voice(connection) else {
        return;
    };
    let is_to_oneself = voice.name.is(&send.to);
    let mut recipients = work.lend_handles();
    work.hands.sessions_of_same(&send.to, &mut recipients);
    let addressed = recipients.len();
    if !is_to_oneself {
        work.hands
            .other_sessions(connection.handle, &mut recipients);
    }
    let gets_it_back = id.is_none() && !send.quiet;
    if gets_it_back && !recipients.contains(&connection.handle) {
        recipients.push(connection.handle);
    }
    let here = addressed > 0;
    let elsewhere = work.may_be_elsewhere(&send.to, here)
        || !is_to_oneself && work.may_be_elsewhere(&voice.name, here);
    work.pass_on(
        connection,
        voice,
        &To::User(&send.to),
        send,
        id,
        recipients,
        addressed,
        elsewhere,
    );
}

fn kind_and_name<'a>(to: &To<'a>) -> (Kind, &'a str) {
    match *to {
        To::User(name) => (Kind::User, name),
        To::Group(name) => (Kind::Group, name),
    }
}

impl Work<'_> {
    /// Sends a message of the connection's user, with a `voice` that was lent, to `recipients`, a list that was lent, of whom the first
    /// `addressed` are those it is for, and to other hosts if it may concern them, and tells the sender what became of it.
    #[allow(clippy::too_many_arguments)] // two callers, each with its own view of who is concerned
    pub(super) fn pass_on(
        &mut self,
        connection: &mut Connection,
        voice: Box<Voice>,
        to: &To<'_>,
        send: &Send<'_>,
        id: Option<&str>,
        recipients: Vec<RowHandle>,
        addressed: usize,
        elsewhere: bool,
    ) {
        let moment = self.clock.moment;
        let parts = MessageParts {
            speaker: &voice.speaker,
            ordinal: connection.stream.ordinal,
            to,
            content: send.content,
            time: &moment,
        };
        if self.is_for_many(recipients.len()) {
            let others = (recipients.len() - addressed) as u32;
            self.pass_on_to_many(
                connection,
                &voice,
                &parts,
                send,
                id,
                &recipients,
                (others, elsewhere),
            );
            self.return_handles(recipients);
            self.return_voice(voice);
            return;
        }
        let status = self.send(&parts, &recipients, addressed);
        self.return_handles(recipients);
        let fate = match status {
            None => Fate::NoRoom,
            Some(here) if !elsewhere => Fate::Here(here),
            Some(here) => {
                let (kind, name) = kind_and_name(to);
                let outbound = Outbound {
                    kind,
                    to: name,
                    from: &voice.name,
                    message_id: &MessageId::of(self, connection),
                    id,
                    quiet: send.quiet,
                };
                self.hand_over(connection, &outbound, here, |w| reply::message(w, &parts))
            }
        };
        self.return_voice(voice);
        self.acknowledge(connection, fate, send.quiet, id);
    }

    /// The same for so many that it takes several turns. `others` are not those it is for; other hosts may be concerned.
    #[cold]
    #[inline(never)]
    #[allow(clippy::too_many_arguments)] // what `pass_on` has found out
    fn pass_on_to_many(
        &mut self,
        connection: &mut Connection,
        voice: &Voice,
        parts: &MessageParts<'_>,
        send: &Send<'_>,
        id: Option<&str>,
        recipients: &[RowHandle],
        (others, elsewhere): (u32, bool),
    ) {
        let message = self.encode(|w| reply::message(w, parts));
        let (kind, name) = kind_and_name(parts.to);
        let outbound = Outbound {
            kind,
            to: name,
            from: &voice.name,
            message_id: &MessageId::of(self, connection),
            id,
            quiet: send.quiet,
        };
        let note = Note {
            others,
            quiet: send.quiet,
            elsewhere,
            id,
            message_id: outbound.message_id,
        };
        self.begin_fanout(
            connection,
            message,
            recipients,
            &note,
            |work, connection| {
                // That many here, one has it.
                let here = Status::Delivered;
                work.hand_over(connection, &outbound, here, |w| reply::message(w, parts));
            },
        );
    }

    /// Sends a message to `recipients`, of whom the first `addressed` are those it is for, and tells
    /// what became of it. `None`: there was no room, and nobody has it.
    fn send(
        &mut self,
        parts: &MessageParts<'_>,
        recipients: &[RowHandle],
        addressed: usize,
    ) -> Option<Status> {
        if recipients.is_empty() {
            return Some(Status::Offline);
        }
        let message = self.encode_message(parts).ok()?;
        let reached = self.deliver(message, recipients)?;
        // A slow or closing session does not count. Which of several was passed over is not known;
        // the sender is told "delivered" only if one of the addressed has it for certain.
        let others = recipients.len() - addressed;
        Some(if reached > others {
            Status::Delivered
        } else {
            Status::Offline
        })
    }

    /// Tells the sender what became of its message: an `ack` if it asked for one, or if it did not
    /// want to hear unless something went wrong and something did. What the link has, the link tells.
    pub(super) fn acknowledge(
        &mut self,
        connection: &mut Connection,
        fate: Fate,
        quiet: bool,
        id: Option<&str>,
    ) {
        let status = match fate {
            Fate::Here(status) => status,
            Fate::WithLink => return,
            Fate::NoRoom => {
                let sentence = "the server has no room for this message now";
                self.refuse(connection, ErrorCode::Overloaded, sentence, id);
                return;
            }
            Fate::PastShare(share) => {
                self.refuse(connection, ErrorCode::Overloaded, past_share(share), id);
                return;
            }
            Fate::Unreachable => {
                let sentence = "other hosts cannot be reached now";
                self.refuse(connection, ErrorCode::Overloaded, sentence, id);
                return;
            }
        };
        if reply::is_told(status, quiet, id.is_some()) {
            let message_id = MessageId::of(self, connection);
            self.answer(connection, |w| reply::ack(w, id, &message_id, status));
        }
    }
}
