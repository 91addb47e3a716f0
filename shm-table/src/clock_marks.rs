//! What the directory's clock was ahead of the host's, and since when: kept in the segment, so that a link that takes another's place
//! tells the same times as that one did.

use bytemuck::{Pod, Zeroable};

use crate::table::Table;

/// Marks that are kept.
pub const CLOCK_MARKS_MAX: usize = 8;

/// From a moment of the host's clock ([`crate::host_ms`]) on, the directory's clock is so far ahead of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct ClockMark {
    /// From when on, in milliseconds.
    pub from_ms: u64,
    /// Milliseconds to be added.
    pub ahead_ms: i64,
}

/// The marks in the segment. The link writes them.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Marks {
    count: u64,
    marks: [ClockMark; CLOCK_MARKS_MAX],
}

/// 64-bit words in [`Marks`].
pub(crate) const MARKS_WORDS: usize = size_of::<Marks>() / 8;

impl Table {
    /// The marks, the oldest first.
    pub fn clock_marks(&self) -> Vec<ClockMark> {
        let marks: Marks = self.view().cluster.clock.read();
        let count = (marks.count as usize).min(CLOCK_MARKS_MAX);
        marks.marks[..count].to_vec()
    }

    /// Replaces the marks, of which there are at most [`CLOCK_MARKS_MAX`], the oldest first. Only the link.
    pub fn set_clock_marks(&self, marks: &[ClockMark]) {
        let mut record = Marks::zeroed();
        for (place, mark) in record.marks.iter_mut().zip(marks) {
            *place = *mark;
        }
        record.count = marks.len().min(CLOCK_MARKS_MAX) as u64;
        self.view().cluster.clock.write(&record);
    }
}
