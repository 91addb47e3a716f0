//! Beyond this host: what may concern others is handed over to the link, which stands on nobody's way here.

use std::io;

use protocol::letter::{Kind, Letter};
use protocol::reply::Status;
use shm_table::{Counter, Elsewhere, NotTaken, RowHandle, Share};

use super::message_id::MessageId;
use crate::connection::Connection;
use crate::work::Work;

/// What became of a message here, and whether the link has it too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is known.
    Here(Status),
    /// The link will tell the sender.
    WithLink,
    /// There was no room, and nobody has it.
    NoRoom,
    /// The sender has its share of what may wait for other hosts, and nobody has it.
    PastShare(Share),
    /// Nobody here has it, and other hosts cannot be reached.
    Unreachable,
}

/// A message that may concern other hosts.
pub(super) struct Outbound<'a> {
    pub kind: Kind,
    pub to: &'a str,
    pub from: &'a str,
    pub message_id: &'a MessageId,
    pub id: Option<&'a str>,
    pub quiet: bool,
}

impl Work<'_> {
    /// Whether a user may have sessions on other hosts. `here`: somebody here has the message, so that nothing is lost to
    /// silence where the directory cannot be asked.
    #[inline]
    pub(super) fn may_be_elsewhere(&self, user: &str, here: bool) -> bool {
        self.settings.cluster.enabled && self.ask(self.hands.user_elsewhere(user), here)
    }

    /// Whether a group may have members on other hosts.
    #[inline]
    pub(super) fn group_may_be_elsewhere(&self, group: &str, here: bool) -> bool {
        self.settings.cluster.enabled && self.ask(self.hands.group_elsewhere(group), here)
    }

    fn ask(&self, elsewhere: Elsewhere, here: bool) -> bool {
        match elsewhere {
            Elsewhere::No => false,
            Elsewhere::Yes => true,
            Elsewhere::Unknown => !(here && self.hands.directory_away()),
        }
    }

    /// Hands a message over to the link. `here` is what became of it on this host; what is told to the sender follows from both.
    pub(super) fn hand_over(
        &mut self,
        connection: &Connection,
        outbound: &Outbound<'_>,
        here: Status,
        body: impl FnOnce(&mut Vec<u8>) -> io::Result<()>,
    ) -> Fate {
        let reached = here == Status::Delivered;
        let letter = Letter {
            kind: outbound.kind,
            quiet: outbound.quiet,
            reached,
            sender: (connection.handle.row, connection.handle.generation),
            handed_over_ms: self.clock.table_ms,
            to: outbound.to,
            from: outbound.from,
            message_id: outbound.message_id,
            id: outbound.id,
            body: &[],
        };
        match self.post(connection.handle, &letter, body) {
            Ok(()) if reached => Fate::Here(here),
            Ok(()) => Fate::WithLink,
            Err(refused) => {
                self.hands.count(Counter::Undelivered, 1);
                match refused {
                    _ if reached => Fate::Here(here),
                    NotTaken::Full => Fate::NoRoom,
                    NotTaken::Share(share) => Fate::PastShare(share),
                    NotTaken::Away => Fate::Unreachable,
                }
            }
        }
    }

    /// Puts a letter into the link's mailbox.
    pub(super) fn post(
        &mut self,
        from: RowHandle,
        letter: &Letter<'_>,
        body: impl FnOnce(&mut Vec<u8>) -> io::Result<()>,
    ) -> Result<(), NotTaken> {
        let write = |w: &mut Vec<u8>| {
            letter.write_head(w)?;
            body(w)
        };
        let bytes_max = self.settings.cluster.queue_bytes;
        self.hands.hand_over(from, bytes_max, write)?;
        self.hands.count(Counter::HandedOver, 1);
        Ok(())
    }
}

/// What a sender is told that is past its share.
pub(super) fn past_share(share: Share) -> &'static str {
    match share {
        Share::Session => {
            "as much from this session waits for other hosts as one session may have now; try again later"
        }
        Share::User => {
            "as much from this user's sessions waits for other hosts as one user may have now; try again later"
        }
        Share::Address => {
            "as much from this address waits for other hosts as one address may have now; try again later"
        }
    }
}
