//! The master's end of a role's channel. It never waits: what the role does not take now stays queued here, in order.
//!
//! Seats that follow each other travel in one packet. Their descriptors are looked up only when the packet is sent, because until then the
//! vault may have closed them: a seat whose connection is gone by then is left out.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use sys::packet::{self, Arrival};

use crate::channel::ChannelError;
use crate::message::{Message, Seat, ToMaster, ToRole};

enum Outgoing {
    Seat(Seat),
    Message {
        message: ToRole,
        descriptors: Vec<OwnedFd>,
    },
}

/// The master's end. Dropping it is how a role learns that it is not wanted any more.
pub struct MasterEnd {
    socket: OwnedFd,
    queue: VecDeque<Outgoing>,
    /// The system had too many descriptors on their way at the last attempt.
    crowded: bool,
}

impl MasterEnd {
    /// Makes a channel: the master's end, and the socket that becomes the role's standard input.
    ///
    /// # Errors
    /// What the system says, `EMFILE` among it.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let (socket, theirs) = packet::pair()?;
        Ok((Self::new(socket), theirs))
    }

    /// The master's end of a channel that another master has made, with nothing queued.
    pub fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            queue: VecDeque::new(),
            crowded: false,
        }
    }

    /// Queues a message. Nothing is sent before [`Self::flush`].
    pub fn queue(&mut self, message: ToRole) {
        self.queue_with(message, Vec::new());
    }

    /// Queues a message with descriptors.
    pub fn queue_with(&mut self, message: ToRole, descriptors: Vec<OwnedFd>) {
        self.queue.push_back(Outgoing::Message {
            message,
            descriptors,
        });
    }

    /// Queues a new connection.
    pub fn queue_seat(&mut self, seat: Seat) {
        self.queue.push_back(Outgoing::Seat(seat));
    }

    /// Whether something waits for room in the channel, which polling it for writing announces. Where the system as a whole has too many
    /// descriptors on their way, nothing announces the end of that, and the next flush tries again.
    pub fn waits_for_room(&self) -> bool {
        !self.queue.is_empty() && !self.crowded
    }

    /// Whether something is queued that the role has not been sent.
    pub fn is_waiting(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Whether the last flush ended because the system had too many descriptors on their way: to be tried again in a moment.
    pub fn is_crowded(&self) -> bool {
        self.crowded
    }

    /// Sends what is queued, as far as the channel takes it.
    /// `descriptor_of` finds a seat's descriptor, or `None` when that connection is gone.
    ///
    /// # Errors
    /// [`ChannelError::Gone`] when the role is dead; its end is dealt with where children are waited for.
    pub fn flush<'v>(
        &mut self,
        descriptor_of: impl Fn(Seat) -> Option<BorrowedFd<'v>>,
    ) -> Result<(), ChannelError> {
        self.crowded = false;
        loop {
            let sent = match self.queue.front() {
                None => return Ok(()),
                Some(Outgoing::Message {
                    message,
                    descriptors,
                }) => {
                    let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
                    self.send(message, &borrowed).map(|sent| sent.then_some(1))
                }
                Some(Outgoing::Seat(_)) => self.send_seats(&descriptor_of),
            };
            match sent {
                Ok(Some(entries)) => drop(self.queue.drain(..entries)),
                Ok(None) => return Ok(()),
                Err(ChannelError::Os(e))
                    if e.raw_os_error() == Some(Errno::ETOOMANYREFS as i32) =>
                {
                    self.crowded = true;
                    return Ok(());
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// The next message of the role, or `None` when there is none now.
    ///
    /// # Errors
    /// [`ChannelError::Gone`] when the role has closed its end.
    pub fn receive(
        &mut self,
        buffer: &mut packet::Buffer,
    ) -> Result<Option<ToMaster>, ChannelError> {
        // A role that ends with messages unread resets the channel, and the kernel tells that once before it gives what the role had
        // sent. So only an end that is told twice is the end.
        let mut arrival = self.receive_packet(buffer)?;
        if arrival == Arrival::Ended {
            arrival = self.receive_packet(buffer)?;
        }
        match arrival {
            Arrival::Packet(len) => Ok(Some(ToMaster::decode(buffer.bytes(len))?)),
            Arrival::Nothing => Ok(None),
            Arrival::Ended => Err(ChannelError::Gone),
            Arrival::DescriptorsLost => Err(ChannelError::DescriptorsLost),
        }
    }

    fn receive_packet(&self, buffer: &mut packet::Buffer) -> io::Result<Arrival> {
        // A role sends no descriptors. If one did, they would be closed here.
        packet::receive(self.socket.as_fd(), buffer, &mut Vec::new())
    }

    /// Sends the seats at the front of the queue; the number of queue entries they were, or `None` when there is no room.
    fn send_seats<'v>(
        &self,
        descriptor_of: &impl Fn(Seat) -> Option<BorrowedFd<'v>>,
    ) -> Result<Option<usize>, ChannelError> {
        let (mut seats, mut descriptors, mut entries) = (Vec::new(), Vec::new(), 0);
        for entry in self.queue.iter().take(Seat::MAX) {
            let Outgoing::Seat(seat) = entry else { break };
            entries += 1;
            if let Some(descriptor) = descriptor_of(*seat) {
                seats.push(*seat);
                descriptors.push(descriptor);
            }
        }
        let sent = seats.is_empty() || self.send(&ToRole::Seats(seats), &descriptors)?;
        Ok(sent.then_some(entries))
    }

    fn send(&self, message: &ToRole, descriptors: &[BorrowedFd<'_>]) -> Result<bool, ChannelError> {
        packet::send(self.socket.as_fd(), &message.encode()?, descriptors).map_err(|e| {
            match e.kind() {
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => ChannelError::Gone,
                _ => ChannelError::Os(e),
            }
        })
    }
}

impl AsFd for MasterEnd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
