//! Whether an outbox takes more, who is to blame if it does not, and how long whoever fills it waits.
//!
//! - A reader whose socket is full has his limit, and is too slow past it.
//! - Where nobody has tried to write, because the worker had no turn yet or is dead, four times as much may wait, and whoever fills it waits
//!   until the worker had a turn. One that is dead is waited for only as long as a succession takes.
//! - Past that, a reader who is served is too slow. One whose worker is dead, stopped or wedged is not to blame: what is for him is refused.

use super::Hands;
use crate::control::{Counter, ProcessState};
use crate::handle::{RowHandle, Slot};
use crate::row::{Order, Row, RowWord};

/// A worker that had no turn to write what waits for its sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Congestion {
    slot: Slot,
    /// In which of its turns that was.
    turn: u64,
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

impl Hands<'_> {
    /// Whether an outbox takes a message that would make it `pending` bytes, more than half its limit, and that `delivered` others have
    /// already. If it takes no more because its session has had the time to read, that one is too slow; if it is filled faster than it is
    /// written, that is noted.
    // Not on the way of those who keep up.
    #[cold]
    #[inline(never)]
    pub(super) fn room_past_half(
        &mut self,
        handle: RowHandle,
        row: &Row,
        word: RowWord,
        pending: u64,
        delivered: u32,
    ) -> Room {
        let limit = self.settings.outbox_bytes;
        let blocked = row.blocked.peek() != 0;
        let stands = self.stands(word.owner.slot);
        let served = self.view.lives(word.owner) && !stands;
        let most = match blocked && served {
            true => limit,
            false => limit.saturating_mul(UNWRITTEN_FACTOR),
        };
        if pending > most && !served {
            if delivered == 0 {
                return Room::Refused;
            }
            self.order(handle, Order::UNSERVED);
            return Room::None;
        }
        if pending > most {
            self.order(handle, Order::SLOW);
            return Room::None;
        }
        if !blocked && !stands {
            self.congested = Some(Congestion {
                slot: word.owner.slot,
                turn: self.turns(word.owner.slot),
            });
        }
        Room::Enough
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

    /// True once the worker has had a whole turn since, or has nothing left to do. One that is dead or stopped has no turns, and neither has a
    /// successor that has only been started: its senders wait for that, but not longer than a succession takes. After that the limit
    /// of the outbox alone holds.
    pub fn is_relieved(&self, congestion: Congestion) -> bool {
        let control = &self.view.controls[usize::from(congestion.slot)];
        // The present turn had begun already, so only the next one counts; one's own is over when this is asked.
        congestion.slot == self.me.slot
            || self.stands(congestion.slot)
            || ProcessState::of(control.state.get()) == ProcessState::Running
                && (control.sleeping.get() != 0
                    || self.turns(congestion.slot).wrapping_sub(congestion.turn) >= 2)
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
