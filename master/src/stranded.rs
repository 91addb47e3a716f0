//! A worker's slot that cannot be filled: its connections do not wait for ever.
//!
//! - A slot that has had no occupant for `server.handover_ms` hands its connections over to the workers who live. It is still tried to fill
//!   it, and whoever comes there gets newcomers.
//! - What counts is how long nobody has begun there. One that dies after it has begun has served the connections for a moment, and
//!   may have died over one of them: handing that one over would carry the death to the next worker.
//! - Where no other worker lives, connections that have had none for `server.abandon_ms` are ended, and told so where their stream stands
//!   between two messages. Newcomers are refused then (`seating`).
//! - When the server stops, connections without a worker are handed over at once: the others say goodbye to them.
//! - Both are done in a standstill: whoever puts something into an outbox finds the owner in the row first and announces it there
//!   then, and nobody may be between the two.

use std::io::Write;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use protocol::code::CloseCode;
use protocol::reply;
use protocol::ws::{self, Opcode};
use role::Seat;
use shm_table::{Account, Slot, State, Transport};

use crate::channels::row_of;
use crate::cli::RoleName;
use crate::master::Master;
use crate::post::Post;
use crate::refusals::RETRY_AFTER;
use crate::stop::Phase;

/// What is told to those whose connections are ended.
const REASON: &str = "no process of the server can serve this connection, try again later";

impl Master<'_> {
    /// Asks for a standstill when something is to be done about connections without a worker.
    pub fn settle_stranded(&mut self, now: Instant) {
        let due = |index| self.rescue_due(index).is_some_and(|due| due <= now);
        if (0..self.posts.len()).any(due) {
            self.stand_still(now).rescues = true;
        }
    }

    /// When something is to be done although nothing happens.
    pub fn next_rescue(&self) -> Option<Instant> {
        if self.standstill.is_some() {
            // It is done at its end.
            return None;
        }
        let rescues = (0..self.posts.len()).filter_map(|index| self.rescue_due(index));
        let refusals = self.unserved_from().filter(|&at| at > Instant::now());
        rescues.chain(refusals).min()
    }

    /// From when on newcomers are refused because there is no worker for them; `None` while there is one, or one is about to be.
    pub fn unserved_from(&self) -> Option<Instant> {
        let patience = Duration::from_millis(self.config.server.handover_ms.into());
        let vacancies: Option<Vec<Instant>> = self
            .workers()
            .map(|post| post.vacant_since.filter(|_| !post.has_somebody()))
            .collect();
        vacancies?.into_iter().max().map(|since| since + patience)
    }

    /// Whether a slot has been empty for so long that nobody is seated there any more.
    pub fn is_deserted(&self, post: &Post, now: Instant) -> bool {
        let patience = Duration::from_millis(self.config.server.handover_ms.into());
        let since = post.vacant_since.filter(|_| !post.has_somebody());
        since.is_some_and(|since| now >= since + patience)
    }

    /// When a post's connections are handed over or ended; `None`: that is not to be foreseen, or there are none.
    fn rescue_due(&self, index: usize) -> Option<Instant> {
        let post = self.posts.get(index)?;
        let is_stranded = post.role == RoleName::Worker
            && !post.has_somebody()
            && (self.vault.of_worker(post.slot) > 0 || self.table.has_fanouts(post.slot));
        if !is_stranded {
            return None;
        }
        let config = &self.config.server;
        let patience_ms = match self.phase {
            Phase::Running if self.least_loaded().is_some() => config.handover_ms,
            // Nobody is started for long any more, and the others can say goodbye to them.
            Phase::Draining(_) if self.least_loaded().is_some() => 0,
            // One that leaves has a successor in a moment; and a stop has its own bound.
            Phase::Running if !self.workers().any(Post::has_somebody) => config.abandon_ms,
            _ => return None,
        };
        let since = post.vacant_since?;
        Some(since + Duration::from_millis(patience_ms.into()))
    }

    fn workers(&self) -> impl Iterator<Item = &Post> {
        self.posts
            .iter()
            .filter(|post| post.role == RoleName::Worker)
    }

    /// Hands over or ends the connections whose time has come. Only while everyone stands still, and when the dead are accounted for.
    pub fn rescue(&mut self, now: Instant) {
        for index in 0..self.posts.len() {
            if self.rescue_due(index).is_none_or(|due| due > now) {
                continue;
            }
            let slot = self.posts[index].slot;
            if self.least_loaded().is_some() {
                self.hand_over(slot);
            } else {
                self.end_unserved(slot);
            }
        }
    }

    fn hand_over(&mut self, slot: Slot) {
        let seats: Vec<Seat> = self.vault.of_slot(slot).collect();
        tracing::warn!(
            slot,
            connections = seats.len(),
            "the slot cannot be filled, so the other workers take over its connections"
        );
        if let Some(worker) = self.least_loaded() {
            self.table
                .hand_over_fanouts(&mut self.seats, slot, worker.slot);
        }
        for seat in seats {
            let Some(worker) = self.least_loaded() else {
                return;
            };
            if !self
                .table
                .hand_over(&mut self.seats, row_of(seat), worker.slot)
            {
                tracing::error!(
                    row = seat.row,
                    generation = seat.generation,
                    "a connection without a worker has no row that could be handed over, so it ends"
                );
                self.vault.cut(seat);
                continue;
            }
            self.vault.pass(seat, worker.slot);
            if let Some(occupant) = self.occupants().find(|o| o.id == worker) {
                occupant.channel.queue_seat(seat);
            }
        }
    }

    fn end_unserved(&mut self, slot: Slot) {
        let seats: Vec<Seat> = self.vault.of_slot(slot).collect();
        tracing::error!(
            slot,
            connections = seats.len(),
            "no worker can be started for longer than server.abandon_ms, so its connections are ended"
        );
        for seat in seats {
            let words = self.last_words(seat);
            self.table.end_unserved(&mut self.seats, row_of(seat));
            let Some((connection, network)) = self.vault.release(seat) else {
                continue;
            };
            self.refusals.let_go(
                &self.poller,
                connection,
                network,
                &words,
                self.config.limits.refusals,
            );
        }
        self.table.drop_fanouts(&mut self.seats, slot);
        // Finds them done, and takes them out of everything.
        self.recover(&[]);
    }

    /// What can be told to a client; nothing where it would land in the middle of something else.
    fn last_words(&self, seat: Seat) -> Vec<u8> {
        self.vault
            .descriptor(seat)
            .and_then(|connection| sys::tcp::counts(connection.as_fd()).ok())
            .and_then(|counts| self.table.between_messages(row_of(seat), counts.written))
            .map_or_else(Vec::new, |(transport, state)| farewell(transport, state))
    }

    /// Connections for which nobody will come.
    pub fn audit_posts(&self, accounts: &[Account]) -> Vec<String> {
        let mut findings = Vec::new();
        for post in &self.posts {
            let connections = self.vault.of_worker(post.slot);
            let will_have =
                post.has_somebody() || post.candidate.is_some() || post.again_at.is_some();
            if !will_have && (connections > 0 || post.role != RoleName::Worker) {
                findings.push(format!(
                    "{connections} connections of {} have no process, and none is to be started",
                    post.name()
                ));
            }
        }
        let settled = |account: &Account| {
            let mut posts = self.posts.iter();
            let post = posts.find(|post| post.slot == account.owner.slot);
            let occupant = post.and_then(|post| post.occupant.as_ref());
            occupant.is_some_and(|it| it.stays() && !it.channel.is_waiting())
        };
        findings.extend(unclaimed(accounts, settled));
        findings
    }
}

/// Rows whose owner is dead although a process of their slot is at work and has heard all that it was told.
fn unclaimed(accounts: &[Account], settled: impl Fn(&Account) -> bool) -> Vec<String> {
    accounts
        .iter()
        .filter(|account| account.state != State::Done && !account.owner_lives && settled(account))
        .map(|account| {
            format!(
                "row {} (generation {}) waits for a process of slot {}, which has not been given it",
                account.handle.row, account.handle.generation, account.owner.slot
            )
        })
        .collect()
}

/// The last that a client hears, in the form in which it is spoken with.
fn farewell(transport: Transport, state: State) -> Vec<u8> {
    let code = CloseCode::TRY_AGAIN;
    let mut words = Vec::new();
    // Writing to memory does not fail.
    let _ = match (transport, state) {
        (_, State::Free | State::Closing | State::Done) => Ok(()),
        (Transport::Tcp, _) => {
            reply::kicked(&mut words, REASON, Some(code)).map(|()| words.push(b'\n'))
        }
        (Transport::WebSocket, State::Connected | State::LoggedIn) => {
            let mut text = Vec::new();
            reply::kicked(&mut text, REASON, None).and_then(|()| {
                let header = ws::header(Opcode::Text, text.len());
                words.extend_from_slice(&header.bytes[..usize::from(header.len)]);
                words.write_all(&text)?;
                ws::close_frame(&mut words, code, code.reason())
            })
        }
        (Transport::WebSocket, State::Seated | State::Handshake) => {
            words = protocol::http::refusal(503, &[("Retry-After", RETRY_AFTER)], REASON);
            Ok(())
        }
    };
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use shm_table::{ProcessId, RowHandle};

    #[test]
    fn the_last_words_are_such_as_the_client_understands() {
        let tcp = farewell(Transport::Tcp, State::LoggedIn);
        let line: serde_json::Value =
            serde_json::from_slice(tcp.strip_suffix(b"\n").unwrap()).unwrap();
        assert_eq!(
            (&line["type"], &line["closeCode"]),
            (&"kicked".into(), &1013.into())
        );

        let frames = farewell(Transport::WebSocket, State::LoggedIn);
        assert_eq!(frames[0], 0x81, "a text frame");
        let text = usize::from(frames[1]);
        assert_eq!(frames[2 + text], 0x88, "a close frame");
        assert_eq!(frames[4 + text..6 + text], 1013_u16.to_be_bytes());

        let http = farewell(Transport::WebSocket, State::Handshake);
        assert!(http.starts_with(b"HTTP/1.1 503 "));
        assert!(farewell(Transport::Tcp, State::Closing).is_empty());
    }

    #[test]
    fn a_row_that_nobody_has_is_found() {
        let account = |row, owner_lives, state| Account {
            handle: RowHandle { row, generation: 1 },
            state,
            owner: ProcessId {
                slot: 4,
                incarnation: 1,
            },
            owner_lives,
            consumed: 0,
            written: 0,
            is_read: true,
            is_blocked: false,
        };
        let accounts = [
            account(0, true, State::LoggedIn),
            account(1, false, State::LoggedIn),
            account(2, false, State::Done),
        ];
        let found = unclaimed(&accounts, |_| true);
        assert!(found.len() == 1 && found[0].contains("row 1 "), "{found:?}");
        assert_eq!(unclaimed(&accounts, |_| false), [""; 0], "it is on its way");
    }
}
