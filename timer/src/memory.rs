//! Memory that is short: who holds the most of it has to go, and the log says who that was.

use shm_table::{Eviction, Hands};
use tracing::warn;

/// Milliseconds between two looks while memory is short and somebody was found who has to go.
const LOOK_MS: u8 = 5;

/// The same while nobody was: it is short, and nobody holds more than his share.
const LOOK_MS_CALM: u8 = 20;

/// Milliseconds in which so many lines are written at most; the rest is counted.
const LINES_MS: u64 = 1_000;
const LINES_MAX: u32 = 10;

/// What was said of late; private, so a successor may say it again.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// Table milliseconds at which the present interval began.
    since_ms: u64,
    lines: u32,
    untold: u32,
}

impl Memory {
    /// Looks whether memory is short, and orders the largest holders to go. Returns in how many milliseconds to look again; `None`: it is
    /// not short.
    pub fn look(&mut self, hands: &mut Hands<'_>) -> Option<u8> {
        let census = hands.census();
        let now_ms = hands.now_ms();
        for eviction in &census.evictions {
            if self.may_tell(now_ms) {
                tell(eviction, std::mem::take(&mut self.untold));
            }
        }
        census
            .is_short
            .then_some(match census.evictions.is_empty() {
                true => LOOK_MS_CALM,
                false => LOOK_MS,
            })
    }

    fn may_tell(&mut self, now_ms: u64) -> bool {
        if now_ms.saturating_sub(self.since_ms) >= LINES_MS {
            self.since_ms = now_ms;
            self.lines = 0;
        }
        self.lines += 1;
        let may = self.lines <= LINES_MAX;
        self.untold += u32::from(!may);
        may
    }
}

fn tell(eviction: &Eviction, untold: u32) {
    warn!(
        holder = eviction.holder.name(),
        user = eviction.user.as_deref().unwrap_or_default(),
        address = %eviction.address,
        sessions = eviction.sessions,
        bytes = eviction.bytes,
        untold,
        "memory is short (table.arena_mib), so the largest holder's sessions are ended"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_lines_a_second_are_written_and_the_rest_is_counted() {
        let mut memory = Memory::default();
        let said =
            |memory: &mut Memory, now_ms| (0..25).filter(|_| memory.may_tell(now_ms)).count();
        assert_eq!(said(&mut memory, 5_000), LINES_MAX as usize);
        assert_eq!(memory.untold, 15);
        assert_eq!(said(&mut memory, 5_999), 0);
        assert_eq!(said(&mut memory, 6_000), LINES_MAX as usize);
    }
}
