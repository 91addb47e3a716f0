//! A standstill: everyone at work stops between two turns, something is done that nobody may disturb, and all go on.
//!
//! - What is done is done only while no process writes to the table: each has answered `Paused`, or is known to be dead, or has left.
//! - A process that does not stand still in time is killed and counted among the dead; what in time means is told in `patience`. After a death
//!   everybody's work waits for it, and one that is stopped is not waited for at all.
//! - One that waits for a lock whose owner lives is not to blame that it does not stand still: the owner is looked at instead.
//! - Candidates need not stand still, as they touch nothing; nobody is promoted meanwhile.

use std::time::Instant;

use role::ToRole;
use shm_table::ProcessId;

use crate::master::Master;
use crate::patience::Patience;

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
    /// When those who do not stand still yet are looked at.
    look_at: Instant,
}

impl Standstill {
    /// When there is something to do although nothing happens.
    pub fn until(&self) -> Instant {
        self.look_at
    }
}

impl Master<'_> {
    /// A process is dead: asks all others to stand still until that is accounted for.
    pub fn begin_recovery(&mut self, dead: ProcessId, now: Instant) {
        // The dead one may hold what somebody waits for, in the middle of a turn.
        self.table.request_pause();
        let standstill = self.stand_still(now);
        standstill.dead.push(dead);
        // From here on it is pressing, if it was for an audit alone before.
        standstill.look_at = standstill.look_at.min(now);
    }

    /// Asks everyone to stand still, for what the caller notes in the answer.
    pub fn stand_still(&mut self, now: Instant) -> &mut Standstill {
        for occupant in self.occupants().filter(|o| !o.told_to_pause) {
            occupant.told_to_pause = true;
            occupant.waited_for = None;
            occupant.channel.queue(ToRole::Pause);
        }
        let went_on = self.went_on;
        // The first look is at once: it notes where everybody stands, and finds who is stopped.
        self.standstill.get_or_insert_with(|| Standstill {
            dead: Vec::new(),
            audits: Vec::new(),
            went_on,
            since: now,
            rescues: false,
            look_at: now,
        })
    }

    /// Goes on with a standstill once everybody stands still.
    pub fn settle_standstill(&mut self, now: Instant) {
        let Some(look_at) = self.standstill.as_ref().map(Standstill::until) else {
            return;
        };
        if now >= look_at {
            // Who is judged has been heard: it may be the master that had no time.
            let pids: Vec<_> = self.occupants().map(|occupant| occupant.pid()).collect();
            for pid in pids {
                self.hear_role(pid);
            }
        }
        let Some(standstill) = &mut self.standstill else {
            return;
        };
        let mut moving = self
            .posts
            .iter()
            .filter_map(|post| post.occupant.as_ref())
            .filter(|occupant| !occupant.paused)
            .map(|occupant| occupant.id)
            .collect::<Vec<_>>();
        if !moving.is_empty() {
            if now < standstill.look_at {
                return;
            }
            let patience = Patience::of(&self.config.server, !standstill.dead.is_empty());
            standstill.look_at = now + patience.interval();
            // Who waits for one of the others is done with when that one is.
            let blameless = |id: &ProcessId| {
                let holder = self.table.waits_for(id.slot);
                holder.is_some_and(|(holder, _)| holder != *id && moving.contains(&holder))
            };
            let blameless: Vec<_> = moving.iter().copied().filter(blameless).collect();
            moving.retain(|id| !blameless.contains(id));
            for occupant in self.occupants().filter(|o| moving.contains(&o.id)) {
                occupant.keeps_waiting(
                    now,
                    &patience,
                    "it did not stand still when everyone was asked to",
                );
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
            occupant.waited_for = None;
            occupant.watched_from = now;
            // Rows are marked ready anew, and whoever slept before the pause does not know.
            if let Some(bell) = self.doorbells.get(usize::from(post.slot)) {
                role::ring(bell);
            }
        }
    }
}
