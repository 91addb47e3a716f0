//! Signals as events of the master's loop: they are blocked, and read from a descriptor, so no handler ever runs.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// What a signal asks of the master.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// TERM, INT.
    Stop,
    /// USR1.
    Reload,
    /// USR2.
    Upgrade,
    /// HUP.
    ReopenLogs,
    /// CHLD: a process has ended.
    Reap,
}

/// The signals that the master answers.
pub struct Signals(SignalFd);

impl Signals {
    /// Blocks them and collects them here from now on. Before any process is started, so that no death is missed.
    ///
    /// # Errors
    /// What the system says.
    pub fn new() -> io::Result<Self> {
        sys::children::keep_until_waited_for()?;
        let mut set = SigSet::empty();
        for signal in [
            Signal::SIGCHLD,
            Signal::SIGHUP,
            Signal::SIGINT,
            Signal::SIGTERM,
            Signal::SIGUSR1,
            Signal::SIGUSR2,
            // No wish: a line to a terminal with `stty tostop` would stop a server in its background.
            Signal::SIGTTOU,
        ] {
            set.add(signal);
        }
        set.thread_block()?;
        Ok(Self(SignalFd::with_flags(
            &set,
            SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK,
        )?))
    }

    /// The next signal that came, if any.
    ///
    /// # Errors
    /// What the system says.
    pub fn next(&self) -> io::Result<Option<Wish>> {
        while let Some(info) = self.0.read_signal()? {
            let wish = match i32::try_from(info.ssi_signo)
                .ok()
                .and_then(|n| Signal::try_from(n).ok())
            {
                Some(Signal::SIGTERM | Signal::SIGINT) => Wish::Stop,
                Some(Signal::SIGUSR1) => Wish::Reload,
                Some(Signal::SIGUSR2) => Wish::Upgrade,
                Some(Signal::SIGHUP) => Wish::ReopenLogs,
                Some(Signal::SIGCHLD) => Wish::Reap,
                _ => continue,
            };
            return Ok(Some(wish));
        }
        Ok(None)
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
