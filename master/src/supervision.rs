//! Supervision: every post is filled, by processes that answer.
//!
//! - `waitpid` is the truth about death; a heartbeat only decides whom to kill.
//! - A post whose occupant dies gets a successor at once; after a pause that grows where occupants die young.
//! - A candidate that is not ready in time counts as wedged, and so do an occupant whose heartbeat is older than `server.watchdog_ms` and
//!   one that does not leave when it is asked to.
//! - Who holds an index lock that others wait for is killed, never who waits: those give signs of life, and say for whom they wait.

use std::time::{Duration, Instant};

use role::{EXIT_CANNOT_WORK, logging};
use shm_table::{Counter, ProcessId};

use crate::master::{Master, held_up_after, watch_interval};
use crate::member::Member;
use crate::patience::Patience;
use crate::post::Place;
use crate::process::Ending;
use crate::stop::Phase;

/// A candidate that has not said that it is ready after this time is killed. At the start of the server that start has failed then, and
/// so has a reload.
pub const READY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an occupant may take to leave, and one that has left to end.
pub const LEAVE_TIMEOUT: Duration = Duration::from_secs(10);

impl Master<'_> {
    /// Looks who has ended.
    pub fn reap(&mut self) {
        for index in 0..self.posts.len() {
            while let Some((pid, ending)) = self.posts[index].find_ended() {
                // What it said before its end still counts.
                self.hear_role(pid);
                self.bury(index, pid, ending);
            }
        }
    }

    /// A process has ended: lets it go and plans what follows.
    fn bury(&mut self, index: usize, pid: i32, ending: Ending) {
        let post = &mut self.posts[index];
        let (slot, role) = (post.slot, post.role.as_str());
        let Some((place, member)) = post.remove(pid) else {
            return;
        };
        if member.registered {
            self.poller.remove(&member);
        }
        if place == Place::Leaver {
            if ending == Ending::Exited(0) {
                tracing::debug!(slot, role, pid, "process ended after it left");
            } else {
                tracing::warn!(slot, role, pid, %ending, "a process died after it left");
            }
            return;
        }
        if matches!(self.phase, Phase::Starting) {
            let why = member.why(ending);
            self.phase = Phase::Over(Err(format!(
                "a {role} (slot {slot}, pid {pid}) ended at its start: {why}; its lines above or in the log say more"
            )));
            return;
        }
        match place {
            Place::Occupant => self.bury_occupant(index, &member, ending),
            _ => self.bury_candidate(index, &member, ending),
        }
    }

    fn bury_candidate(&mut self, index: usize, candidate: &Member, ending: Ending) {
        let now = Instant::now();
        let goes_back = self.candidate_lost(index, candidate, &candidate.why(ending));
        let post = &mut self.posts[index];
        post.failures += 1;
        if !candidate.is_condemned() {
            post.deaths += 1;
            tracing::error!(
                slot = post.slot,
                role = post.role.as_str(),
                pid = candidate.pid(),
                why = candidate.why(ending),
                "a process died before its post was its own"
            );
        }
        if post.occupant.is_some() {
            return;
        }
        if goes_back {
            post.again_at = Some(now);
        } else if self.is_wanted(index) {
            self.plan(index, now, Duration::ZERO, cannot_work(ending));
        }
    }

    fn bury_occupant(&mut self, index: usize, occupant: &Member, ending: Ending) {
        let now = Instant::now();
        let post = &mut self.posts[index];
        let (slot, role, pid) = (post.slot, post.role.as_str(), occupant.pid());
        let (lived, why) = (occupant.age(now), occupant.why(ending));
        let connections = self.vault.of_worker(slot);
        self.table.process_ended(occupant.id);
        self.posts[index].vacant_since = Some(now);
        if self.phase.is_stopping() && ending == Ending::Exited(0) && connections == 0 {
            tracing::debug!(slot, role, pid, "process ended as asked");
            return;
        }
        self.posts[index].deaths += 1;
        let goes_back = self.occupant_lost(index, occupant, &why, lived);
        let succession = if goes_back {
            self.posts[index].again_at = Some(now);
            "by the executable of before".to_owned()
        } else if self.posts[index].candidate.is_some() {
            "by one that is there already".to_owned()
        } else if self.is_wanted(index) {
            let pause = self.plan(index, now, lived, cannot_work(ending));
            format!("in {} ms", pause.as_millis())
        } else {
            "by nobody".to_owned()
        };
        tracing::error!(
            slot,
            role,
            pid,
            why,
            lived_ms = lived.as_millis(),
            connections,
            succession,
            "a process died"
        );
        self.begin_recovery(occupant.id, now);
    }

    /// Looks after the processes: kills those that do not answer.
    pub fn watch(&mut self, now: Instant) {
        if now < self.watch_at {
            return;
        }
        let held_up = now.duration_since(self.watch_at) > held_up_after(&self.config);
        self.watch_at = now + watch_interval(&self.config);
        self.hands.heartbeat();
        logging::account(|lost| self.hands.count(Counter::LinesLost, lost));
        self.watch_locks(now);
        let limit = Duration::from_millis(self.config.server.watchdog_ms.into());
        for post in &mut self.posts {
            for member in post.everyone() {
                if held_up || member.told_to_pause {
                    // The whole machine may have stood still, or the process does as it was told: it gets its time anew.
                    member.watched_from = now;
                }
            }
            if let Some(candidate) = &mut post.candidate
                && !candidate.ready
                && candidate.watched(now) > READY_TIMEOUT
            {
                candidate.condemn("it was not ready in time");
            }
            if let Some(occupant) = &mut post.occupant {
                let silent = Duration::from_millis(self.table.heartbeat_age_ms(post.slot));
                if occupant.watched(now) > limit && silent > limit {
                    occupant.condemn("it gave no sign of life for longer than server.watchdog_ms");
                }
                let late = |since: Instant| now.saturating_duration_since(since) > LEAVE_TIMEOUT;
                if occupant.told_to_leave.is_some_and(late) && occupant.watched(now) > LEAVE_TIMEOUT
                {
                    occupant.condemn("it did not leave its post to its successor in time");
                }
            }
            for leaver in &mut post.leavers {
                if leaver.watched(now) > LEAVE_TIMEOUT {
                    leaver.condemn("it left its post and did not end");
                }
            }
        }
    }
}

impl Master<'_> {
    /// Looks who keeps others waiting for an index lock.
    fn watch_locks(&mut self, now: Instant) {
        if self.standstill.is_some() {
            // Whoever holds one stands still before it holds the next, or is looked at for not doing so.
            return;
        }
        let slots: Vec<_> = self.occupants().map(|occupant| occupant.id.slot).collect();
        // A lock is held for less than a microsecond: who waits for so long for one and the same waits for one who is stopped or stuck, or
        // has no processor.
        let patience = Patience::of(&self.config.server, true);
        let holders: Vec<_> = slots
            .into_iter()
            .filter_map(|slot| self.table.waits_for(slot))
            .filter(|&(_, ms)| Duration::from_millis(ms) >= patience.short)
            .map(|(holder, _)| holder)
            .collect();
        for occupant in self.occupants() {
            if holders.contains(&occupant.id) {
                occupant.keeps_waiting(now, &patience, "it holds a lock that others wait for");
            } else {
                occupant.waited_for = None;
            }
        }
        // Nobody would open it: its holder has left its post, or was accounted for already.
        let gone = |id: &&ProcessId| !self.table.lives(**id);
        if let Some(&holder) = holders.iter().find(gone) {
            tracing::error!(slot = holder.slot, "a lock is held by nobody who lives");
            self.begin_recovery(holder, now);
        }
    }
}

fn cannot_work(ending: Ending) -> bool {
    ending == Ending::Exited(EXIT_CANNOT_WORK.into())
}
