//! What a process does in each turn of its loop: it says that it lives, finds what became ready for it, wakes others, and sleeps.

use super::Hands;
use crate::control::{Counter, ProcessState, turn_bucket};
use crate::handle::{LINK, RowHandle, TIMER};
use crate::ready::{Walk, announce_sleep, must_ring};
use crate::word::full_fence;

impl Hands<'_> {
    /// Says that this process is alive. Once per turn, and at least every 250 ms.
    pub fn heartbeat(&self) {
        self.heartbeat_at(self.view.now_ms());
    }

    /// The same, where the time (of the table's clock) is known.
    #[inline]
    pub fn heartbeat_at(&self, now_ms: u64) {
        self.control.heartbeat.put(now_ms);
    }

    /// Says that this process is at work.
    pub fn ready(&self) {
        self.heartbeat();
        self.set_congested(0);
        self.set_fanout_waits(false);
        let control = self.control;
        // A predecessor may have died in its sleep.
        control.sleeping.set(0);
        control.state.set(ProcessState::Running as u32);
    }

    /// Says how many own connections are not read until another worker has had a turn, or there is memory ([`Self::is_relieved`]): the caller asks for each of
    /// them again and again, and does not sleep for long.
    pub fn set_congested(&self, connections: usize) {
        let congested = &self.control.congested;
        let connections = u32::try_from(connections).unwrap_or(u32::MAX);
        if congested.peek() != connections {
            congested.put(connections);
        }
    }

    /// Adds to one of this process's counters.
    #[inline]
    pub fn count(&self, counter: Counter, n: u64) {
        let word = &self.control.counters[counter as usize];
        word.put(word.peek().wrapping_add(n));
    }

    /// Counts a turn of the event loop that took so many microseconds.
    #[inline]
    pub fn turn_took(&self, us: u64) {
        let control = self.control;
        let turns = &control.turns[turn_bucket(us)];
        turns.put(turns.peek().wrapping_add(1));
        if us > control.longest_turn_us.peek() {
            control.longest_turn_us.put(us);
        }
    }

    /// The next own row with new output or an order; each once until it becomes ready again. `None` ends a
    /// round.
    #[inline]
    pub fn next_ready(&mut self) -> Option<RowHandle> {
        let ready = self.view.ready(self.me.slot)?;
        loop {
            let row = self.walk.next(ready)?;
            // Each step needs what the one before has brought in, for a row that comes later.
            let [first, second, third] = self.walk.coming();
            third.inspect(|row| self.view.prefetch_row(*row));
            second.inspect(|row| self.view.prefetch_entry(*row));
            first.inspect(|row| self.view.prefetch_message_of_row(*row));
            if let Some(handle) = self.own_handle(row) {
                return Some(handle);
            }
        }
    }

    /// Says that the present turn is over: what [`Self::next_ready`] was about to give comes later in the same round, and is for all to
    /// see until then. Before the process sleeps, hears its master, or leaves.
    #[inline]
    pub fn end_turn(&mut self) {
        if let Some(ready) = self.view.ready(self.me.slot) {
            self.walk.put_back(ready);
        }
    }

    /// Appends the own rows that have new output or an order, all of them, to `rows`. They stay ready: see [`Self::take_ready`]. The round
    /// that [`Self::next_ready`] was in is over, and its next one begins with the first row.
    pub fn all_ready(&mut self, rows: &mut Vec<u32>) {
        self.end_turn();
        self.walk = Walk::default();
        if let Some(ready) = self.view.ready(self.me.slot) {
            rows.extend(ready.marked());
        }
    }

    /// An own row out of its turn, if it has new output or an order; not again until it becomes ready again. For who serves the rows in an
    /// order of his own: it is to be served before the turn is over.
    #[inline]
    pub fn take_ready(&mut self, row: u32) -> Option<RowHandle> {
        let ready = self.view.ready(self.me.slot)?;
        ready.take(row).then(|| self.own_handle(row))?
    }

    /// Makes an own row ready: there is something left to be written, or room again.
    #[inline]
    pub fn mark_ready(&self, handle: RowHandle) {
        if let Some(ready) = self.view.ready(self.me.slot) {
            ready.mark_own(handle.row);
        }
    }

    /// Sees to it that what others have marked by halves, because they were stopped or died in between, is found. Now and then: nobody else
    /// waits for a stopped process for longer.
    pub fn reveal_marks(&self) {
        if let Some(ready) = self.view.ready(self.me.slot) {
            ready.reveal();
        }
    }

    /// Says that a row is about to be worked on.
    #[inline]
    pub fn will_need(&self, row: u32) {
        self.view.prefetch_row(row);
    }

    /// Slots, as bits, of the processes that sleep and have something to do since the last call. The caller
    /// rings their doorbells, once per turn.
    pub fn doorbells_to_ring(&mut self) -> u64 {
        let mut touched = std::mem::take(&mut self.touched) & !(1 << self.me.slot);
        if touched == 0 {
            return 0;
        }
        // The ready bits must be visible before the sleepers are looked at, see `about_to_sleep`.
        full_fence();
        let mut ring = 0;
        while touched != 0 {
            let slot = touched.trailing_zeros() as usize;
            touched &= touched - 1;
            if must_ring(&self.view.controls[slot].sleeping) {
                ring |= 1 << slot;
            }
        }
        ring
    }

    /// Announces sleep. False: something became ready meanwhile, so look again instead.
    pub fn about_to_sleep(&self) -> bool {
        let sleeping = &self.control.sleeping;
        if !announce_sleep(sleeping, self.view.ready(self.me.slot)) {
            return false;
        }
        if self.has_fanout_to_do() {
            sleeping.set(0);
            return false;
        }
        // Looked at after the announcement, like the ready bits.
        let is_needed = match self.me.slot {
            LINK => self.has_mail(),
            TIMER => self.view.supply().is_short(),
            _ => false,
        };
        if is_needed {
            sleeping.set(0);
        }
        !is_needed
    }

    /// Takes the announcement back.
    pub fn awake(&self) {
        let sleeping = &self.control.sleeping;
        if sleeping.peek() != 0 {
            sleeping.set(0);
        }
    }

    /// True while the server ends.
    pub fn draining(&self) -> bool {
        self.view.header.draining.peek() != 0
    }

    /// Microseconds of the table's clock.
    #[inline]
    pub fn now_us(&self) -> u64 {
        self.view.now_us()
    }

    /// Milliseconds of the table's clock.
    pub fn now_ms(&self) -> u64 {
        self.view.now_ms()
    }
}
