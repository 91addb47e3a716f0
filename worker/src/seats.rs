//! The connections a worker holds: taking them over from the master and giving them up.
//!
//! This is all the private memory a connection has: its descriptor and a byte of hints, none of
//! which is a fact about the session.

use std::os::fd::{AsRawFd, OwnedFd};

use role::Seat;
use shm_table::{Claimed, ReadWindow, RowHandle, State, Transport};
use tracing::debug;

use crate::connection::Connection;
use crate::slice::LOOK_AFTER;
use crate::work::Work;

/// Hints that only this process needs; a new owner of the row starts without any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Hint {
    /// The last write was short: wait for room before the next.
    Blocked = 1,
    /// The peer has ended its stream: read until the end is seen.
    HungUp = 4,
    /// The connection has failed: nothing can be written any more, only the end is to be found.
    Failed = 8,
    /// Urgent data is on its way: a read stops in front of it and behind it, so a short one does not mean that there is no more
    /// (tcp(7)).
    Urgent = 16,
    /// The row is in the list of those that wait for another worker's turn, or for memory.
    Congested = 32,
}

/// Descriptor and hints by row.
#[derive(Debug, Default)]
pub(crate) struct Seats {
    sockets: Vec<Option<OwnedFd>>,
    hints: Vec<u8>,
    taken: usize,
}

impl Seats {
    /// The socket of a connection.
    pub fn socket(&self, row: u32) -> Option<&OwnedFd> {
        self.sockets.get(row as usize)?.as_ref()
    }

    /// Connections held.
    pub fn taken(&self) -> usize {
        self.taken
    }

    pub fn has(&self, row: u32, hint: Hint) -> bool {
        self.hints
            .get(row as usize)
            .is_some_and(|hints| hints & hint as u8 != 0)
    }

    /// Sets or clears a hint; tells whether it was set before.
    pub fn set(&mut self, row: u32, hint: Hint, on: bool) -> bool {
        let Some(hints) = self.hints.get_mut(row as usize) else {
            return false;
        };
        let before = *hints & hint as u8 != 0;
        *hints = if on {
            *hints | hint as u8
        } else {
            *hints & !(hint as u8)
        };
        before
    }

    fn put(&mut self, row: u32, socket: OwnedFd) {
        let index = row as usize;
        if index >= self.sockets.len() {
            self.sockets.resize_with(index + 1, || None);
            self.hints.resize(index + 1, 0);
        }
        self.hints[index] = 0;
        if self.sockets[index].replace(socket).is_none() {
            self.taken += 1;
        }
    }

    fn remove(&mut self, row: u32) -> Option<OwnedFd> {
        let socket = self.sockets.get_mut(row as usize)?.take()?;
        self.taken -= 1;
        Some(socket)
    }
}

impl Work<'_> {
    /// Takes over what the master handed out: new connections, and those of a predecessor. A seat without a descriptor
    /// (the kernel drops them when the descriptor table is full) is given back at once.
    pub fn take_seats(
        &mut self,
        seats: Vec<Seat>,
        descriptors: Vec<OwnedFd>,
        window: &mut ReadWindow<'_>,
    ) {
        let mut descriptors = descriptors.into_iter();
        for seat in seats {
            self.take_seat(seat, descriptors.next(), window);
        }
    }

    fn take_seat(&mut self, seat: Seat, socket: Option<OwnedFd>, window: &mut ReadWindow<'_>) {
        let handle = RowHandle {
            row: seat.row,
            generation: seat.generation,
        };
        let state = match self.hands.transport(handle) {
            Some(Transport::WebSocket) => State::Handshake,
            _ => State::Connected,
        };
        let number = socket.as_ref().map_or(-1, AsRawFd::as_raw_fd);
        let Ok(claimed) = self.hands.claim(handle, state, number) else {
            // The row has gone on to another life or another worker; the descriptor is a leftover.
            debug!(
                row = seat.row,
                generation = seat.generation,
                "a seat came too late"
            );
            return;
        };
        let Some(socket) = socket else {
            debug!(row = seat.row, "a seat came without its descriptor");
            self.give_up(handle);
            return;
        };
        // What happened to the row's last connection is not this one's.
        self.events.retain(|event| event.row != seat.row);
        let watched = self.poller.add(&socket, seat.row);
        self.seats.put(seat.row, socket);
        self.flows.forget(seat.row);
        let Some(mut connection) = self.connection(seat.row) else {
            return;
        };
        if let Err(error) = watched {
            debug!(row = seat.row, %error, "cannot watch a socket");
            self.finish(&mut connection);
            return;
        }
        match claimed {
            Claimed::New if connection.transport == Transport::Tcp => self.greet(&mut connection),
            Claimed::New => {}
            Claimed::Adopted => self.adopt(&mut connection, window),
        }
        if claimed == Claimed::New {
            // It may have waited for this process for longer than it may take. The mark for that was for one who could not look yet.
            self.obey(&mut connection);
        }
        if self.draining {
            self.send_away(&mut connection);
        }
        self.commit(&connection);
    }

    /// The connection is over: its row, its descriptor and its place in the vault go back.
    pub fn finish(&mut self, connection: &mut Connection) {
        if connection.gone {
            return;
        }
        // What was cut off the receive buffer since the last commit must not be given back twice.
        self.commit(connection);
        connection.gone = true;
        self.flows.forget(connection.handle.row);
        // To leave groups may have taken long.
        self.slice.note(LOOK_AFTER);
        if let Some(socket) = self.seats.remove(connection.handle.row) {
            self.poller.remove(&socket);
            crate::socket::end(&socket);
        }
        self.give_up(connection.handle);
    }

    fn give_up(&mut self, handle: RowHandle) {
        self.hands.finish(handle);
        self.finished.push(Seat {
            row: handle.row,
            generation: handle.generation,
        });
    }
}
