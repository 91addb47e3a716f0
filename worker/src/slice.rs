//! The time that a turn may take, and the round of reading and writing that goes on over several turns when it takes longer.
//!
//! A round reads what is ready and then writes what came of it, all of it: to write earlier would mean more, smaller writes. A turn is a
//! slice of a round, so that the master, orders and deadlines are looked at in between, however much there is to do.

use shm_table::Counter;

use crate::clock::Clock;
use crate::fanout::AT_ONCE;
use crate::work::Work;

/// After so many microseconds a turn begins nothing more. What it has begun then takes some hundred more at most.
const TURN_US: u64 = 400;

/// How much is done between two looks at the clock, which take some 25 ns each.
const LOOK_AFTER: u32 = 8;

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
}

impl Default for Slice {
    fn default() -> Self {
        Slice {
            began_us: 0,
            most_us: TURN_US,
            at_once: AT_ONCE,
            undone: 0,
        }
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
        self.slice.undone += weight;
        if self.slice.undone < LOOK_AFTER {
            return false;
        }
        self.slice.undone = 0;
        self.hands.now_us().wrapping_sub(self.slice.began_us) >= self.slice.most_us
    }

    /// Begins a turn, and a round if the last one is over.
    pub fn begin_turn(&mut self) {
        let now_us = self.hands.now_us();
        self.slice.began_us = now_us;
        self.clock = Clock::now(now_us / 1000, &self.clock);
        self.hands.heartbeat_at(self.clock.table_ms);
        self.hands.look_at_supply();
        if self.hands.is_memory_tight() {
            self.look_for_memory();
        }
        if self.round.is_new() {
            self.hands.count(Counter::Turns, 1);
        }
    }

    /// Notes how long the turn took.
    pub fn end_turn(&mut self) {
        let took = self.hands.now_us().wrapping_sub(self.slice.began_us);
        self.hands.turn_took(took);
    }

    /// True if there is something to do that no doorbell and no socket will tell of.
    pub fn has_more_to_do(&self) -> bool {
        let is_reading = !self.again.is_empty() || !self.events.is_empty();
        let is_working = is_reading || self.hands.has_fanout_to_do();
        self.round.writing || is_working && !self.window_in_use
    }
}
