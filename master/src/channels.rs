//! What the master and its processes say to each other: every message has one place here where it is taken or sent.

use std::os::fd::BorrowedFd;
use std::time::Instant;

use nix::sys::epoll::EpollFlags;
use role::{ChannelError, Seat, ToMaster, ToRole};
use shm_table::RowHandle;

use crate::master::Master;
use crate::member::Member;
use crate::poller::Token;
use crate::post::Place;

impl Master<'_> {
    /// Takes what a process has to say.
    pub fn hear_role(&mut self, pid: i32) {
        // Looked for each time: what it says may change its place.
        while let Some((index, place)) = self.find(pid) {
            let post = &mut self.posts[index];
            let (slot, role) = (post.slot, post.role.as_str());
            let member = match place {
                Place::Occupant => &mut post.occupant,
                Place::Candidate => &mut post.candidate,
                Place::Leaver => return,
            };
            let Some(member) = member else { return };
            match (member.channel.receive(&mut self.packet), place) {
                (Ok(None), _) => return,
                (Ok(Some(ToMaster::Ready)), Place::Candidate) => {
                    member.ready = true;
                    tracing::debug!(slot, role, pid, "process ready");
                }
                (Ok(Some(ToMaster::Paused)), Place::Occupant) => member.paused = true,
                (Ok(Some(ToMaster::Finished(seats))), Place::Occupant) => self.finished(&seats),
                (Ok(Some(ToMaster::Clients(clients))), Place::Occupant) => {
                    self.learn_clients(&clients);
                }
                (Ok(Some(ToMaster::Left)), Place::Occupant) if member.told_to_leave.is_some() => {
                    self.left(index, Instant::now());
                    return;
                }
                (Ok(Some(ToMaster::Failed(words))), _) => member.last_words = Some(words),
                (Ok(Some(message)), _) => {
                    member.condemn(&format!("it said {message:?} out of turn"));
                    return;
                }
                (Err(error), _) => {
                    // One that has closed its end is dying or has lost its way. Its descriptor would be reported for ever.
                    if member.registered {
                        self.poller.remove(&*member);
                        member.registered = false;
                    }
                    if !matches!(error, ChannelError::Gone) {
                        member.condemn(&error.to_string());
                    }
                    return;
                }
            }
        }
    }

    fn find(&self, pid: i32) -> Option<(usize, Place)> {
        let mut posts = self.posts.iter().enumerate();
        posts.find_map(|(index, post)| Some((index, post.place_of(pid)?)))
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

    /// Sends every process what waits for it, as far as it takes it, and waits for room where it does not.
    pub fn flush_channels(&mut self) {
        let vault = &self.vault;
        let members = self.posts.iter_mut().flat_map(|post| post.staff());
        for member in members.filter(|member| member.registered) {
            match member
                .channel
                .flush(|seat| -> Option<BorrowedFd<'_>> { vault.descriptor(seat) })
            {
                Ok(()) | Err(ChannelError::Gone) => {}
                Err(error) => member.condemn(&error.to_string()),
            }
            let wants_room = member.channel.waits_for_room();
            if wants_room != member.wants_room {
                let mut flags = EpollFlags::EPOLLIN;
                flags.set(EpollFlags::EPOLLOUT, wants_room);
                match self
                    .poller
                    .modify(&*member, Token::Role(member.pid()), flags)
                {
                    Ok(()) => member.wants_room = wants_room,
                    Err(error) => member.condemn(&error.to_string()),
                }
            }
        }
    }

    /// Whether a channel waits for something that nothing announces.
    pub fn is_crowded(&self) -> bool {
        self.posts
            .iter()
            .filter_map(|post| post.occupant.as_ref())
            .any(|occupant| occupant.channel.is_crowded())
    }

    /// Queues a message for every process, those included that are about to begin.
    pub fn tell_everyone(&mut self, message: &ToRole) {
        for member in self.posts.iter_mut().flat_map(|post| post.staff()) {
            member.channel.queue(message.clone());
        }
    }

    /// Every process at work.
    pub fn occupants(&mut self) -> impl Iterator<Item = &mut Member> {
        self.posts
            .iter_mut()
            .filter_map(|post| post.occupant.as_mut())
    }
}

/// A seat as the table names it.
pub fn row_of(seat: Seat) -> RowHandle {
    RowHandle {
        row: seat.row,
        generation: seat.generation,
    }
}
