//! Newcomers: accepted, given a row and a worker, or refused with a word.
//!
//! The worker with the fewest connections gets the next; one that has not taken its last ones yet, or seems to stand still,
//! is passed over while there are others.
//! Nobody is seated where nobody has been for `server.handover_ms`; where that is everywhere, newcomers are refused.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::Instant;

use role::Seat;
use shm_table::{Newcomer, Order, ProcessId, Transport};

use crate::channels::row_of;
use crate::cli::RoleName;
use crate::listeners::Accepted;
use crate::master::Master;
use crate::network::Network;
use crate::refusals::Reason;
use crate::stop::Phase;

/// Newcomers taken from one listener in one turn, so that a crowd does not keep the master from its other duties.
const BATCH_MAX: usize = 256;

/// A worker that has given no sign of life for so long, four times as long as it should, gets no newcomers while there are others: it is
/// stopped, or at something that never ends.
const STANDS_AFTER_MS: u64 = 1_000;

impl Master<'_> {
    /// Takes in those who wait at a listener.
    pub fn welcome(&mut self, listener: u32) {
        let Some(transport) = self.listeners.transport(listener) else {
            return;
        };
        for _ in 0..BATCH_MAX {
            match self.listeners.accept(listener) {
                Accepted::Connection(connection, peer) => self.seat(connection, peer, transport),
                Accepted::Lost => {}
                Accepted::Shed(error) => {
                    self.refusals.note();
                    self.shortage.note("take in a newcomer", &error);
                }
                Accepted::Nobody => return,
                Accepted::NoRoom(error) => {
                    self.shortage.note("take in a newcomer", &error);
                    return;
                }
            }
        }
    }

    fn seat(&mut self, connection: TcpStream, peer: SocketAddr, transport: Transport) {
        if self.phase.is_stopping() {
            return self.refuse(connection, peer, transport, Reason::Draining);
        }
        if let Some(reason) = self.row_refusal(peer.ip(), false) {
            return self.refuse(connection, peer, transport, reason);
        }
        let network = Network::of(peer.ip());
        // The listeners are open only while there is a worker; the last one may have died or left in this very turn.
        let Some(worker) = self.least_loaded().or_else(|| self.next_worker()) else {
            return self.refuse(connection, peer, transport, Reason::Unserved);
        };
        let limits = &self.config.limits;
        let timeout_ms = match transport {
            Transport::WebSocket => limits.handshake_timeout_ms,
            Transport::Tcp => limits.login_timeout_ms,
        };
        let Ok(counts) = sys::tcp::counts(connection.as_fd()) else {
            // Only a connection that is gone cannot be counted.
            return;
        };
        let deadline_ms = self.table.now_ms() + u64::from(timeout_ms);
        let Some(row) = self.seats.seat(&Newcomer {
            transport,
            peer,
            worker,
            deadline_ms,
            consumed_at_accept: low(counts.consumed),
            written_at_accept: low(counts.written),
        }) else {
            self.make_room();
            return self.refuse(connection, peer, transport, Reason::Full);
        };
        let seat = Seat {
            row: row.row,
            generation: row.generation,
        };
        self.vault.keep(seat, connection, network, worker.slot);
        if let Some(occupant) = self.occupants().find(|o| o.id == worker) {
            occupant.channel.queue_seat(seat);
        }
        self.make_room();
    }

    /// Connections came through a proxy: they are counted where they really come from, and those that are too many are ended.
    pub fn learn_clients(&mut self, clients: &[(Seat, IpAddr)]) {
        for &(seat, address) in clients {
            // Heard again, after a worker was replaced: it was let in then.
            if !self.vault.moved(seat, Network::of(address)) {
                continue;
            }
            if self.row_refusal(address, true).is_some() {
                self.refusals.note();
                self.hands.order(row_of(seat), Order::CROWDED);
            }
        }
        self.ring();
    }

    /// Wakes the workers for whom an order was given.
    pub fn ring(&mut self) {
        let slots = self.hands.doorbells_to_ring();
        for (slot, bell) in self.doorbells.iter().enumerate() {
            if slots & 1 << slot != 0 {
                role::ring(bell);
            }
        }
    }

    fn refuse(
        &mut self,
        connection: TcpStream,
        peer: SocketAddr,
        transport: Transport,
        reason: Reason,
    ) {
        self.refusals.refuse(
            &self.poller,
            connection,
            Network::of(peer.ip()),
            transport,
            reason,
            self.config.limits.refusals,
        );
    }

    /// The worker that gets the next newcomer.
    pub fn least_loaded(&self) -> Option<ProcessId> {
        self.posts
            .iter()
            .filter(|post| post.role == RoleName::Worker)
            .filter_map(|post| post.occupant.as_ref())
            .filter(|occupant| occupant.stays())
            .min_by_key(|occupant| {
                let slot = occupant.id.slot;
                let stands = self.table.heartbeat_age_ms(slot) > STANDS_AFTER_MS;
                (occupant.wants_room || stands, self.vault.of_worker(slot))
            })
            .map(|occupant| occupant.id)
    }

    /// A worker that is yet to come: it gets what waits for its slot when its post becomes its own.
    fn next_worker(&self) -> Option<ProcessId> {
        let now = Instant::now();
        self.posts
            .iter()
            .filter(|post| post.role == RoleName::Worker && !self.is_deserted(post, now))
            .map(|post| post.slot)
            .min_by_key(|&slot| self.vault.of_worker(slot))
            .map(|slot| self.table.next_process(slot))
    }

    /// Opens the listeners when newcomers can be dealt with, and leaves them in the kernel's queue when not.
    pub fn settle_listeners(&mut self, now: Instant) {
        self.listeners.time(now);
        let served = match self.phase {
            Phase::Running if self.least_loaded().is_some() => true,
            // They are refused, which needs no worker.
            Phase::Running => self.unserved_from().is_some_and(|at| at <= now),
            Phase::Draining(_) => true,
            Phase::Starting | Phase::Ending(_) | Phase::Over(_) => false,
        };
        let open = served && self.listeners.again_at().is_none();
        self.listeners.set_open(&self.poller, open);
    }
}

/// A count at the beginning of a connection, which is next to nothing.
fn low(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
