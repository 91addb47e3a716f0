//! The master's epoll instance: what it waits for, each with a token that says whose it is.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

/// Whose descriptor is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token {
    /// A signal came.
    Signals,
    /// Somebody connects; number of the listener.
    Listener(u32),
    /// Somebody connects to the control socket.
    Control,
    /// A client of the control socket, by its number.
    ControlClient(u32),
    /// A role's channel, by its pid.
    Role(i32),
    /// A newcomer who was refused, by its number.
    Refusal(u32),
}

impl Token {
    fn pack(self) -> u64 {
        let (kind, number) = match self {
            Self::Signals => (0, 0),
            Self::Listener(n) => (1, n),
            Self::Control => (2, 0),
            Self::ControlClient(n) => (3, n),
            Self::Role(pid) => (4, pid.cast_unsigned()),
            Self::Refusal(n) => (5, n),
        };
        kind << 32 | u64::from(number)
    }

    fn unpack(data: u64) -> Option<Self> {
        let number = data as u32;
        Some(match data >> 32 {
            0 => Self::Signals,
            1 => Self::Listener(number),
            2 => Self::Control,
            3 => Self::ControlClient(number),
            4 => Self::Role(number.cast_signed()),
            5 => Self::Refusal(number),
            _ => return None,
        })
    }
}

/// Waits for descriptors, level-triggered: what is not dealt with is reported again.
pub struct Poller {
    epoll: Epoll,
    events: Vec<EpollEvent>,
}

/// Events taken in one turn.
const EVENTS_MAX: usize = 128;

impl Poller {
    /// # Errors
    /// What the system says.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            events: vec![EpollEvent::empty(); EVENTS_MAX],
        })
    }

    /// Waits for `flags` on a descriptor from now on; also where it was waited for already.
    ///
    /// # Errors
    /// What the system says, out of memory among it.
    pub fn add(&self, fd: impl AsFd, token: Token, flags: EpollFlags) -> io::Result<()> {
        match self.epoll.add(&fd, EpollEvent::new(flags, token.pack())) {
            Err(Errno::EEXIST) => self.modify(fd, token, flags),
            result => Ok(result?),
        }
    }

    /// Waits for other `flags`.
    ///
    /// # Errors
    /// What the system says.
    pub fn modify(&self, fd: impl AsFd, token: Token, flags: EpollFlags) -> io::Result<()> {
        Ok(self
            .epoll
            .modify(fd, &mut EpollEvent::new(flags, token.pack()))?)
    }

    /// Stops waiting for a descriptor, before it is closed: a duplicate elsewhere would keep the registration alive.
    pub fn remove(&self, fd: impl AsFd) {
        if let Err(error) = self.epoll.delete(fd) {
            tracing::error!(%error, "a descriptor could not be taken out of epoll");
        }
    }

    /// Whose descriptors are ready, or broken, after waiting for at most `timeout` (`None`: for as long as it takes). An interrupted wait is an empty one.
    ///
    /// # Errors
    /// What the system says.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<Vec<Token>> {
        // Rounded up: waking a moment early would only mean to wait again.
        let timeout = match timeout {
            None => EpollTimeout::NONE,
            Some(time) => {
                let ms = time.as_micros().div_ceil(1000);
                EpollTimeout::try_from(i32::try_from(ms).unwrap_or(i32::MAX))
                    .unwrap_or(EpollTimeout::MAX)
            }
        };
        let count = match self.epoll.wait(&mut self.events, timeout) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(e) => return Err(e.into()),
        };
        Ok(self.events[..count]
            .iter()
            .filter_map(|event| Token::unpack(event.data()))
            .collect())
    }
}
