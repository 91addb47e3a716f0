//! Whether an outbox takes more, who is to blame if it does not, and how long whoever fills it waits.
//!
//! - A reader whose socket is full has his limit, and is too slow past it.
//! - Where nobody has tried to write, because the worker had no turn yet or is dead, four times as much may wait, and whoever fills it waits
//!   until the worker had a turn. One that is dead is waited for only as long as a succession takes.
//! - Past that, a reader who is served is too slow. One whose worker is dead, stopped or wedged is not to blame: what is for him is refused.
//! - Where the pools fill, each session's share shrinks ([`crate::shares`]), and its limit with it. Where they are nearly empty, whoever is
//!   past his share and not to blame is refused more, and is not read while what he sends is incomplete. Whoever holds little notices nothing.

use super::Hands;
use crate::arena::BLOCK_BYTES;
use crate::control::{Counter, ProcessState};
use crate::handle::{ProcessId, RowHandle, Slot, TIMER};
use crate::row::{Order, Row, RowWord};
use crate::two_copies::Stream;
use crate::view::View;

/// What a connection that is not read waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Congestion(Cause);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// A worker that had no turn to write what waits for its sessions, and in which of its turns that was.
    Turn { slot: Slot, turn: u64 },
    /// Memory, for the message that is incomplete.
    Memory,
}

/// How many times its limit an outbox may hold while nobody has tried to write it: its reader is not to blame
/// that its worker had no turn yet, or is dead, and whoever fills it is slowed ([`Hands::take_congestion`]).
const UNWRITTEN_FACTOR: u64 = 4;

/// How old, in milliseconds, the last sign of life is of a process that stands still, or has died and has no successor yet: one that is at
/// work gives one at least every 250, and an ordinary successor is at work much sooner.
const STANDS_AFTER_MS: u64 = 1_000;

/// Whether an outbox that is more than half full takes a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    Enough,
    /// Its session does not get the message, and ends for it.
    None,
    /// Nobody is there who could write it, and nobody has the message yet: it is refused.
    Refused,
}

/// What the receive buffer of a connection occupies, in whole blocks.
pub(crate) fn received_cost(stream: &Stream) -> u64 {
    u64::from(stream.received_len).next_multiple_of(BLOCK_BYTES as u64)
}

impl<'t> Hands<'t> {
    /// Whether an outbox that holds `held` bytes takes a message of `cost` more, together more than half its share; which may
    /// be refused while nobody has it. If it takes no more because its session has had the time to read, that one is too slow; if it is filled faster than it
    /// is written, that is noted.
    // Not on the way of those who keep up.
    #[cold]
    #[inline(never)]
    pub(super) fn room_past_half(
        &mut self,
        handle: RowHandle,
        row: &Row,
        word: RowWord,
        held: u64,
        cost: u64,
        may_refuse: bool,
    ) -> Room {
        self.look_at_supply();
        let pending = held + cost;
        // A share may be less than one message, which is for its sender's account and not for the reader's.
        let has_share = held > self.share;
        let limit = self.settings.outbox_bytes;
        let blocked = row.blocked.peek() != 0;
        let stands = self.stands(word.owner.slot);
        let served = self.view.lives(word.owner) && !stands;
        let most = match blocked && served {
            true => limit,
            false => limit.saturating_mul(UNWRITTEN_FACTOR),
        };
        if pending > most && !served {
            if may_refuse {
                return Room::Refused;
            }
            self.order(handle, Order::UNSERVED);
            return Room::None;
        }
        if pending > most || has_share && blocked && served {
            self.order(handle, Order::SLOW);
            return Room::None;
        }
        if has_share && may_refuse && self.is_tight {
            return Room::Refused;
        }
        if !blocked && !stands {
            self.congested = Some(Congestion(Cause::Turn {
                slot: word.owner.slot,
                turn: self.turns(word.owner.slot),
            }));
        }
        Room::Enough
    }

    pub(crate) fn view(&self) -> View<'t> {
        self.view
    }

    /// True for a process that is at work.
    pub(crate) fn is_served(&self, owner: ProcessId) -> bool {
        self.view.lives(owner) && !self.stands(owner.slot)
    }

    /// True for a slot whose process is stopped or wedged, or that has had none for longer than an ordinary succession takes: nobody waits for
    /// its turns but its own sessions.
    fn stands(&self, slot: Slot) -> bool {
        let heartbeat = self.view.controls[usize::from(slot)].heartbeat.peek();
        self.view.now_ms().saturating_sub(heartbeat) > STANDS_AFTER_MS
    }

    /// The worker to blame if, since the last call, a message went to a session that has much to read only because its worker
    /// had no turn to write it. Who reads from senders then lets them wait until it had ([`Self::is_relieved`]): a reader whose own
    /// socket is full slows nobody.
    pub fn take_congestion(&mut self) -> Option<Congestion> {
        self.congested.take()
    }

    /// True once there is memory again; or once the worker has had a whole turn since, or has nothing left to do. One that is dead or stopped has no turns, and neither has a
    /// successor that has only been started: its senders wait for that, but not longer than a succession takes. After that the limit
    /// of the outbox alone holds.
    pub fn is_relieved(&self, congestion: Congestion) -> bool {
        let (slot, turn) = match congestion.0 {
            Cause::Turn { slot, turn } => (slot, turn),
            Cause::Memory => return !self.view.supply().is_tight(),
        };
        let control = &self.view.controls[usize::from(slot)];
        // The present turn had begun already, so only the next one counts; one's own is over when this is asked.
        slot == self.me.slot
            || self.stands(slot)
            || ProcessState::of(control.state.get()) == ProcessState::Running
                && (control.sleeping.get() != 0 || self.turns(slot).wrapping_sub(turn) >= 2)
    }

    /// What a connection has to wait for before it is read again, if memory is nearly used up and its incomplete message has more of it than
    /// its share; or has any of it, where what is left is for messages that are complete.
    #[inline]
    pub fn must_wait_for_memory(&self, stream: &Stream) -> Option<Congestion> {
        if !self.is_tight || stream.received_len == 0 {
            return None;
        }
        let must = received_cost(stream) > self.share || self.supply.is_scarce();
        must.then_some(Congestion(Cause::Memory))
    }

    /// True while less than an eighth of the arena, or of the outbox entries, is free: only little is read at a time.
    #[inline]
    pub fn is_memory_tight(&self) -> bool {
        self.is_tight
    }

    /// What an own connection holds: its outbox and its incomplete message.
    pub fn held_bytes(&self, handle: RowHandle, stream: &Stream) -> u64 {
        self.outbox_bytes(handle) + received_cost(stream)
    }

    /// What one session may hold at the moment, in bytes, its outbox and its incomplete message each.
    #[inline]
    pub fn share_bytes(&self) -> u64 {
        self.share
    }

    /// Looks how much there is to share. At the begin of each turn, and where more was fetched. Where it is short, the timer is told.
    #[inline]
    pub fn look_at_supply(&mut self) {
        let header = self.view.header;
        if [header.arena.free(), header.nodes.free()] != self.free_seen {
            self.take_supply();
        }
    }

    #[inline(never)]
    fn take_supply(&mut self) {
        let header = self.view.header;
        self.free_seen = [header.arena.free(), header.nodes.free()];
        let supply = self.view.supply();
        self.supply = supply;
        self.is_tight = supply.is_tight();
        self.share = supply.share(self.settings.outbox_bytes);
        if supply.is_short() {
            self.touched |= 1 << TIMER;
        }
    }

    /// Makes sure that so many blocks are in hand and `reserve` stay in the pool.
    #[inline]
    pub(super) fn fill_blocks(&mut self, wanted: usize, reserve: u32) -> bool {
        let pool = self.view.arena.pool();
        if self.blocks.len() >= wanted {
            return pool.head.free() >= reserve;
        }
        self.fetch_blocks(wanted, reserve)
    }

    #[cold]
    fn fetch_blocks(&mut self, wanted: usize, reserve: u32) -> bool {
        let pool = self.view.arena.pool();
        let filled = self.blocks.fill(pool, self.me, wanted, reserve);
        self.look_at_supply();
        filled
    }

    /// The same for outbox entries.
    #[inline]
    pub(super) fn fill_nodes(&mut self, wanted: usize, reserve: u32) -> bool {
        let pool = self.view.node_pool();
        if self.nodes.len() >= wanted {
            return pool.head.free() >= reserve;
        }
        self.fetch_nodes(wanted, reserve)
    }

    #[cold]
    fn fetch_nodes(&mut self, wanted: usize, reserve: u32) -> bool {
        let pool = self.view.node_pool();
        let filled = self.nodes.fill(pool, self.me, wanted, reserve);
        self.look_at_supply();
        filled
    }

    fn turns(&self, slot: Slot) -> u64 {
        self.view.controls[usize::from(slot)].counters[Counter::Turns as usize].get()
    }

    /// Says whether an own row's socket takes no more.
    #[inline]
    pub fn set_blocked(&self, handle: RowHandle, blocked: bool) {
        let row = self.mine(handle).map(|(row, _)| row);
        if let Some(row) = row.filter(|row| row.blocked.peek() != u32::from(blocked)) {
            row.blocked.put(u32::from(blocked));
        }
    }
}
