//! Supervision: every post is filled, by processes that answer.
//!
//! - `waitpid` is the truth about death; a heartbeat only decides whom to kill.
//! - A post is filled again after a pause that grows while its occupants die young.
//! - A role that is not ready in time counts as wedged, and so does one whose heartbeat is older than `server.watchdog_ms`.

use std::os::fd::BorrowedFd;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use nix::sys::epoll::EpollFlags;
use role::{ChannelError, EXIT_CANNOT_WORK, Seat, ToMaster, ToRole};
use shm_table::RowHandle;

use crate::cli::RoleName;
use crate::master::{Master, watch_interval};
use crate::poller::Token;
use crate::post::{Occupant, Start};
use crate::stop::Phase;

/// A role that has not said that it is at work after this time is killed, and at the start of the server that start has failed.
pub const READY_TIMEOUT: Duration = Duration::from_secs(10);

impl Master<'_> {
    /// Whether empty posts are to be filled now: not while the server stops, and not while the table is being put in order.
    pub fn fills_posts(&self) -> bool {
        matches!(self.phase, Phase::Starting | Phase::Running) && self.recovery.is_none()
    }

    /// Fills the posts whose time has come.
    pub fn fill_posts(&mut self, now: Instant) {
        if !self.fills_posts() {
            return;
        }
        for post in &mut self.posts {
            if post.again_at.is_none_or(|at| at > now) {
                continue;
            }
            let with = Start {
                executable: &self.executable,
                table: self.table,
                segment: &self.segment,
                settings: &self.config,
                doorbells: &self.doorbells,
            };
            let started = post.fill(&with).and_then(|()| match &mut post.occupant {
                None => Ok(()),
                Some(occupant) => {
                    self.poller.add(
                        &*occupant,
                        Token::Role(post.slot.into()),
                        EpollFlags::EPOLLIN,
                    )?;
                    occupant.registered = true;
                    Ok(())
                }
            });
            match started {
                Ok(()) => tracing::debug!(
                    slot = post.slot,
                    role = post.role.as_str(),
                    "process started"
                ),
                Err(error) => {
                    if let Some(occupant) = &mut post.occupant {
                        occupant.condemn("its channel cannot be waited for");
                    } else {
                        post.plan(now, Duration::ZERO, false);
                    }
                    tracing::error!(%error, slot = post.slot, role = post.role.as_str(), "a process cannot be started");
                    if matches!(self.phase, Phase::Starting) {
                        self.phase = Phase::Over(Err(format!(
                            "a {} cannot be started: {error}",
                            post.role.as_str()
                        )));
                        return;
                    }
                }
            }
        }
    }

    /// Looks who has ended.
    pub fn reap(&mut self) {
        for index in 0..self.posts.len() {
            let Some(occupant) = &mut self.posts[index].occupant else {
                continue;
            };
            if let Some(status) = occupant.ended() {
                // What it said before its end still counts.
                self.hear_role(self.posts[index].slot.into());
                self.bury(index, status);
            }
        }
    }

    /// A process has ended: empties its post and plans what follows.
    fn bury(&mut self, index: usize, status: ExitStatus) {
        let now = Instant::now();
        let post = &mut self.posts[index];
        let (slot, role) = (post.slot, post.role.as_str());
        let Some(occupant) = post.occupant.take() else {
            return;
        };
        if occupant.registered {
            self.poller.remove(&occupant);
        }
        self.table.process_ended(occupant.id);
        let (pid, lived) = (occupant.pid(), occupant.age(now));
        if matches!(self.phase, Phase::Starting) {
            self.phase = Phase::Over(Err(format!(
                "a {role} (slot {slot}, pid {pid}) ended at its start: {status}; its lines above or in the log say why"
            )));
            return;
        }
        if self.phase.is_stopping() {
            if status.success() {
                tracing::debug!(slot, role, pid, "process ended as asked");
                return;
            }
            tracing::error!(slot, role, pid, %status, "a process died while the server was stopping");
        } else {
            let cannot_work = status.code() == Some(EXIT_CANNOT_WORK.into());
            let pause = post.plan(now, lived, cannot_work);
            tracing::error!(slot, role, pid, %status, ?lived, again_in = ?pause, "a process died");
        }
        self.begin_recovery(occupant.id, now);
    }

    /// Takes what a role has to say.
    pub fn hear_role(&mut self, slot: u32) {
        let Some(index) = self
            .posts
            .iter()
            .position(|post| u32::from(post.slot) == slot)
        else {
            return;
        };
        loop {
            let post = &mut self.posts[index];
            let Some(occupant) = &mut post.occupant else {
                return;
            };
            match occupant.channel.receive(&mut self.packet) {
                Ok(None) => return,
                Ok(Some(ToMaster::Ready)) => {
                    occupant.ready = true;
                    occupant.watched_from = Instant::now();
                    tracing::info!(
                        slot,
                        role = post.role.as_str(),
                        pid = occupant.pid(),
                        "process ready"
                    );
                }
                Ok(Some(ToMaster::Paused)) => occupant.paused = true,
                Ok(Some(ToMaster::Finished(seats))) => self.finished(&seats),
                Err(error) => {
                    // A role that has closed its end is dying or has lost its way. Its descriptor would be reported for ever.
                    if occupant.registered {
                        self.poller.remove(&*occupant);
                        occupant.registered = false;
                    }
                    if !matches!(error, ChannelError::Gone) {
                        occupant.condemn(&error.to_string());
                    }
                    return;
                }
            }
        }
    }

    /// Connections are over: their duplicates are closed and their rows free.
    fn finished(&mut self, seats: &[Seat]) {
        for &seat in seats {
            self.vault.close(seat);
            if !self.seats.free(row_of(seat)) {
                tracing::error!(
                    row = seat.row,
                    generation = seat.generation,
                    "a row that is not over was said to be"
                );
            }
        }
    }

    /// Looks after the processes: kills those that do not answer.
    pub fn watch(&mut self, now: Instant) {
        if now < self.watch_at {
            return;
        }
        let interval = watch_interval(&self.config);
        let held_up = now.duration_since(self.watch_at) > interval;
        self.watch_at = now + interval;
        self.hands.heartbeat();
        let limit = Duration::from_millis(self.config.server.watchdog_ms.into());
        for post in &mut self.posts {
            let Some(occupant) = &mut post.occupant else {
                continue;
            };
            if held_up || occupant.told_to_pause {
                // The whole machine may have stood still, or the process does as it was told: it gets its time anew.
                occupant.watched_from = now;
                continue;
            }
            let watched = now.saturating_duration_since(occupant.watched_from);
            let silent = Duration::from_millis(self.table.heartbeat_age_ms(post.slot));
            if !occupant.ready && watched > READY_TIMEOUT {
                occupant.condemn("it was not ready in time");
            } else if occupant.ready && watched > limit && silent > limit {
                occupant.condemn("it gave no sign of life for longer than server.watchdog_ms");
            }
        }
    }

    /// Sends every role what waits for it, as far as it takes it, and waits for room where it does not.
    pub fn flush_channels(&mut self) {
        let vault = &self.vault;
        for post in &mut self.posts {
            let Some(occupant) = &mut post.occupant else {
                continue;
            };
            if !occupant.registered {
                continue;
            }
            match occupant
                .channel
                .flush(|seat| -> Option<BorrowedFd<'_>> { vault.descriptor(seat) })
            {
                Ok(()) | Err(ChannelError::Gone) => {}
                Err(error) => occupant.condemn(&error.to_string()),
            }
            let wants_room = occupant.channel.waits_for_room();
            if wants_room != occupant.wants_room {
                let mut flags = EpollFlags::EPOLLIN;
                flags.set(EpollFlags::EPOLLOUT, wants_room);
                match self
                    .poller
                    .modify(&*occupant, Token::Role(post.slot.into()), flags)
                {
                    Ok(()) => occupant.wants_room = wants_room,
                    Err(error) => occupant.condemn(&error.to_string()),
                }
            }
        }
    }

    /// Queues a message for every process.
    pub fn tell_everyone(&mut self, message: &ToRole) {
        for occupant in self.occupants() {
            occupant.channel.queue(message.clone());
        }
    }

    /// Every process that lives, as far as is known.
    pub fn occupants(&mut self) -> impl Iterator<Item = &mut Occupant> {
        self.posts
            .iter_mut()
            .filter_map(|post| post.occupant.as_mut())
    }

    /// Whether any process of that role lives.
    pub fn has(&self, role: RoleName) -> bool {
        self.posts
            .iter()
            .any(|post| post.role == role && post.occupant.is_some())
    }
}

/// A seat as the table names it.
pub fn row_of(seat: Seat) -> RowHandle {
    RowHandle {
        row: seat.row,
        generation: seat.generation,
    }
}
