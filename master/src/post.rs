//! A post: a process slot with the role that belongs there, who fills it at the moment, who could, and when it is filled again.
//!
//! A post has at most one occupant, which alone works on the table under the post's slot, and at most one candidate, which is started
//! beside it and touches nothing until the post is its own. First start, reload, upgrade and crash are the same to both.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::rc::Rc;
use std::time::{Duration, Instant};

use role::{Hello, Luggage, MasterEnd, ToRole, logging};
use shm_table::{FIRST_WORKER, LINK, Role, Slot, TIMER};

use crate::cli::RoleName;
use crate::image::Image;
use crate::member::Member;
use crate::process::{Ending, Process};
use crate::segment::Segment;

/// First pause before a post is filled again whose occupant died young; each further one is twice as long.
const DELAY_MIN: Duration = Duration::from_millis(100);
/// Longest pause, and the pause after a role said that it cannot work.
const DELAY_MAX: Duration = Duration::from_secs(10);
/// An occupant that dies after less is said to have died young. After more, its successor is started at once.
pub const YOUNG: Duration = Duration::from_secs(1);

/// A place for a process.
pub struct Post {
    /// What belongs here.
    pub role: RoleName,
    /// The process slot.
    pub slot: Slot,
    /// Who works here.
    pub occupant: Option<Member>,
    /// Who is to work here next.
    pub candidate: Option<Member>,
    /// Those who have left and have not ended yet.
    pub leavers: Vec<Member>,
    /// When a candidate is started for an empty post.
    pub again_at: Option<Instant>,
    /// Processes that ended here without having been asked to.
    pub deaths: u32,
    /// The next pause.
    pub delay: Duration,
    /// Since when it has had no occupant; `None` while there is one, and before the first.
    pub vacant_since: Option<Instant>,
    /// Candidates that have failed since then.
    pub failures: u32,
}

/// What a member is at its post.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Occupant,
    Candidate,
    Leaver,
}

/// What every role is started with.
pub struct Start<'a> {
    pub image: &'a Rc<Image>,
    pub segment: &'a Segment,
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
            candidate: None,
            leavers: Vec::new(),
            again_at: Some(now),
            deaths: 0,
            delay: DELAY_MIN,
            vacant_since: None,
            failures: 0,
        }
    }

    /// The posts of a server, each empty: where it is one of several hosts, also the link's.
    pub fn all(config: &config::Config, slots: Slot, now: Instant) -> Vec<Self> {
        let link = config
            .cluster
            .enabled
            .then(|| Self::new(RoleName::Link, LINK, now));
        std::iter::once(Self::new(RoleName::Timer, TIMER, now))
            .chain(link)
            .chain((FIRST_WORKER..slots).map(|slot| Self::new(RoleName::Worker, slot, now)))
            .collect()
    }

    /// Starts a candidate. It finds its first message waiting.
    ///
    /// # Errors
    /// What the system says; there is no candidate then.
    pub fn recruit(&mut self, with: &Start<'_>) -> io::Result<&mut Member> {
        let (mut channel, stdin) = MasterEnd::pair()?;
        let doorbells = with
            .doorbells
            .iter()
            .map(OwnedFd::try_clone)
            .collect::<io::Result<Vec<_>>>()?;
        let Segment { table, claim } = with.segment;
        let segment = table.file().ok_or(io::ErrorKind::NotFound)?;
        let luggage = Luggage {
            doorbells,
            segment: segment.try_clone_to_owned()?,
        };
        let log = logging::for_a_child()?;
        let id = table.next_process(self.slot);
        let hello = Hello {
            slot: self.slot,
            incarnation: id.incarnation,
            segment: claim.name().to_owned(),
            identity: table.identity().0,
            doorbells: table.slots(),
            settings: with.settings.clone(),
        };
        channel.queue_with(ToRole::Hello(Box::new(hello)), luggage.into_list());
        channel.flush(|_| None).map_err(io::Error::other)?;
        let process = Process::start(
            with.image
                .command()
                .args([
                    "--role",
                    self.role.as_str(),
                    "--slot",
                    &self.slot.to_string(),
                ])
                .stdin(Stdio::from(stdin))
                .stdout(Stdio::null())
                // The log. What a role needs is handed down: it could not be found by name any more, or may not be opened.
                .stderr(log)
                // Ctrl-C in a terminal is for the master, which asks its roles in order.
                .process_group(0),
        )?;
        let image = Rc::clone(with.image);
        Ok(self
            .candidate
            .insert(Member::new(id, channel, image, process)))
    }

    /// Plans when an empty post gets its next candidate. `lived`: how long the last process worked here; `cannot_work`: it said so.
    pub fn plan(&mut self, now: Instant, lived: Duration, cannot_work: bool) -> Duration {
        let pause = if cannot_work {
            DELAY_MAX
        } else if lived >= YOUNG {
            Duration::ZERO
        } else {
            self.delay
        };
        self.delay = if lived >= YOUNG {
            DELAY_MIN
        } else {
            (self.delay * 2).min(DELAY_MAX)
        };
        self.again_at = Some(now + pause);
        pause
    }

    /// When a candidate is to be started; `None` while there is an occupant or a candidate.
    pub fn recruits_at(&self) -> Option<Instant> {
        self.again_at
            .filter(|_| self.occupant.is_none() && self.candidate.is_none())
    }

    /// An occupant, or a candidate who can be one at once.
    pub fn has_somebody(&self) -> bool {
        let is_ready = |candidate: &Member| candidate.ready && !candidate.is_condemned();
        self.occupant.is_some() || self.candidate.as_ref().is_some_and(is_ready)
    }

    /// Whether it is empty and could not be filled.
    pub fn cannot_be_filled(&self) -> bool {
        self.occupant.is_none() && self.failures > 0
    }

    /// Nobody is here in any way.
    pub fn is_deserted(&self) -> bool {
        self.occupant.is_none() && self.candidate.is_none() && self.leavers.is_empty()
    }

    /// Everyone of this post whom the master talks to.
    pub fn staff(&mut self) -> impl Iterator<Item = &mut Member> {
        self.occupant.iter_mut().chain(&mut self.candidate)
    }

    /// Everyone of this post who has not been waited for.
    pub fn everyone(&mut self) -> impl Iterator<Item = &mut Member> {
        self.occupant
            .iter_mut()
            .chain(&mut self.candidate)
            .chain(&mut self.leavers)
    }

    /// One who has ended.
    pub fn find_ended(&mut self) -> Option<(i32, Ending)> {
        self.everyone()
            .find_map(|member| Some((member.pid(), member.ended()?)))
    }

    /// What a process is here.
    pub fn place_of(&self, pid: i32) -> Option<Place> {
        let is = |member: &Member| member.pid() == pid;
        if self.occupant.as_ref().is_some_and(is) {
            Some(Place::Occupant)
        } else if self.candidate.as_ref().is_some_and(is) {
            Some(Place::Candidate)
        } else if self.leavers.iter().any(is) {
            Some(Place::Leaver)
        } else {
            None
        }
    }

    /// Lets a process go that has ended.
    pub fn remove(&mut self, pid: i32) -> Option<(Place, Member)> {
        let place = self.place_of(pid)?;
        let member = match place {
            Place::Occupant => self.occupant.take(),
            Place::Candidate => self.candidate.take(),
            Place::Leaver => {
                let index = self.leavers.iter().position(|m| m.pid() == pid)?;
                Some(self.leavers.swap_remove(index))
            }
        };
        Some((place, member?))
    }

    /// As it stands in the log and in an answer.
    pub fn name(&self) -> String {
        format!("{} {}", self.role.as_str(), self.slot)
    }

    /// What the table calls the role.
    pub fn table_role(&self) -> Role {
        match self.role {
            RoleName::Worker => Role::Worker,
            RoleName::Timer => Role::Timer,
            RoleName::Link => Role::Link,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_link_only_where_there_is_a_cluster() {
        let mut config = config::Config::default();
        let posts = |config: &config::Config| {
            Post::all(config, FIRST_WORKER + 2, Instant::now())
                .iter()
                .map(Post::name)
                .collect::<Vec<_>>()
        };
        assert_eq!(posts(&config), ["timer 1", "worker 4", "worker 5"]);
        config.cluster.enabled = true;
        assert_eq!(
            posts(&config),
            ["timer 1", "link 2", "worker 4", "worker 5"]
        );
    }

    #[test]
    fn the_pause_doubles_up_to_a_limit_and_there_is_none_after_a_good_run() {
        let now = Instant::now();
        let mut post = Post::new(RoleName::Worker, 4, now);
        assert_eq!(post.recruits_at(), Some(now));
        let brief = Duration::from_millis(5);
        let pauses: Vec<_> = (0..9)
            .map(|_| post.plan(now, brief, false).as_millis())
            .collect();
        assert_eq!(
            pauses,
            [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]
        );
        assert_eq!(post.plan(now, YOUNG, false), Duration::ZERO);
        assert_eq!(post.recruits_at(), Some(now));
        assert_eq!(post.plan(now, brief, false), DELAY_MIN);
        assert_eq!(post.plan(now, YOUNG, true), DELAY_MAX);
        assert_eq!(post.again_at, Some(now + DELAY_MAX));
    }
}
