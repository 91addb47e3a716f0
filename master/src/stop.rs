//! The life of the server as phases, and its end: announce, flush, close, and leave nothing behind.
//!
//! The workers end first, each when its last connection is gone, then the timer, which watches their deadlines until then, and the
//! link, which carries their letters until then and takes what this host has out of the directory.
//! Each of the two parts is bounded by `limits.drain_timeout_ms` or a margin; whoever is left then is killed. A second request stops at
//! once.

use std::time::{Duration, Instant};

use config::Config;
use role::ToRole;

use crate::cli::RoleName;
use crate::master::Master;
use crate::post::Post;

/// Time past `limits.drain_timeout_ms` for the processes to end once their connections are gone.
const MARGIN: Duration = Duration::from_secs(2);

/// How long the last processes may take to end; a link has `limits.drain_timeout_ms` where that is more.
const ENDING_TIMEOUT: Duration = Duration::from_secs(2);

/// Where in its life the server is.
#[derive(Clone, Debug)]
pub enum Phase {
    /// Not all processes are at work yet; nobody is let in.
    Starting,
    /// At work.
    Running,
    /// The workers say goodbye to their clients, until then.
    Draining(Instant),
    /// The last processes end, until then.
    Ending(Instant),
    /// The master ends, with this result.
    Over(Result<(), String>),
}

impl Phase {
    /// Whether the server has been asked to stop.
    pub fn is_stopping(&self) -> bool {
        matches!(self, Self::Draining(_) | Self::Ending(_) | Self::Over(_))
    }

    /// When this phase has to be over.
    pub fn until(&self) -> Option<Instant> {
        match self {
            Self::Draining(until) | Self::Ending(until) => Some(*until),
            Self::Starting | Self::Running | Self::Over(_) => None,
        }
    }

    /// The name that `status` shows.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Draining(_) => "draining",
            Self::Ending(_) | Self::Over(_) => "ending",
        }
    }
}

/// See [`ENDING_TIMEOUT`].
fn ending_timeout(config: &Config) -> Duration {
    let drain = Duration::from_millis(config.limits.drain_timeout_ms.into());
    if config.cluster.enabled {
        drain.max(ENDING_TIMEOUT)
    } else {
        ENDING_TIMEOUT
    }
}

impl Master<'_> {
    /// Begins the stop; asked again, ends it.
    pub fn stop(&mut self, asked_by: &str) {
        if self.phase.is_stopping() {
            tracing::warn!(asked_by, "asked to stop again: stopping at once");
            self.phase = Phase::Over(Ok(()));
            return;
        }
        tracing::info!(asked_by, sessions = self.seats.seated(), "stopping");
        self.table.set_draining(true);
        let drain = Duration::from_millis(self.config.limits.drain_timeout_ms.into());
        let now = Instant::now();
        self.phase = Phase::Draining(now + drain + MARGIN);
        // Before the workers are told, who might be done with their own before they have been given the others.
        self.settle_stranded(now);
        self.drain(RoleName::Worker);
    }

    /// Goes from one phase to the next when its time or its condition has come.
    pub fn settle_phase(&mut self, now: Instant) {
        match self.phase {
            Phase::Starting if self.everyone_is_ready() => {
                tracing::info!(processes = self.posts.len(), "the server is ready");
                self.phase = Phase::Running;
            }
            Phase::Draining(until) if !self.is_serving() || now >= until => {
                if now >= until {
                    self.condemn_all(
                        RoleName::Worker,
                        "it did not end within limits.drain_timeout_ms",
                    );
                }
                self.phase = Phase::Ending(now + ending_timeout(&self.config));
                self.drain(RoleName::Timer);
                self.drain(RoleName::Link);
            }
            Phase::Ending(until) if self.posts.iter().all(Post::is_deserted) || now >= until => {
                for post in self.posts.iter().filter(|post| !post.is_deserted()) {
                    tracing::warn!(
                        process = post.name(),
                        "it did not end in time and is killed"
                    );
                }
                tracing::info!("stopped");
                self.phase = Phase::Over(Ok(()));
            }
            _ => {}
        }
    }

    /// How long the stop that is under way may take from now on.
    pub fn longest_stop(&self, now: Instant) -> Duration {
        let left = self
            .phase
            .until()
            .map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
        match self.phase {
            Phase::Draining(_) => left + ending_timeout(&self.config),
            _ => left,
        }
    }

    fn everyone_is_ready(&self) -> bool {
        self.posts.iter().all(|post| post.occupant.is_some())
    }

    /// Whether there is a worker, or connections for which there will be one.
    fn is_serving(&self) -> bool {
        (0..self.posts.len()).any(|index| {
            let post = &self.posts[index];
            post.role == RoleName::Worker && (post.occupant.is_some() || self.is_wanted(index))
        })
    }

    fn drain(&mut self, role: RoleName) {
        for post in self.posts.iter_mut().filter(|post| post.role == role) {
            if let Some(occupant) = &mut post.occupant {
                occupant.channel.queue(ToRole::Drain);
            }
        }
    }

    fn condemn_all(&mut self, role: RoleName, reason: &str) {
        for post in self.posts.iter_mut().filter(|post| post.role == role) {
            if let Some(occupant) = &mut post.occupant {
                occupant.condemn(reason);
            }
        }
    }

    /// The last act: ends every process that is left and waits for it, and leaves it to the end of this process to tell those who wait.
    pub fn end(&mut self) {
        for member in self.posts.iter_mut().flat_map(Post::everyone) {
            member.end_now();
        }
        self.control.keep_until_the_end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_link_may_take_long_to_end() {
        let mut config = Config::default();
        config.limits.drain_timeout_ms = 7_000;
        assert_eq!(ending_timeout(&config), ENDING_TIMEOUT);
        config.cluster.enabled = true;
        assert_eq!(ending_timeout(&config), Duration::from_secs(7));
        config.limits.drain_timeout_ms = 0;
        assert_eq!(ending_timeout(&config), ENDING_TIMEOUT);
    }
}
