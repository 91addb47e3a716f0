//! A standstill: everyone at work stops between two turns, something is done that nobody may disturb, and all go on.
//!
//! - What is done is done only while no process writes to the table: each has answered `Paused`, or is known to be dead, or has left.
//! - A process that does not stand still within `server.watchdog_ms` is killed and counted among the dead.
//! - Candidates need not stand still, as they touch nothing; nobody is promoted meanwhile.

use std::time::{Duration, Instant};

use role::ToRole;
use shm_table::ProcessId;

use crate::master::Master;

/// A standstill in progress, and what it is for.
pub struct Standstill {
    /// Who died, and has to be accounted for.
    dead: Vec<ProcessId>,
    /// Who waits for an audit on the control socket.
    pub audits: Vec<u32>,
    /// Since when they go on without one, and since when they do not.
    went_on: Instant,
    since: Instant,
    /// Connections without a worker are to be handed over, or ended.
    pub rescues: bool,
    until: Instant,
}

impl Standstill {
    /// Who has not stood still by then is killed.
    pub fn until(&self) -> Instant {
        self.until
    }
}

impl Master<'_> {
    /// A process is dead: asks all others to stand still until that is accounted for.
    pub fn begin_recovery(&mut self, dead: ProcessId, now: Instant) {
        // The dead one may hold what somebody waits for, in the middle of a turn.
        self.table.request_pause();
        self.stand_still(now).dead.push(dead);
    }

    /// Asks everyone to stand still, for what the caller notes in the answer.
    pub fn stand_still(&mut self, now: Instant) -> &mut Standstill {
        for occupant in self.occupants().filter(|o| !o.told_to_pause) {
            occupant.told_to_pause = true;
            occupant.channel.queue(ToRole::Pause);
        }
        let patience = Duration::from_millis(self.config.server.watchdog_ms.into());
        let went_on = self.went_on;
        self.standstill.get_or_insert_with(|| Standstill {
            dead: Vec::new(),
            audits: Vec::new(),
            went_on,
            since: now,
            rescues: false,
            until: now + patience,
        })
    }

    /// Goes on with a standstill once everybody stands still.
    pub fn settle_standstill(&mut self, now: Instant) {
        let Some(standstill) = &mut self.standstill else {
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
            if now >= standstill.until {
                occupant.condemn("it did not stand still when everyone was asked to");
            }
        }
        if !all_still {
            if now >= standstill.until {
                // Those killed are reported soon; until then this must not make the loop spin.
                standstill.until = now + Duration::from_secs(1);
            }
            return;
        }
        let dead = std::mem::take(&mut standstill.dead);
        let audits = std::mem::take(&mut standstill.audits);
        let (went_on, since) = (standstill.went_on, standstill.since);
        let rescues = standstill.rescues;
        self.standstill = None;
        let is_orderly = dead.is_empty();
        if !is_orderly {
            self.recover(&dead);
            self.table.end_pause();
        } else if !audits.is_empty() {
            let went_on_for = since.saturating_duration_since(went_on);
            self.audit_for(&audits, went_on_for, now.saturating_duration_since(since));
        }
        if rescues {
            self.rescue(now);
        }
        self.resume(now);
        if !is_orderly && !audits.is_empty() {
            // Who waited for a lock stood still in the middle of a turn; the audit is for what is true between two.
            let again = self.stand_still(now);
            again.audits = audits;
            (again.went_on, again.since) = (went_on, since);
        }
    }

    fn resume(&mut self, now: Instant) {
        self.went_on = now;
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
