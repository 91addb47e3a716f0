//! Which rows of a worker have something to write or an order: a bit per row, a bit per 64 of them above.
//!
//! Setting bits is repeatable, so a producer that dies between two of them leaves nothing to undo:
//! recovery sets them all again. Each set of bits belongs to one worker, who is the only one to clear them.

use crate::word::{Word32, Word64, full_fence};

/// The ready bits of one worker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ready<'t> {
    /// One bit per word of `rows`.
    pub summary: &'t [Word64],
    /// One bit per row.
    pub rows: &'t [Word64],
}

impl Ready<'_> {
    /// Words of `rows` and of `summary` that `rows` rows need.
    pub fn words(rows: u32) -> (usize, usize) {
        let low = (rows as usize).div_ceil(64);
        (low, low.div_ceil(64))
    }

    /// Marks a row. False if it was marked already: then whoever did also rings.
    #[inline]
    pub fn mark(&self, row: u32) -> bool {
        let (word, bit) = (row as usize / 64, 1 << (row % 64));
        if self.rows[word].or(bit) & bit != 0 {
            return false;
        }
        self.summary[word / 64].or(1 << (word % 64));
        true
    }

    /// The same for who clears these bits: what it sees marked stays so until it looks for marked rows itself.
    #[inline]
    pub fn mark_own(&self, row: u32) -> bool {
        let bit = 1 << (row % 64);
        self.rows[row as usize / 64].peek() & bit == 0 && self.mark(row)
    }

    /// Marks a row whether it is marked or not: whoever marked it may have died before the word above said so.
    pub fn mark_anew(&self, row: u32) {
        let (word, bit) = (row as usize / 64, 1 << (row % 64));
        self.rows[word].or(bit);
        self.summary[word / 64].or(1 << (word % 64));
    }

    /// True if a row may be marked.
    pub fn any(&self) -> bool {
        self.summary.iter().any(|word| word.get() != 0)
    }
}

/// Announces in `sleeping` that the worker is about to sleep. False: something is ready, do not sleep.
pub(crate) fn announce_sleep(sleeping: &Word32, ready: Option<Ready<'_>>) -> bool {
    sleeping.set(1);
    // Announced before looking: whoever marks a row after the look sees the announcement.
    full_fence();
    let nothing = ready.is_none_or(|ready| !ready.any());
    if !nothing {
        sleeping.set(0);
    }
    nothing
}

/// True if the caller, who has marked rows and then called [`full_fence`], must ring the sleeper's doorbell.
pub(crate) fn must_ring(sleeping: &Word32) -> bool {
    sleeping.peek() == 1 && sleeping.swap(0) == 1
}

/// A worker's walk over its marked rows; what it has cleared but not yet returned is a cache, as recovery
/// marks every row of a dead worker anew.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    summary_at: usize,
    summary_bits: u64,
    word_at: usize,
    bits: u64,
}

impl Walk {
    /// Rows that are likely to come after the last one, the next of them first.
    #[inline]
    pub fn coming(&self) -> [Option<u32>; 3] {
        let mut bits = self.bits;
        std::array::from_fn(|_| {
            let row = (bits != 0).then(|| (self.word_at * 64) as u32 + bits.trailing_zeros());
            bits &= bits.wrapping_sub(1);
            row
        })
    }

    /// The next marked row, unmarked; `None` after one round over all of them.
    pub fn next(&mut self, ready: Ready<'_>) -> Option<u32> {
        loop {
            if self.bits != 0 {
                let bit = self.bits.trailing_zeros();
                self.bits &= self.bits - 1;
                return Some((self.word_at * 64) as u32 + bit);
            }
            if self.summary_bits != 0 {
                let bit = self.summary_bits.trailing_zeros();
                self.summary_bits &= self.summary_bits - 1;
                self.word_at = (self.summary_at - 1) * 64 + bit as usize;
                self.bits = ready.rows[self.word_at].swap(0);
                continue;
            }
            if self.summary_at == ready.summary.len() {
                self.summary_at = 0;
                return None;
            }
            let word = &ready.summary[self.summary_at];
            self.summary_at += 1;
            if word.peek() != 0 {
                self.summary_bits = word.swap(0);
            }
        }
    }
}
