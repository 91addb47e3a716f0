//! After the death of a process: everyone alive stands still for a moment, the table is put in order, and all go on.
//!
//! - The table is put in order only while no process writes to it: each has answered `Paused`, or is known to be dead.
//! - A process that does not stand still within `server.watchdog_ms` is killed and counted among the dead.
//! - Nobody new is started meanwhile, so nobody can come in between.

use std::time::{Duration, Instant};

use role::{Seat, ToRole};
use shm_table::{ProcessId, RowHandle};

use crate::master::Master;

/// A recovery in progress.
pub struct Recovery {
    dead: Vec<ProcessId>,
    until: Instant,
}

impl Recovery {
    /// Who has not stood still by then is killed.
    pub fn until(&self) -> Instant {
        self.until
    }
}

impl Master<'_> {
    /// A process is dead: asks all others to stand still.
    pub fn begin_recovery(&mut self, dead: ProcessId, now: Instant) {
        let until = now + Duration::from_millis(self.config.server.watchdog_ms.into());
        match &mut self.recovery {
            Some(recovery) => recovery.dead.push(dead),
            None => {
                self.recovery = Some(Recovery {
                    dead: vec![dead],
                    until,
                });
                self.table.request_pause();
            }
        }
        for occupant in self.occupants().filter(|o| !o.told_to_pause) {
            occupant.told_to_pause = true;
            occupant.channel.queue(ToRole::Pause);
        }
    }

    /// Goes on with a recovery once everybody stands still.
    pub fn settle_recovery(&mut self, now: Instant) {
        let Some(recovery) = &mut self.recovery else {
            return;
        };
        let waiting = self
            .posts
            .iter_mut()
            .filter_map(|post| post.occupant.as_mut())
            .filter(|o| !o.paused);
        let mut all_still = true;
        for occupant in waiting {
            all_still = false;
            if now >= recovery.until {
                occupant.condemn("it did not stand still for the recovery of the table");
            }
        }
        if !all_still {
            if now >= recovery.until {
                // Those killed are reported soon; until then this must not make the loop spin.
                recovery.until = now + Duration::from_secs(1);
            }
            return;
        }
        let dead = std::mem::take(&mut recovery.dead);
        self.recovery = None;
        let recovered = self.table.recover(&mut self.seats, &dead);
        self.table.end_pause();
        tracing::info!(
            dead = dead.len(),
            sessions = recovered.rows.len(),
            blocks = recovered.blocks,
            outbox_entries = recovered.nodes,
            memberships = recovered.memberships,
            locks = recovered.locks,
            "the table is in order again"
        );
        self.let_go(&recovered.rows);
        self.resume(now);
    }

    /// What becomes of the connections that a dead worker served: in this version they end.
    fn let_go(&mut self, rows: &[RowHandle]) {
        for &row in rows {
            self.vault.cut(Seat {
                row: row.row,
                generation: row.generation,
            });
            if !self.seats.free(row) {
                tracing::error!(
                    row = row.row,
                    generation = row.generation,
                    "a recovered row cannot be freed"
                );
            }
        }
    }

    fn resume(&mut self, now: Instant) {
        for post in &mut self.posts {
            let Some(occupant) = &mut post.occupant else {
                continue;
            };
            occupant.channel.queue(ToRole::Resume);
            occupant.told_to_pause = false;
            occupant.paused = false;
            occupant.watched_from = now;
            // Rows are marked ready anew, and whoever slept before the pause does not know.
            if let Some(bell) = self.doorbells.get(usize::from(post.slot)) {
                role::ring(bell);
            }
        }
    }
}
