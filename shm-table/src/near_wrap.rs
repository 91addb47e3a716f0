//! For tests: a table whose clock and counters stand where they are after years, just before they wrap.

use crate::table::Table;
use crate::view::{TICK_MS, monotonic_ms};

/// How long after this the ticks of deadlines wrap.
const CLOCK_LEAD_MS: u64 = 4_000;

/// How many steps are left to a counter. Few, so that a short test crosses the wrap.
const LEAD: u32 = 3;

impl Table {
    /// Makes a fresh table look like one that has served for years: the ticks of deadlines wrap within seconds, generations, incarnations,
    /// ordinals and the tags of pools within a few steps, and sessions' numbers have more than 32 bits. For tests; the master, before it
    /// makes [`crate::Seats`] or starts any process.
    pub fn begin_near_wrap(&self) {
        let view = self.view();
        let wrap_ms = (u64::from(u32::MAX) + 1) * TICK_MS;
        let now_ms = wrap_ms - CLOCK_LEAD_MS;
        let header = view.header;
        header.epoch_ms.set(monotonic_ms().wrapping_sub(now_ms));
        header.connections.set(u64::from(u32::MAX - LEAD));
        header.ordinals_from.set(u32::MAX - LEAD);
        let generation = u32::MAX - LEAD;
        for row in view.rows {
            row.word.set(u64::from(generation) << 32);
        }
        for user in view.users {
            user.generation.set(generation);
        }
        for group in view.groups {
            group.generation.set(generation);
        }
        for chunk in view.chunks {
            chunk.generation.set(generation);
        }
        for control in view.controls {
            control.incarnation.set(u32::from(u16::MAX) - LEAD);
        }
        for pool in [
            &header.users,
            &header.groups_pool,
            &header.chunks,
            &header.nodes,
            &header.arena,
        ] {
            pool.set_tag(u32::MAX - LEAD);
        }
    }
}
