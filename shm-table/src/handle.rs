//! Names for things in the segment that stay safe to hold: an index together with a generation.

use bytemuck::{Pod, Zeroable};

/// A row of the table in one of its lives. A stale handle is detected, never followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(C)]
pub struct RowHandle {
    /// Index of the row, from 0 to the capacity less one.
    pub row: u32,
    /// Which life of the row: counts up, wrapping, each time the row is given to a new connection.
    pub generation: u32,
}

impl RowHandle {
    /// The handle as one word of the segment; never zero.
    pub(crate) fn link(self) -> Link {
        Link::to(self.row, self.generation)
    }
}

/// A reference inside the segment: generation above, index plus one below; zero points nowhere.
///
/// Who follows a link compares the generation with the target's, before and after reading the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link(pub u64);

impl Link {
    pub fn to(index: u32, generation: u32) -> Self {
        Link(u64::from(generation) << 32 | u64::from(index + 1))
    }

    /// Index and generation, or `None` for the word zero.
    pub fn target(self) -> Option<(usize, u32)> {
        let low = self.0 as u32;
        (low != 0).then(|| ((low - 1) as usize, (self.0 >> 32) as u32))
    }

    pub fn row(self) -> Option<RowHandle> {
        self.target().map(|(row, generation)| RowHandle {
            row: row as u32,
            generation,
        })
    }
}

/// Number of a process slot: 0 master, 1 timer, 2 link, 3 api, [`FIRST_WORKER`].. the workers.
pub type Slot = u8;

/// The master's slot.
pub const MASTER: Slot = 0;
/// The timer's slot.
pub const TIMER: Slot = 1;
/// The link's slot.
pub const LINK: Slot = 2;
/// The slot of the HTTP API.
pub const API: Slot = 3;
/// The first worker's slot; worker `n` of `0..workers` has slot `FIRST_WORKER + n`.
pub const FIRST_WORKER: Slot = 4;
/// The most workers a segment can have: slots are bits of a 64-bit word.
pub const WORKERS_MAX: u8 = 64 - FIRST_WORKER;

/// A process that may own things in the segment: a slot and which of its occupants.
///
/// Never a bare pid: pids are used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProcessId {
    /// The process slot.
    pub slot: Slot,
    /// Counts up, wrapping past 65,535 to 1, each time a process is started in the slot; never 0.
    pub incarnation: u16,
}

impl ProcessId {
    /// Slot and incarnation in 24 bits; never zero, since no incarnation is zero.
    pub(crate) fn bits(self) -> u32 {
        u32::from(self.slot) << 16 | u32::from(self.incarnation)
    }

    pub(crate) fn from_bits(bits: u32) -> Self {
        ProcessId {
            slot: (bits >> 16) as u8,
            incarnation: bits as u16,
        }
    }
}
