//! A process of a role as the master knows it: a candidate at first, then the occupant of its post, at last one who has left.

use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use role::MasterEnd;
use shm_table::ProcessId;

use crate::image::Image;
use crate::patience::{Patience, Waited};
use crate::process::{Ending, Process};

/// One process and what passes between it and the master.
pub struct Member {
    /// Who it is in the table, or will be once its post is its own.
    pub id: ProcessId,
    /// The master's end of its channel.
    pub channel: MasterEnd,
    /// What it executes.
    pub image: Rc<Image>,
    /// It has said that it could begin.
    pub ready: bool,
    /// When it was asked to leave its post to its successor.
    pub told_to_leave: Option<Instant>,
    /// It has been told to stand still.
    pub told_to_pause: bool,
    /// It stands still.
    pub paused: bool,
    /// Others wait for it, which is to be over soon: that it stands still, or that it opens a lock.
    pub waited_for: Option<Waited>,
    /// Its answers are waited for from here on: its start, its promotion, its leaving, or the end of a pause.
    pub watched_from: Instant,
    /// The channel is waited for in the poller, for reading, and for writing as well.
    pub registered: bool,
    pub wants_room: bool,
    /// Why it was killed; `waitpid` has not said so yet.
    condemned: Option<String>,
    /// What it has said about its end.
    pub last_words: Option<String>,
    since: Instant,
    process: Process,
}

impl Member {
    /// A process that has just been started, as a candidate.
    pub fn new(id: ProcessId, channel: MasterEnd, image: Rc<Image>, process: Process) -> Self {
        let now = Instant::now();
        Self {
            id,
            channel,
            image,
            ready: false,
            told_to_leave: None,
            told_to_pause: false,
            paused: false,
            waited_for: None,
            watched_from: now,
            registered: false,
            wants_room: false,
            condemned: None,
            last_words: None,
            since: now,
            process,
        }
    }

    /// For the table, the log and people. No other member has it.
    pub fn pid(&self) -> i32 {
        self.process.pid()
    }

    /// The post is its own from here on.
    pub fn promoted(&mut self, now: Instant) {
        self.since = now;
        self.watched_from = now;
    }

    /// It has been what it is for this long already.
    pub fn aged(&mut self, age: Duration) {
        self.since = self.since.checked_sub(age).unwrap_or(self.since);
    }

    /// How long it has been what it is: a candidate, or an occupant.
    pub fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }

    /// How long its answers have been waited for.
    pub fn watched(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.watched_from)
    }

    /// Whether newcomers may be given to it.
    pub fn stays(&self) -> bool {
        self.condemned.is_none() && self.told_to_leave.is_none()
    }

    /// Whether it was killed.
    pub fn is_condemned(&self) -> bool {
        self.condemned.is_some()
    }

    /// Kills it, for a reason that stands in the log. Its death comes as a signal like any other.
    pub fn condemn(&mut self, reason: &str) {
        if self.condemned.is_some() {
            return;
        }
        self.condemned = Some(reason.to_owned());
        tracing::error!(
            slot = self.id.slot,
            pid = self.pid(),
            reason,
            "a process is killed"
        );
        if let Err(error) = self.process.kill() {
            tracing::error!(%error, pid = self.pid(), "it cannot be killed");
        }
    }

    /// Others wait for it at this time: kills it if they have waited long enough. `what`: what it does not do.
    pub fn keeps_waiting(&mut self, now: Instant, patience: &Patience, what: &str) {
        let waited = self
            .waited_for
            .get_or_insert_with(|| Waited::from(now, &self.process));
        if let Some(why) = waited.is_over(now, &self.process, patience) {
            self.condemn(&format!("{what}: {why}"));
        }
    }

    /// How it has ended, once it has.
    pub fn ended(&mut self) -> Option<Ending> {
        self.process.ended()
    }

    /// Why it ended, as far as is known.
    pub fn why(&self, ending: Ending) -> String {
        match (&self.last_words, &self.condemned) {
            (Some(words), _) => format!("{words} ({ending})"),
            (None, Some(reason)) => format!("{reason} ({ending})"),
            (None, None) => ending.to_string(),
        }
    }

    /// Kills it and waits until it is gone. Only when the master itself ends.
    pub fn end_now(&mut self) {
        self.process.end_now();
    }
}

impl AsFd for Member {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}
