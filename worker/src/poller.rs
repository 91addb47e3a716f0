//! The epoll instance that watches every client socket: edge-triggered, both directions, one
//! registration for the whole life of a connection.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

/// Events taken from the kernel at once.
const EVENTS_MAX: usize = 1024;

/// What happened to a socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    /// Row of the connection.
    pub row: u32,
    /// There is something to read, an end of file and an error included.
    pub readable: bool,
    /// The peer will send no more: reading must go on until it says so.
    pub hung_up: bool,
    /// The connection has failed, or both directions have ended.
    pub failed: bool,
    /// There is room to write.
    pub writable: bool,
    /// Urgent data is among what there is to read.
    pub urgent: bool,
}

/// The epoll instance.
#[derive(Debug)]
pub(crate) struct Poller(Epoll);

impl Poller {
    pub fn new() -> io::Result<Self> {
        Ok(Poller(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?))
    }

    /// Watches a socket. What it already has to say is said by the next [`Poller::take`].
    pub fn add(&self, socket: impl AsFd, row: u32) -> io::Result<()> {
        let flags = EpollFlags::EPOLLIN
            | EpollFlags::EPOLLPRI
            | EpollFlags::EPOLLOUT
            | EpollFlags::EPOLLRDHUP
            | EpollFlags::EPOLLET;
        Ok(self.0.add(socket, EpollEvent::new(flags, u64::from(row)))?)
    }

    /// Stops watching. Needed before closing: the master's duplicate keeps the registration alive.
    pub fn remove(&self, socket: impl AsFd) {
        // Nothing is left to do about a failure: the row's next events find no connection.
        let _ = self.0.delete(socket);
    }

    /// Appends what happened, without waiting. True if there may be more.
    pub fn take(&self, events: &mut Vec<Event>) -> io::Result<bool> {
        let mut found = [EpollEvent::empty(); EVENTS_MAX];
        let count = match self.0.wait(&mut found, EpollTimeout::ZERO) {
            Err(nix::errno::Errno::EINTR) => return Ok(true),
            other => other?,
        };
        let gone = EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR;
        events.extend(found.iter().take(count).map(|event| {
            let flags = event.events();
            Event {
                row: event.data() as u32,
                readable: flags.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLPRI | gone),
                hung_up: flags.intersects(gone),
                failed: flags.intersects(EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR),
                writable: flags.contains(EpollFlags::EPOLLOUT),
                urgent: flags.contains(EpollFlags::EPOLLPRI),
            }
        }));
        Ok(count == EVENTS_MAX)
    }
}

impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.0.as_fd()
    }
}

impl AsRawFd for Poller {
    fn as_raw_fd(&self) -> RawFd {
        self.0.0.as_raw_fd()
    }
}
