//! The time that a turn may take, and the round of reading and writing that goes on over several turns when it takes longer.
//!
//! A round reads what is ready and then writes what came of it: to write earlier would mean more, smaller writes. A turn is a
//! slice of a round, so that the master, orders and deadlines are looked at in between, however much there is to do.
//!
//! Neither reading nor writing goes on for longer than some slices while the other waits. What is left then is done in turn, by address
//! and user ([`crate::queue`]): however much others have to be read or written, a neighbour waits for a share of each at most.

use shm_table::Counter;

use crate::clock::Clock;
use crate::fanout::AT_ONCE;
use crate::work::Work;

/// After so many microseconds a turn begins nothing more. A read that it has begun goes on for as long again at most, and behind that until
/// its present message is handled.
const TURN_US: u64 = 400;

/// How much is done between two looks at the clock, which take some 25 ns each.
pub(crate) const LOOK_AFTER: u32 = 8;

/// For how many slices a round reads before it writes, and writes before others are read.
pub(crate) const PHASE_SLICES: u32 = 5;

/// How far a turn is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slice {
    /// Table microseconds.
    pub began_us: u64,
    /// Microseconds that a turn may take.
    pub most_us: u64,
    /// Recipients of one message who are given it in one turn.
    pub at_once: u32,
    undone: u32,
    /// Stands for the clock: how much was done, and how long one of it takes.
    #[cfg(test)]
    pub counted: Option<(u64, u64)>,
}

impl Default for Slice {
    fn default() -> Self {
        Slice {
            began_us: 0,
            most_us: TURN_US,
            at_once: AT_ONCE,
            undone: 0,
            #[cfg(test)]
            counted: None,
        }
    }
}

impl Slice {
    /// Notes that something was done, of a weight (1: a short read or a write), and tells whether it is time to look at the clock.
    #[inline]
    pub fn note(&mut self, weight: u32) -> bool {
        #[cfg(test)]
        if let Some((done, _)) = &mut self.counted {
            *done += u64::from(weight);
        }
        self.undone += weight;
        self.undone >= LOOK_AFTER
    }
}

/// What is left of a round.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Round {
    /// Bytes read in it.
    pub read_bytes: usize,
    /// How many of those who wait to be read are still to be read in it.
    pub waiting: usize,
    /// Reading is over; what is to be written is being written.
    pub writing: bool,
    /// Slices that its reading, or its writing, has had.
    pub slices: u32,
    /// All that was to be written when the last one began has been: whoever waits for that is looked at.
    pub counts: bool,
}

impl Round {
    /// Nothing has been done in it.
    pub fn is_new(&self) -> bool {
        self.read_bytes == 0 && !self.writing
    }
}

impl Work<'_> {
    /// Notes that something was done, of a weight (1: a short read or a write), and tells whether the turn's time is over.
    #[inline]
    pub fn is_time_over(&mut self, weight: u32) -> bool {
        self.slice.note(weight) && self.elapsed_us() >= self.slice.most_us
    }

    /// The same within a read that was begun in time: whether it is to be broken off.
    #[inline]
    pub fn is_read_over(&mut self, weight: u32) -> bool {
        self.slice.note(weight) && self.elapsed_us() >= self.slice.most_us.saturating_mul(2)
    }

    /// How long the turn has taken so far, in microseconds.
    pub fn elapsed_us(&mut self) -> u64 {
        self.slice.undone = 0;
        self.slice_now_us().wrapping_sub(self.slice.began_us)
    }

    /// The time of slices: table microseconds.
    #[inline]
    fn slice_now_us(&self) -> u64 {
        #[cfg(test)]
        if let Some((done, us)) = self.slice.counted {
            return done * us;
        }
        self.hands.now_us()
    }

    /// Notes that a slice of reading or writing is over and there is more. True: it is the other's turn.
    pub fn is_phase_over(&mut self) -> bool {
        self.round.slices += 1;
        self.round.slices >= PHASE_SLICES
    }

    /// Begins a turn, and a round if the last one is over.
    pub fn begin_turn(&mut self) {
        let now_us = self.hands.now_us();
        self.slice.began_us = now_us;
        #[cfg(test)]
        if self.slice.counted.is_some() {
            self.slice.began_us = self.slice_now_us();
        }
        self.clock = Clock::now(now_us / 1000, &self.clock);
        self.hands.heartbeat_at(self.clock.table_ms);
        self.hands.look_at_supply();
        if self.hands.is_memory_tight() {
            self.look_for_memory();
        }
        // Whoever fills outboxes waits for rounds of writing, so one counts when all that was to be written has been.
        if self.round.is_new() && std::mem::take(&mut self.wrote_all) {
            self.round.counts = true;
            self.hands.count(Counter::Turns, 1);
        }
    }

    /// Notes how long the turn took.
    pub fn end_turn(&mut self) {
        let took = self.slice_now_us().wrapping_sub(self.slice.began_us);
        self.hands.turn_took(took);
    }

    /// True if there is something to do that no doorbell and no socket will tell of.
    pub fn has_more_to_do(&self) -> bool {
        let is_reading = !self.again.is_empty() || !self.events.is_empty();
        let is_working = is_reading || self.hands.has_fanout_to_do();
        self.round.writing || !self.unwritten.is_empty() || is_working && !self.window_in_use
    }
}
