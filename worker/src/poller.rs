//! What a worker sleeps on: one epoll instance for every client socket, the master's channel and the doorbell.
//!
//! Sockets are watched edge-triggered, in both directions, by one registration for the whole life of a connection. There is no runtime
//! around this: it would ask an instance of its own before and after, two more system calls a turn, and have this one nested in it,
//! which the kernel pays for with each packet.

use std::io;
use std::os::fd::AsFd;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

/// Stand where a socket has its row.
const CHANNEL: u64 = u64::MAX;
const DOORBELL: u64 = u64::MAX - 1;

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

/// What else woke the worker, or has something to say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Woken {
    pub channel: bool,
    pub doorbell: bool,
}

/// The epoll instance.
#[derive(Debug)]
pub(crate) struct Poller {
    epoll: Epoll,
    found: Vec<EpollEvent>,
}

impl Poller {
    pub fn new() -> io::Result<Self> {
        Ok(Poller {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            found: vec![EpollEvent::empty(); EVENTS_MAX],
        })
    }

    /// Watches the channel and the doorbell as well: each is told as long as it has something to say.
    pub fn watch(&self, channel: impl AsFd, doorbell: impl AsFd) -> io::Result<()> {
        let event = |source| EpollEvent::new(EpollFlags::EPOLLIN, source);
        self.epoll.add(channel, event(CHANNEL))?;
        Ok(self.epoll.add(doorbell, event(DOORBELL))?)
    }

    /// Watches a socket. What it already has to say is said by the next [`Poller::wait`].
    pub fn add(&self, socket: impl AsFd, row: u32) -> io::Result<()> {
        let flags = EpollFlags::EPOLLIN
            | EpollFlags::EPOLLPRI
            | EpollFlags::EPOLLOUT
            | EpollFlags::EPOLLRDHUP
            | EpollFlags::EPOLLET;
        Ok(self
            .epoll
            .add(socket, EpollEvent::new(flags, u64::from(row)))?)
    }

    /// Stops watching. Needed before closing: the master's duplicate keeps the registration alive.
    pub fn remove(&self, socket: impl AsFd) {
        // Nothing is left to do about a failure: the row's next events find no connection.
        let _ = self.epoll.delete(socket);
    }

    /// Waits at most `most_ms` milliseconds, not at all with 0, and appends what happened to sockets. There may be more: ask again.
    pub fn wait(&mut self, most_ms: u16, events: &mut Vec<Event>) -> io::Result<Woken> {
        let mut woken = Woken::default();
        let count = match self
            .epoll
            .wait(&mut self.found, EpollTimeout::from(most_ms))
        {
            Err(nix::errno::Errno::EINTR) => return Ok(woken),
            other => other?,
        };
        let gone = EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR;
        for event in self.found.iter().take(count) {
            match event.data() {
                CHANNEL => woken.channel = true,
                DOORBELL => woken.doorbell = true,
                row => {
                    let flags = event.events();
                    events.push(Event {
                        row: row as u32,
                        readable: flags
                            .intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLPRI | gone),
                        hung_up: flags.intersects(gone),
                        failed: flags.intersects(EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR),
                        writable: flags.contains(EpollFlags::EPOLLOUT),
                        urgent: flags.contains(EpollFlags::EPOLLPRI),
                    });
                }
            }
        }
        Ok(woken)
    }
}
