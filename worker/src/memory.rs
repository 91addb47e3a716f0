//! Memory that is nearly used up: a worker that sees it does not wait until the timer is let run, and finds out itself who has to go.

use tracing::warn;

use crate::work::Work;

/// Milliseconds between two looks of one worker.
const LOOK_MS: u64 = 2;

/// Milliseconds between two lines of the log about it.
const LINE_MS: u64 = 1_000;

/// When was looked, and told of it, last; in table milliseconds. Private: a successor may do both once more.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    looked_ms: u64,
    told_ms: u64,
    untold: u32,
}

impl Work<'_> {
    /// Orders the largest holders to go.
    #[cold]
    pub fn look_for_memory(&mut self) {
        let now_ms = self.clock.table_ms;
        if now_ms.saturating_sub(self.memory.looked_ms) < LOOK_MS {
            return;
        }
        self.memory.looked_ms = now_ms;
        for eviction in self.hands.census().evictions {
            if now_ms.saturating_sub(self.memory.told_ms) < LINE_MS {
                self.memory.untold += 1;
                continue;
            }
            self.memory.told_ms = now_ms;
            warn!(
                holder = eviction.holder.name(),
                user = eviction.user.as_deref().unwrap_or_default(),
                address = %eviction.address,
                sessions = eviction.sessions,
                bytes = eviction.bytes,
                untold = std::mem::take(&mut self.memory.untold),
                "memory is nearly used up (table.arena_mib), so the largest holder's sessions are ended"
            );
        }
    }
}
