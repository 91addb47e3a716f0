//! What the system had no room for: a descriptor more, most of all. The master goes on with what it has, tries again after a rest, and says so
//! once: at the beginning and at the end, whatever failed how often in between.

use std::fs::File;
use std::io;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};
use serde::{Deserialize, Serialize};

use crate::master::Master;

/// How long what failed is left alone.
pub const REST: Duration = Duration::from_millis(250);

/// It is over when nothing has failed for so long, and there are this many descriptors to be had: with fewer no process can be started.
const QUIET: Duration = Duration::from_secs(1);
const ENOUGH: usize = 16;

/// Whether there is one now, and what there was.
#[derive(Default)]
pub struct Shortage {
    now: Option<Ongoing>,
    failures: u64,
}

struct Ongoing {
    since: Instant,
    last: Instant,
    look_at: Instant,
    failures: u64,
    what: String,
}

/// One that goes on, for `status`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    pub since_ms: u64,
    /// What failed last, and why.
    pub what: String,
}

impl Shortage {
    /// Notes that the system had no room for something. False: the error is of another kind, and nobody else will tell of it.
    pub fn note(&mut self, what: &str, error: &io::Error) -> bool {
        if !is_shortage(error) {
            return false;
        }
        let now = Instant::now();
        self.failures += 1;
        let what = format!("{what}: {error}");
        if let Some(ongoing) = &mut self.now {
            ongoing.last = now;
            ongoing.failures += 1;
            ongoing.what = what;
            return true;
        }
        let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
        tracing::error!(
            limit,
            "the system has no room: {what}; it is tried again until there is (prlimit --pid {} --nofile=N:N, or LimitNOFILE in a systemd unit)",
            std::process::id()
        );
        self.now = Some(Ongoing {
            since: now,
            last: now,
            look_at: now + REST,
            failures: 1,
            what,
        });
        true
    }

    /// When [`Self::is_over`] has something to do.
    pub fn next_look(&self) -> Option<Instant> {
        self.now.as_ref().map(|ongoing| ongoing.look_at)
    }

    /// Looks whether there is room again. True: from this moment on.
    pub fn is_over(&mut self, now: Instant) -> bool {
        let Some(ongoing) = self.now.as_mut().filter(|ongoing| ongoing.look_at <= now) else {
            return false;
        };
        ongoing.look_at = now + REST;
        if now.saturating_duration_since(ongoing.last) < QUIET || !has_enough() {
            return false;
        }
        tracing::info!(
            after_ms = now.saturating_duration_since(ongoing.since).as_millis(),
            failures = ongoing.failures,
            "the system has room again"
        );
        self.now = None;
        true
    }

    /// For `status`: what goes on, and how often something has failed since the start.
    pub fn report(&self) -> (Option<Report>, u64) {
        let report = self.now.as_ref().map(|ongoing| Report {
            since_ms: u64::try_from(ongoing.since.elapsed().as_millis()).unwrap_or(u64::MAX),
            what: ongoing.what.clone(),
        });
        (report, self.failures)
    }
}

impl Master<'_> {
    /// Does at once, when there is room again, what has waited for it.
    pub fn settle_shortage(&mut self, now: Instant) {
        let is_over = self.shortage.is_over(now);
        if is_over {
            for post in self.posts.iter_mut().filter(|p| p.recruits_at().is_some()) {
                post.again_at = Some(now);
            }
        }
        if self.logs_again_at.is_some_and(|at| at <= now) {
            self.reopen_logs();
        }
    }
}

/// Whether an error says that the system, or this process, has no more of what it takes: descriptors, or memory of the kernel's for them.
pub fn is_shortage(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error().map(Errno::from_raw),
        Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM)
    )
}

fn has_enough() -> bool {
    let opened: Result<Vec<File>, _> = (0..ENOUGH).map(|_| File::open("/dev/null")).collect();
    opened.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_want_of_room_is_one_and_it_ends_after_a_quiet_time() {
        let mut shortage = Shortage::default();
        let other = io::Error::from_raw_os_error(Errno::EACCES as i32);
        assert!(!shortage.note("open a file", &other));
        assert!(shortage.next_look().is_none());

        let none_left = io::Error::from_raw_os_error(Errno::EMFILE as i32);
        assert!(shortage.note("accept", &none_left));
        assert!(shortage.note("start a process", &none_left));
        let (report, failures) = shortage.report();
        assert_eq!(failures, 2);
        assert!(report.unwrap().what.starts_with("start a process: "));

        let now = Instant::now();
        assert!(!shortage.is_over(now + REST), "it has just failed");
        assert!(shortage.next_look().is_some_and(|at| at > now + REST));
        assert!(shortage.is_over(now + QUIET + REST));
        assert!(!shortage.is_over(now + 2 * QUIET), "once");
        assert_eq!((shortage.next_look(), shortage.report().1), (None, 2));
    }
}
