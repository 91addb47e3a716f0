//! From an empty post to an occupied one: a candidate is started, and when it is ready and nobody else is there, the post becomes its own.
//!
//! - A candidate may be started at any time, beside a living occupant and while the table is put in order: it touches nothing.
//! - It is promoted only when its predecessor is dead and accounted for, or has left. It gets every connection of the slot then, those that
//!   its predecessor served and those that nobody has served yet.
//! - A slot that cannot be filled keeps nobody waiting: see `stranded`.
//! - While the server stops, only a post that still has connections is filled, and the link's until the last of them is gone.

use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::sys::epoll::EpollFlags;
use role::{Seat, ToRole};

use crate::cli::RoleName;
use crate::image::Image;
use crate::master::Master;
use crate::poller::Token;
use crate::post::Start;
use crate::shortage::REST;
use crate::stop::Phase;

/// Why a candidate could not be started.
pub struct Refused {
    pub why: String,
    /// The system had no room for it.
    pub no_room: bool,
}

impl Master<'_> {
    /// Whether a post is to have an occupant now.
    pub fn is_wanted(&self, index: usize) -> bool {
        let post = &self.posts[index];
        match self.phase {
            Phase::Starting | Phase::Running => true,
            Phase::Draining(_) => match post.role {
                RoleName::Worker => self.vault.of_worker(post.slot) > 0,
                // Without one, other hosts would look for this host's users here until the lease is over.
                RoleName::Link => true,
                RoleName::Timer => false,
            },
            Phase::Ending(_) | Phase::Over(_) => false,
        }
    }

    /// When the next empty post is to get a candidate.
    pub fn next_recruit(&self) -> Option<Instant> {
        (0..self.posts.len())
            .filter(|&index| self.is_wanted(index))
            .filter_map(|index| self.posts[index].recruits_at())
            .min()
    }

    /// Starts candidates for the posts whose time has come, promotes those that are ready, and sends those away that nobody needs.
    pub fn fill_posts(&mut self, now: Instant) {
        for index in 0..self.posts.len() {
            if !self.is_wanted(index) {
                self.dismiss_candidate(index);
                continue;
            }
            if self.posts[index].recruits_at().is_some_and(|at| at <= now) {
                let image = self.image_for(index);
                if let Err(error) = self.recruit(index, &image) {
                    self.cannot_recruit(index, &error, now);
                }
            }
            self.promote(index, now);
        }
        if self.phase.is_stopping() {
            for index in 0..self.posts.len() {
                if self.posts[index]
                    .occupant
                    .as_ref()
                    .is_some_and(|o| o.stays())
                {
                    self.dismiss_candidate(index);
                }
            }
        }
    }

    /// Starts a candidate for a post; its pid.
    ///
    /// # Errors
    /// Why it could not be started; where the system had no room for it, that is noted.
    pub fn recruit(&mut self, index: usize, image: &Rc<Image>) -> Result<i32, Refused> {
        let post = &mut self.posts[index];
        let role = post.role.as_str();
        let with = Start {
            image,
            segment: self.segment,
            settings: &self.config,
            doorbells: &self.doorbells,
        };
        let candidate = match post.recruit(&with) {
            Ok(candidate) => candidate,
            Err(error) => {
                let no_room = self.shortage.note(&format!("start a {role}"), &error);
                let why = image.cannot_be_executed(&error);
                return Err(Refused { why, no_room });
            }
        };
        let pid = candidate.pid();
        match self
            .poller
            .add(&*candidate, Token::Role(pid), EpollFlags::EPOLLIN)
        {
            Ok(()) => candidate.registered = true,
            Err(error) => candidate.condemn(&format!("its channel cannot be waited for: {error}")),
        }
        tracing::debug!(slot = post.slot, role, pid, "process started");
        Ok(pid)
    }

    fn cannot_recruit(&mut self, index: usize, refused: &Refused, now: Instant) {
        let (slot, role) = (self.posts[index].slot, self.posts[index].role.as_str());
        let why = &refused.why;
        self.posts[index].failures += 1;
        if matches!(self.phase, Phase::Starting) {
            self.phase = Phase::Over(Err(format!("a {role} cannot be started: {why}")));
        } else if refused.no_room {
            // It is told of already, and is nobody's fault who would have to wait longer each time.
            self.again_in(index, now, REST);
        } else {
            tracing::error!(slot, role, error = why, "a process cannot be started");
            self.plan(index, now, Duration::ZERO, false);
        }
    }

    /// Plans when an empty post is filled again, for everybody to see; how long that is.
    pub fn plan(
        &mut self,
        index: usize,
        now: Instant,
        lived: Duration,
        cannot_work: bool,
    ) -> Duration {
        let pause = self.posts[index].plan(now, lived, cannot_work);
        self.again_in(index, now, pause);
        pause
    }

    fn again_in(&mut self, index: usize, now: Instant, pause: Duration) {
        let post = &mut self.posts[index];
        post.again_at = Some(now + pause);
        if !pause.is_zero() {
            let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
            let at_ms = self.table.now_ms().saturating_add(pause_ms);
            self.table.await_start(post.slot, post.table_role(), at_ms);
        }
    }

    /// Gives an empty post to its candidate, if that is ready and the table is in order.
    fn promote(&mut self, index: usize, now: Instant) {
        let post = &mut self.posts[index];
        if self.standstill.is_some() || post.occupant.is_some() {
            return;
        }
        let Some(mut member) = post.candidate.take_if(|c| c.ready && !c.is_condemned()) else {
            return;
        };
        // Asked first: what the one before was reading when it ended goes to its successor before everything else.
        let interrupted = self.table.interrupted(post.slot).map(|row| Seat {
            row: row.row,
            generation: row.generation,
        });
        // As it was told at its start.
        self.table.begin_process(member.id, post.table_role());
        self.table.set_pid(member.id, member.pid());
        member.channel.queue(ToRole::Begin);
        let mut seats = 0;
        let first = interrupted.filter(|&seat| self.vault.worker_of(seat) == Some(post.slot));
        let others = self
            .vault
            .of_slot(post.slot)
            .filter(|&seat| Some(seat) != first);
        for seat in first.into_iter().chain(others) {
            member.channel.queue_seat(seat);
            seats += 1;
        }
        if self.phase.is_stopping() && post.role == RoleName::Worker {
            member.channel.queue(ToRole::Drain);
        }
        member.promoted(now);
        tracing::info!(
            slot = post.slot,
            role = post.role.as_str(),
            pid = member.pid(),
            seats,
            "process at work"
        );
        post.again_at = None;
        post.vacant_since = None;
        post.failures = 0;
        post.occupant = Some(member);
    }

    /// An occupant has let go of everything: its post is free for its successor.
    pub fn left(&mut self, index: usize, now: Instant) {
        let post = &mut self.posts[index];
        let Some(mut member) = post.occupant.take() else {
            return;
        };
        if member.registered {
            self.poller.remove(&member);
            member.registered = false;
        }
        self.table.process_ended(member.id);
        member.watched_from = now;
        tracing::debug!(
            slot = post.slot,
            pid = member.pid(),
            "process left its post"
        );
        if post.candidate.is_none() {
            post.again_at = Some(now);
        }
        post.vacant_since = Some(now);
        post.leavers.push(member);
    }

    fn dismiss_candidate(&mut self, index: usize) {
        if let Some(candidate) = &mut self.posts[index].candidate {
            candidate.condemn("it is not needed any more");
        }
    }
}
