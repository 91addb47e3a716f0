//! Which rows of a worker have something to write or an order: a bit per row, a bit per 64 of them above.
//!
//! Each set of bits belongs to one process, which is the only one to clear them, and what it has cleared and not yet looked at it puts
//! back between two turns: so bits are lost only with a process that dies within a turn, and recovery sets them all again then.
//! Setting bits is repeatable, and whoever finds a row's bit set sees to the bit above as well: a producer that is stopped or dies
//! between the two holds up nobody.

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

    /// Marks a row. The caller rings whether it was marked or not: whoever marked it may be stopped, and ring much later.
    #[inline]
    pub fn mark(&self, row: u32) {
        let (word, bit) = (row as usize / 64, 1 << (row % 64));
        let (above, above_bit) = (&self.summary[word / 64], 1 << (word % 64));
        // Where the row was marked, the bit above cannot look set and be cleared already: it is cleared before the row's own bit, which
        // was set after that and has just been read.
        if self.rows[word].or(bit) & bit == 0 || above.peek() & above_bit == 0 {
            above.or(above_bit);
        }
    }

    /// The same for who clears these bits: what it sees marked stays so until it looks for marked rows itself. The bit above is not looked
    /// at, as this is done for each message: where another has stopped before it could set that, [`Self::reveal`] does.
    #[inline]
    pub fn mark_own(&self, row: u32) {
        if self.rows[row as usize / 64].peek() & 1 << (row % 64) == 0 {
            self.mark(row);
        }
    }

    /// Sets the bits above that producers have not got to, who stopped or died between their two bits. For who clears these bits, now and
    /// then.
    pub fn reveal(&self) {
        for word in self.hidden_words() {
            self.summary[word / 64].or(1 << (word % 64));
        }
    }

    /// True if who clears these bits will come to a row.
    #[inline]
    pub fn is_marked(&self, row: u32) -> bool {
        let (word, bit) = (row as usize / 64, 1 << (row % 64));
        self.rows[word].peek() & bit != 0
            && self.summary[word / 64].peek() & (1 << (word % 64)) != 0
    }

    /// Words of rows in which one is marked and the bit above is not.
    pub fn hidden_words(&self) -> impl Iterator<Item = usize> {
        let words = self.rows.iter().enumerate();
        words
            .filter(|(word, rows)| {
                rows.peek() != 0 && self.summary[word / 64].peek() & (1 << (word % 64)) == 0
            })
            .map(|(word, _)| word)
    }

    /// Unmarks one row, for who clears these bits. False: it was not marked.
    #[inline]
    pub fn take(&self, row: u32) -> bool {
        let (word, bit) = (&self.rows[row as usize / 64], 1 << (row % 64));
        // The bit above stays: where nothing is left below, the next walk finds that out.
        word.peek() & bit != 0 && word.and(!bit) & bit != 0
    }

    /// The rows that are marked, in their order. They stay so.
    pub fn marked(&self) -> impl Iterator<Item = u32> {
        let summary = (0_usize..).zip(self.summary);
        let words = summary.flat_map(|(at, word)| bits(word.get()).map(move |bit| at * 64 + bit));
        words.flat_map(|at| bits(self.rows[at].peek()).map(move |bit| (at * 64 + bit) as u32))
    }

    /// True if a row may be marked.
    pub fn any(&self) -> bool {
        self.summary.iter().any(|word| word.get() != 0)
    }
}

/// The numbers of the bits that are set.
fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = (word != 0).then(|| word.trailing_zeros() as usize);
        word &= word.wrapping_sub(1);
        bit
    })
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

/// A worker's walk over its marked rows. Between two turns ([`Walk::put_back`]) it holds nothing but how far it is.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    summary_at: usize,
    /// Words that the walk has yet to come to, of those below one word of the summary. Their bits are set there still.
    summary_bits: u64,
    word_at: usize,
    /// Rows that were unmarked and not yet returned.
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
                // The bit above first: whoever marks a row after the second line finds it unmarked, and sets both.
                ready.summary[self.summary_at - 1].and(!(1 << bit));
                self.word_at = (self.summary_at - 1) * 64 + bit as usize;
                self.bits = ready.rows[self.word_at].swap(0);
                continue;
            }
            if self.summary_at == ready.summary.len() {
                self.summary_at = 0;
                return None;
            }
            self.summary_bits = ready.summary[self.summary_at].peek();
            self.summary_at += 1;
        }
    }

    /// Marks again what was unmarked and not yet returned; the walk goes on there. To be called wherever the process may be asked to
    /// stand still or to leave: others see then what there is to do, and a successor finds it.
    #[inline]
    pub fn put_back(&mut self, ready: Ready<'_>) {
        let bits = std::mem::take(&mut self.bits);
        if bits != 0 {
            let bit = 1 << (self.word_at % 64);
            ready.rows[self.word_at].or(bits);
            ready.summary[self.word_at / 64].or(bit);
            self.summary_bits |= bit;
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const ROWS: u32 = 64 * 64 + 200;

    struct Bits {
        summary: Vec<Word64>,
        rows: Vec<Word64>,
    }

    impl Bits {
        fn new() -> Self {
            let (low, high) = Ready::words(ROWS);
            let words = |n| (0..n).map(|_| Word64::new(0)).collect();
            Bits {
                summary: words(high),
                rows: words(low),
            }
        }

        fn ready(&self) -> Ready<'_> {
            Ready {
                summary: &self.summary,
                rows: &self.rows,
            }
        }
    }

    fn rest(walk: &mut Walk, ready: Ready<'_>) -> Vec<u32> {
        std::iter::from_fn(|| walk.next(ready)).collect()
    }

    const MARKED: [u32; 8] = [0, 5, 63, 64, 700, 4_095, 4_096, ROWS - 1];

    #[test]
    fn whoever_leaves_in_the_middle_of_a_walk_leaves_the_rest_marked() {
        for done in 0..MARKED.len() {
            let bits = Bits::new();
            let ready = bits.ready();
            MARKED.iter().for_each(|&row| ready.mark(row));
            let mut walk = Walk::default();
            let before: Vec<u32> = (0..done).filter_map(|_| walk.next(ready)).collect();
            walk.put_back(ready);
            assert_eq!(ready.hidden_words().count(), 0, "{done}");
            for row in MARKED {
                assert_ne!(ready.is_marked(row), before.contains(&row), "{done} {row}");
            }
            // The successor comes to all that is left, and to what is marked later.
            let mut walk = Walk::default();
            assert_eq!(rest(&mut walk, ready), MARKED[done..], "{done}");
            MARKED.iter().for_each(|&row| ready.mark(row));
            assert_eq!(rest(&mut walk, ready), MARKED, "{done}");
            assert!(!ready.any());
        }
    }

    #[test]
    fn a_walk_that_was_put_back_goes_on_in_the_same_round() {
        let bits = Bits::new();
        let ready = bits.ready();
        MARKED.iter().for_each(|&row| ready.mark(row));
        let mut walk = Walk::default();
        let mut found = Vec::new();
        while let Some(row) = walk.next(ready) {
            found.push(row);
            walk.put_back(ready);
        }
        assert_eq!(found, MARKED);
        assert!(!ready.any());
    }

    #[test]
    fn rows_can_be_taken_in_any_order() {
        let bits = Bits::new();
        let ready = bits.ready();
        MARKED.iter().for_each(|&row| ready.mark(row));
        assert!(ready.marked().eq(MARKED));
        for row in [4_096, 5, 0] {
            assert!(ready.is_marked(row) && ready.take(row));
            assert!(!ready.is_marked(row) && !ready.take(row));
        }
        assert!(ready.marked().eq([63, 64, 700, 4_095, ROWS - 1]));
        ready.mark(5);
        assert_eq!(
            rest(&mut Walk::default(), ready),
            [5, 63, 64, 700, 4_095, ROWS - 1]
        );
        assert!(!ready.any());
    }

    #[test]
    fn a_producer_that_stops_between_its_two_bits_hides_nothing() {
        let bits = Bits::new();
        let ready = bits.ready();
        // It got as far as this.
        bits.rows[1].or(1 << 6);
        assert!(!ready.is_marked(70) && ready.hidden_words().eq([1]));
        ready.mark(70);
        assert!(ready.is_marked(70));
        assert_eq!(rest(&mut Walk::default(), ready), [70]);
        bits.rows[1].or(1 << 6);
        ready.mark_own(70);
        ready.reveal();
        assert_eq!(rest(&mut Walk::default(), ready), [70]);
        assert!(!ready.any());
    }
}
