//! Seats: the only allocator of rows, in the master. One allocator, one freer: no free list to corrupt.

use std::net::SocketAddr;

use crate::handle::{ProcessId, RowHandle};
use crate::outbox;
use crate::row::{Row, RowWord, State, Transport};
use crate::table::Table;
use crate::two_copies::Stream;
use crate::view::{View, unix_ms};

/// A connection that was just accepted.
#[derive(Clone, Copy, Debug)]
pub struct Newcomer {
    /// Which listener it came to.
    pub transport: Transport,
    /// Where it comes from.
    pub peer: SocketAddr,
    /// Which worker gets it.
    pub worker: ProcessId,
    /// Deadline of the handshake or the login, in table milliseconds; 0 = none.
    pub deadline_ms: u64,
    /// Bytes that the kernel counts as taken from the socket when it was accepted: the row counts on from there.
    pub consumed_at_accept: u32,
    /// Bytes that the kernel counts as written to the socket when it was accepted.
    pub written_at_accept: u32,
}

/// The allocator of rows. The master makes one and keeps it.
pub struct Seats<'t> {
    view: View<'t>,
    /// Free rows; a cache of the rows' own states. The last one freed is the next one used.
    free: Vec<u32>,
}

impl<'t> Seats<'t> {
    /// Finds the free rows.
    pub fn new(table: &'t Table) -> Self {
        let view = table.view();
        let free: Vec<u32> = (0..view.rows.len() as u32)
            .rev()
            .filter(|&row| view.rows[row as usize].state().state == State::Free)
            .collect();
        Seats { view, free }
    }

    /// Rows in all.
    pub fn capacity(&self) -> u32 {
        self.view.rows.len() as u32
    }

    /// Rows that are not free.
    pub fn seated(&self) -> u32 {
        self.capacity() - self.free.len() as u32
    }

    /// Gives a connection a row, in state `Seated`; `None`: the table is full.
    pub fn seat(&mut self, who: &Newcomer) -> Option<RowHandle> {
        let index = self.free.pop()?;
        let row = &self.view.rows[index as usize];
        let generation = row.state().generation.wrapping_add(1);
        let header = self.view.header;
        let serial = header.connections.peek().wrapping_add(1);
        header.connections.put(serial);
        reset(row, generation, who, header.ordinals_from.peek());
        row.serial.put(serial);
        row.put_peer(who.transport, who.peer);
        let now = unix_ms();
        row.connected_at.put(now);
        row.last_seen.put(now);
        row.word.set(
            RowWord {
                generation,
                owner: who.worker,
                state: State::Seated,
            }
            .pack(),
        );
        // After the row has its new generation: the timer names the row by it.
        self.view.set_deadline(index, who.deadline_ms);
        self.publish();
        Some(RowHandle {
            row: index,
            generation,
        })
    }

    /// Frees a row that its worker has finished with, or never took. False: the handle is stale or the row is
    /// still in use.
    pub fn free(&mut self, handle: RowHandle) -> bool {
        let Some(row) = self.view.row(handle) else {
            return false;
        };
        let Some(word) = row.check(handle) else {
            return false;
        };
        if !matches!(word.state, State::Done | State::Seated) {
            return false;
        }
        self.view.set_deadline(handle.row, 0);
        row.word.set(
            RowWord {
                state: State::Free,
                ..word
            }
            .pack(),
        );
        self.free.push(handle.row);
        self.publish();
        true
    }

    fn publish(&self) {
        self.view.header.seated.put(self.seated());
        self.view.header.seated_high_water.raise(self.seated());
    }
}

/// Makes a row empty for its next life. What others may write carries the new generation from here on.
fn reset(row: &Row, generation: u32, who: &Newcomer, ordinal: u32) {
    row.out_top.set(outbox::empty(generation));
    row.orders.set(u64::from(generation) << 32);
    row.sent.put(row.queued());
    row.user.put(0);
    row.user_next.put(0);
    row.user_prev.put(0);
    row.memberships.put(0);
    row.membership_count.put(0);
    row.blocked.put(0);
    row.suspect.put(0);
    row.stream.write(&Stream {
        consumed: who.consumed_at_accept.into(),
        written: who.written_at_accept.into(),
        ordinal,
        ..Stream::default()
    });
    row.user_name.clear();
    row.device_id.clear();
    row.device_model.clear();
}
