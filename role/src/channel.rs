//! A role's end of its channel to the master.
//!
//! - Receiving never waits, except that a `Pause` is served on the spot: the answer goes out and the process stands still until `Resume`.
//!   The caller of [`Channel::receive`] never sees either, and must call it only where it has nothing half done in the table.
//! - Sending waits for room. The master always reads, so that wait is short; when the master is gone, it ends at once.
//! - After any error the process should end: the master recovers whatever it held.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sys::packet::{self, Arrival};

use crate::message::{Garbled, Message, Seat, ToMaster, ToRole};

/// A message and the descriptors that came with it.
#[derive(Debug)]
pub struct Received<M> {
    /// The message.
    pub message: M,
    /// Its descriptors, in the order they were sent.
    pub descriptors: Vec<OwnedFd>,
}

/// Why a channel cannot be used any more.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The other process is gone.
    #[error("the process at the other end of the channel is gone")]
    Gone,
    /// This process had no room for the descriptors it was sent.
    #[error(
        "descriptors were lost on the channel: this process has as many open as it may (RLIMIT_NOFILE)"
    )]
    DescriptorsLost,
    /// What came is not a message.
    #[error(transparent)]
    Garbled(#[from] Garbled),
    /// The system refused.
    #[error("the channel failed: {0}")]
    Os(#[from] io::Error),
}

/// The role's end. One per process, on its main thread.
pub struct Channel {
    socket: OwnedFd,
    buffer: RefCell<packet::Buffer>,
    /// What came while the process looked for a `Pause` or stood in one, in order.
    waiting: RefCell<VecDeque<Received<ToRole>>>,
}

impl Channel {
    /// Takes over a packet socket whose other end is a [`crate::MasterEnd`].
    pub fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            buffer: RefCell::default(),
            waiting: RefCell::default(),
        }
    }

    /// The next message, or `None` when there is none now. To be called between turns, until it gives `None`.
    ///
    /// # Errors
    /// See [`ChannelError`]; the process should end.
    pub fn receive(&self) -> Result<Option<Received<ToRole>>, ChannelError> {
        loop {
            if let Some(received) = self.waiting.borrow_mut().pop_front() {
                return Ok(Some(received));
            }
            match self.read()? {
                // What comes during the pause is kept, and is next.
                Some(Received {
                    message: ToRole::Pause,
                    ..
                }) => self.stand_still()?,
                other => return Ok(other),
            }
        }
    }

    /// Waits until the master says [`ToRole::Begin`]. What comes before that is kept for [`Self::receive`]; a `Pause` does not, because the
    /// master does not ask a role to stand still that touches nothing.
    ///
    /// # Errors
    /// See [`ChannelError`]; the process should end.
    pub fn await_begin(&self) -> Result<(), ChannelError> {
        loop {
            match self.read()? {
                Some(Received {
                    message: ToRole::Begin,
                    ..
                }) => return Ok(()),
                Some(other) => self.waiting.borrow_mut().push_back(other),
                None => self.poll(PollFlags::POLLIN, PollTimeout::NONE)?,
            }
        }
    }

    /// Sends a message, waiting for room. A list of connections may have any length.
    ///
    /// # Errors
    /// See [`ChannelError`]; the process should end.
    pub fn send(&self, message: &ToMaster) -> Result<(), ChannelError> {
        match message {
            ToMaster::Finished(seats) if seats.len() > Seat::FINISHED_MAX => {
                for part in seats.chunks(Seat::FINISHED_MAX) {
                    self.send_packet(&ToMaster::Finished(part.to_vec()).encode()?)?;
                }
                Ok(())
            }
            ToMaster::Clients(clients) if clients.len() > Seat::CLIENTS_MAX => {
                for part in clients.chunks(Seat::CLIENTS_MAX) {
                    self.send_packet(&ToMaster::Clients(part.to_vec()).encode()?)?;
                }
                Ok(())
            }
            _ => self.send_packet(&message.encode()?),
        }
    }

    /// Serves a `Pause` if the master has asked for one, and otherwise waits for at most a millisecond for that.
    ///
    /// This is the pause point of `shm_table`: a process that waits for a lock whose owner may be dead calls it, because the master
    /// frees such a lock only when everyone alive stands still. Other messages are kept for [`Channel::receive`].
    /// Ends the process when the channel cannot be used: there is nobody left who would free the lock.
    pub fn pause_point(&self) {
        if let Err(error) = self.serve_pause_if_asked() {
            tracing::error!(%error, "ending while waiting for a lock");
            std::process::exit(i32::from(crate::EXIT_FAILED));
        }
    }

    fn serve_pause_if_asked(&self) -> Result<(), ChannelError> {
        self.poll(PollFlags::POLLIN, PollTimeout::from(1u8))?;
        while let Some(received) = self.read()? {
            if received.message == ToRole::Pause {
                return self.stand_still();
            }
            self.waiting.borrow_mut().push_back(received);
        }
        Ok(())
    }

    fn stand_still(&self) -> Result<(), ChannelError> {
        self.send(&ToMaster::Paused)?;
        loop {
            match self.read()? {
                Some(Received {
                    message: ToRole::Resume,
                    ..
                }) => return Ok(()),
                Some(other) => self.waiting.borrow_mut().push_back(other),
                None => self.poll(PollFlags::POLLIN, PollTimeout::NONE)?,
            }
        }
    }

    fn read(&self) -> Result<Option<Received<ToRole>>, ChannelError> {
        let mut descriptors = Vec::new();
        let mut buffer = self.buffer.borrow_mut();
        match packet::receive(self.socket.as_fd(), &mut buffer, &mut descriptors)? {
            Arrival::Packet(len) => Ok(Some(Received {
                message: ToRole::decode(buffer.bytes(len))?,
                descriptors,
            })),
            Arrival::Nothing => Ok(None),
            Arrival::Ended => Err(ChannelError::Gone),
            Arrival::DescriptorsLost => Err(ChannelError::DescriptorsLost),
        }
    }

    fn send_packet(&self, bytes: &[u8]) -> Result<(), ChannelError> {
        loop {
            match packet::send(self.socket.as_fd(), bytes, &[]) {
                Ok(true) => return Ok(()),
                Ok(false) => self.poll(PollFlags::POLLOUT, PollTimeout::NONE)?,
                Err(e)
                    if matches!(
                        e.kind(),
                        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
                    ) =>
                {
                    return Err(ChannelError::Gone);
                }
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Waits until the socket is ready; for `receive` in a role without an event loop of its own.
    pub(crate) fn poll(&self, what: PollFlags, timeout: PollTimeout) -> Result<(), ChannelError> {
        match poll(&mut [PollFd::new(self.socket.as_fd(), what)], timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(e) => Err(ChannelError::Os(e.into())),
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Channel {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}
