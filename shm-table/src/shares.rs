//! Fair shares of the arena and of the outbox entries: what one session may hold of them, and when they are short.
//!
//! What is counted is what a message *occupies*: its blocks, whole. A share shrinks as the pools fill, for all sessions alike, so that
//! those who hold much are stopped first and those who hold little are not refused: with `n` sessions at their share, a part of about
//! `2 / (2 + n)` of what is above the last eighth stays free.

use crate::arena::BLOCK_BYTES;
use crate::view::View;

/// The part of the pools (a quarter) below which the largest holders have to go ([`crate::Hands::census`]).
const SHORT_PART: u64 = 4;

/// The part (an eighth) below which the shares are small, and whoever is past his own is not read or written for.
const TIGHT_PART: u64 = 8;

/// The part (a sixteenth) below which no incomplete message goes on.
const SCARCE_PART: u64 = 16;

/// The part that only answers may use (a 32nd), see [`crate::Urgency`].
pub(crate) const RESERVE_PART: u32 = 32;

/// The part of what is free beyond the last eighth that one session may hold.
const SHARE_PART: u64 = 2;

/// What a session may hold when nothing is free beyond the last eighth, in bytes, where the arena is not small.
const SMALL_SHARE_BYTES: u64 = 16 * 1024;

/// The part of a small arena that is the same.
const SMALL_SHARE_PART: u64 = 64;

/// What a session may hold when nothing is left but the reserve, in bytes.
pub(crate) const LEAST_SHARE_BYTES: u64 = 4 * BLOCK_BYTES as u64;

/// How much there is, and how much of it is free: of blocks and entries, what is scarcer, in bytes of the arena. A momentary count: what
/// processes have in hand counts as used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Supply {
    pub whole: u64,
    pub free: u64,
}

impl Supply {
    /// Less than a quarter is free.
    pub fn is_short(self) -> bool {
        self.free < self.whole / SHORT_PART
    }

    /// Less than an eighth is free.
    pub fn is_tight(self) -> bool {
        self.free < self.whole / TIGHT_PART
    }

    /// Less than a sixteenth is free.
    pub fn is_scarce(self) -> bool {
        self.free < self.whole / SCARCE_PART
    }

    /// What one session may hold, of at most `most` bytes.
    pub fn share(self, most: u64) -> u64 {
        let tight = self.whole / TIGHT_PART;
        let small = SMALL_SHARE_BYTES.min(self.whole / SMALL_SHARE_PART);
        let share = match self.free.checked_sub(tight) {
            Some(beyond) => small + beyond / SHARE_PART,
            None => {
                let reserve = self.whole / u64::from(RESERVE_PART);
                let least = LEAST_SHARE_BYTES.min(small);
                let left = self.free.saturating_sub(reserve);
                least + (small - least) * left / (tight - reserve).max(1)
            }
        };
        share.min(most)
    }

    /// What all the sessions of one user, or of one address, may hold while the pools are short.
    pub fn share_of_many(self) -> u64 {
        self.whole / TIGHT_PART
    }
}

impl View<'_> {
    /// How much of the arena and of the outbox entries is free now.
    #[inline]
    pub fn supply(&self) -> Supply {
        let whole = (self.arena.heads.len() * BLOCK_BYTES) as u64;
        let blocks = u64::from(self.header.arena.free()) * BLOCK_BYTES as u64;
        let nodes = u64::from(self.header.nodes.free()) * whole / self.nodes.len().max(1) as u64;
        Supply {
            whole,
            free: blocks.min(nodes),
        }
    }

    /// How many bytes have to be given back until a quarter is free again. An entry counts as a block, which is the most that it may be
    /// good for.
    pub fn missing(&self) -> u64 {
        let missing = |free: u32, all: usize| {
            (all as u64 / SHORT_PART).saturating_sub(free.into()) * BLOCK_BYTES as u64
        };
        let blocks = missing(self.header.arena.free(), self.arena.heads.len());
        blocks.max(missing(self.header.nodes.free(), self.nodes.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_share_shrinks_as_the_pool_fills_and_never_to_nothing() {
        let share = |whole: u64, free: u64| Supply { whole, free }.share(MIB);
        for whole in [64 * 1024, MIB, 4 * MIB, 64 * MIB, 4096 * MIB] {
            let mut last = u64::MAX;
            for part in (0..=128).rev() {
                let now = share(whole, whole / 128 * part);
                assert!(now <= last && now >= LEAST_SHARE_BYTES.min(whole / 64));
                last = now;
            }
        }
        assert_eq!(share(64 * MIB, 64 * MIB), MIB, "as configured");
        assert_eq!(share(64 * MIB, 24 * MIB), MIB, "at three eighths still");
        assert_eq!(share(64 * MIB, 8 * MIB), SMALL_SHARE_BYTES);
        assert_eq!(share(64 * MIB, 2 * MIB), LEAST_SHARE_BYTES);
        assert_eq!(share(64 * MIB, 0), LEAST_SHARE_BYTES);
        assert_eq!(share(64 * 1024, 8 * 1024), LEAST_SHARE_BYTES);
    }

    #[test]
    fn so_many_sessions_at_their_share_leave_something_free() {
        let whole = 64 * MIB;
        for sessions in [1, 10, 100, 1_000] {
            // Each takes a block at a time while it is within its share.
            let mut held = vec![0; sessions];
            let mut free = whole;
            while let Some(session) = held
                .iter_mut()
                .find(|held| **held + 1024 <= Supply { whole, free }.share(MIB))
            {
                *session += 1024;
                free -= 1024;
            }
            assert!(free > whole / 32, "{sessions}: {free}");
        }
    }
}
