//! A post: a process slot with the role that belongs there, whoever fills it at the moment, and when it is filled again.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use role::{Hello, MasterEnd, ToRole};
use shm_table::{ProcessId, Role, Slot, Table};

use crate::cli::RoleName;

/// First pause before a post is filled again; each further one is twice as long.
const DELAY_MIN: Duration = Duration::from_millis(100);
/// Longest pause, and the pause after a role said that it cannot work.
const DELAY_MAX: Duration = Duration::from_secs(10);
/// A process that lived this long was a good one: the next pause is the shortest again.
const STABLE: Duration = Duration::from_secs(10);

/// A place for a process.
pub struct Post {
    /// What belongs here.
    pub role: RoleName,
    /// The process slot.
    pub slot: Slot,
    /// Who is here.
    pub occupant: Option<Occupant>,
    /// When an empty post is filled.
    pub again_at: Option<Instant>,
    /// The next pause.
    delay: Duration,
}

/// A process at its post.
pub struct Occupant {
    /// Who it is in the table.
    pub id: ProcessId,
    /// The master's end of its channel.
    pub channel: MasterEnd,
    /// It has said that it is at work.
    pub ready: bool,
    /// It has been told to stand still.
    pub told_to_pause: bool,
    /// It stands still.
    pub paused: bool,
    /// Its heartbeat counts from here: its start, or the end of a pause.
    pub watched_from: Instant,
    /// It was ended because it did not answer; `waitpid` has not said so yet.
    pub condemned: bool,
    /// The channel is waited for in the poller, for reading, and for writing as well.
    pub registered: bool,
    pub wants_room: bool,
    started: Instant,
    child: Child,
}

/// What every role is started with.
pub struct Start<'a> {
    pub executable: &'a Path,
    pub table: &'a Table,
    pub segment: &'a str,
    pub settings: &'a config::Config,
    pub doorbells: &'a [OwnedFd],
}

impl Post {
    /// An empty post, to be filled at once.
    pub fn new(role: RoleName, slot: Slot, now: Instant) -> Self {
        Self {
            role,
            slot,
            occupant: None,
            again_at: Some(now),
            delay: DELAY_MIN,
        }
    }

    /// Starts a process here. It finds its first message waiting.
    ///
    /// # Errors
    /// What the system says; the post stays empty.
    pub fn fill(&mut self, with: &Start<'_>) -> io::Result<()> {
        let (mut channel, stdin) = MasterEnd::pair()?;
        let doorbells = with
            .doorbells
            .iter()
            .map(OwnedFd::try_clone)
            .collect::<io::Result<Vec<_>>>()?;
        let id = with.table.start_process(self.slot, self.table_role());
        let hello = Hello {
            slot: self.slot,
            incarnation: id.incarnation,
            segment: with.segment.to_owned(),
            settings: with.settings.clone(),
        };
        channel.queue_with(ToRole::Hello(Box::new(hello)), doorbells);
        let child = channel
            .flush(|_| None)
            .map_err(io::Error::other)
            .and_then(|()| {
                Command::new(with.executable)
                    .args([
                        "--role",
                        self.role.as_str(),
                        "--slot",
                        &self.slot.to_string(),
                    ])
                    .stdin(Stdio::from(stdin))
                    .stdout(Stdio::null())
                    // Ctrl-C in a terminal is for the master, which asks its roles in order.
                    .process_group(0)
                    .spawn()
            });
        let child = child.inspect_err(|_| with.table.process_ended(id))?;
        with.table.set_pid(id, child.id().cast_signed());
        let now = Instant::now();
        self.again_at = None;
        self.occupant = Some(Occupant {
            id,
            channel,
            ready: false,
            told_to_pause: false,
            paused: false,
            watched_from: now,
            condemned: false,
            registered: false,
            wants_room: false,
            started: now,
            child,
        });
        Ok(())
    }

    /// Plans when the post is filled again. `lived`: how long the last one was here, if there was one; `cannot_work`: it said so.
    pub fn plan(&mut self, now: Instant, lived: Duration, cannot_work: bool) -> Duration {
        if lived >= STABLE {
            self.delay = DELAY_MIN;
        }
        let delay = if cannot_work { DELAY_MAX } else { self.delay };
        self.delay = (self.delay * 2).min(DELAY_MAX);
        self.again_at = Some(now + delay);
        delay
    }

    fn table_role(&self) -> Role {
        match self.role {
            RoleName::Worker => Role::Worker,
            RoleName::Timer => Role::Timer,
        }
    }
}

impl Occupant {
    /// For the log and for people.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How long it has been here.
    pub fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.started)
    }

    /// Ends it, for a reason that stands in the log. Its death comes as a signal like any other.
    pub fn condemn(&mut self, reason: &str) {
        if self.condemned {
            return;
        }
        self.condemned = true;
        tracing::error!(
            slot = self.id.slot,
            pid = self.pid(),
            reason,
            "a process is killed"
        );
        if let Err(error) = self.child.kill() {
            tracing::error!(%error, pid = self.pid(), "it cannot be killed");
        }
    }

    /// Its exit status, once it has ended.
    pub fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.child.try_wait().unwrap_or_else(|error| {
            tracing::error!(%error, pid = self.pid(), "a process cannot be waited for");
            None
        })
    }

    /// Ends it and waits until it is gone. Only when the master itself ends.
    pub fn end_now(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl AsFd for Occupant {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_up_to_a_limit_and_is_short_again_after_a_good_run() {
        let now = Instant::now();
        let mut post = Post::new(RoleName::Worker, 4, now);
        assert_eq!(post.again_at, Some(now));
        let brief = Duration::from_millis(5);
        let pauses: Vec<_> = (0..9)
            .map(|_| post.plan(now, brief, false).as_millis())
            .collect();
        assert_eq!(
            pauses,
            [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]
        );
        assert_eq!(post.plan(now, STABLE, false), DELAY_MIN);
        assert_eq!(post.again_at, Some(now + DELAY_MIN));
        assert_eq!(post.plan(now, brief, true), DELAY_MAX);
    }
}
