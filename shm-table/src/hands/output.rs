//! Writing a row's outbox to its socket: one message that lies in one block from where it lies, several gathered. (A vectored write
//! would spare the copy, but the kernel takes longer over a piece than it takes to copy one of a message's usual size.)

use std::io;

use super::Hands;
use crate::control::Counter;
use crate::gathered::Gathered;
use crate::handle::RowHandle;
use crate::outbox::{self, CLOSED};
use crate::row::{Row, Transport};
use crate::two_copies::{ORDERED_WORD, Stream};

/// What is left in an outbox after a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Nothing.
    Drained,
    /// Something: the socket took all that was offered, so offer more.
    More,
    /// Something: the socket is full, so wait until it is writable.
    Blocked,
}

impl Hands<'_> {
    /// Bytes that the messages in a row's outbox occupy; 0: stale.
    pub fn outbox_bytes(&self, handle: RowHandle) -> u64 {
        let row = self.view.row(handle);
        row.filter(|row| row.check(handle).is_some())
            .map_or(0, Row::pending)
    }

    /// The same of a row that is known to be this process's.
    #[inline]
    pub fn own_outbox_bytes(&self, handle: RowHandle) -> u64 {
        self.view.row(handle).map_or(0, Row::pending)
    }

    /// True if an own row has something to write.
    pub fn has_output(&self, handle: RowHandle, stream: &Stream) -> bool {
        stream.out_first != 0
            || self.mine(handle).is_some_and(|(row, _)| {
                let top = row.out_top.get() as u32;
                top != CLOSED && top != stream.out_taken
            })
    }

    /// Offers the oldest output of an own row to `write` (some 64 KiB at most), drops what was written, and
    /// commits `stream`. An error of `write` is passed on and changes nothing.
    pub fn write_output(
        &mut self,
        handle: RowHandle,
        stream: &mut Stream,
        write: impl FnOnce(&[u8]) -> io::Result<usize>,
    ) -> io::Result<Output> {
        let Some((row, _)) = self.mine(handle) else {
            return Ok(Output::Drained);
        };
        let taken = stream.out_taken;
        outbox::take_new(&row.out_top, self.view.nodes, stream);
        if stream.out_first == 0 {
            return Ok(Output::Drained);
        }
        if stream.out_taken != taken {
            // What is about to be written must be named by the committed record: the kernel's count alone does not tell a
            // successor whether the entries that it finds are those that were written. Where nothing was in order before, the
            // record's offset is 0 as it should be.
            row.stream.write_word(stream, ORDERED_WORD);
        }
        let websocket = row.transport() == Transport::WebSocket;
        let (offered, written) = match self.only_piece(stream, websocket) {
            Some(piece) => (piece.len(), write(piece)),
            None => {
                let mut gathered = std::mem::take(&mut self.gathered);
                gathered.clear();
                self.gather(stream, websocket, &mut gathered);
                let written = write(gathered.bytes());
                let offered = gathered.bytes().len();
                self.gathered = gathered;
                (offered, written)
            }
        };
        let written = written?;
        let left = self.drop_written(row, handle, stream, websocket, written);
        self.count(Counter::BytesOut, written as u64);
        Ok(match (left, written < offered) {
            (false, _) => Output::Drained,
            (true, true) => Output::Blocked,
            (true, false) => Output::More,
        })
    }

    /// Takes over the kernel's count of what was written to an own row's socket: a predecessor may have died between a
    /// write and the commit that records it. Commits `stream`. False: more was written than its outbox had.
    #[must_use]
    pub fn reconcile_written(
        &mut self,
        handle: RowHandle,
        stream: &mut Stream,
        counted: u64,
    ) -> bool {
        let Some((row, _)) = self.mine(handle) else {
            return false;
        };
        if counted <= stream.written {
            // Less: what was dropped from an outbox at its end was taken for written by the recovery.
            if counted < stream.written {
                stream.written = counted;
                self.commit(handle, stream);
            }
            return true;
        }
        outbox::take_new(&row.out_top, self.view.nodes, stream);
        let websocket = row.transport() == Transport::WebSocket;
        let ahead = counted - stream.written;
        let waiting = outbox::ordered(self.view.nodes, stream)
            .map(|node| self.entry_bytes(row, node))
            .sum::<u64>();
        if ahead > waiting.saturating_sub(stream.out_offset.into()) {
            return false;
        }
        self.drop_written(row, handle, stream, websocket, ahead as usize);
        true
    }

    /// What is to be written, if it is one message in one block.
    #[inline]
    fn only_piece(&self, stream: &Stream, websocket: bool) -> Option<&[u8]> {
        if stream.out_first != stream.out_taken {
            return None;
        }
        let node = &self.view.nodes[(stream.out_first - 1) as usize];
        let first = node.message.peek().checked_sub(1)?;
        let skip = stream.out_offset as usize;
        self.view.arena.piece(first, websocket, skip)
    }

    fn gather(&self, stream: &Stream, websocket: bool, gathered: &mut Gathered) {
        let mut skip = stream.out_offset as usize;
        for node in outbox::ordered(self.view.nodes, stream) {
            let entry = &self.view.nodes[node as usize];
            let newer = entry.newer.peek().checked_sub(1);
            if let Some(newer) = newer.and_then(|node| self.view.nodes.get(node as usize)) {
                self.view.prefetch_message(newer);
            }
            let message = entry.message.peek();
            if let Some(first) = message.checked_sub(1) {
                let arena = &self.view.arena;
                if !arena.pieces(first, websocket, skip, |piece| gathered.append(piece)) {
                    return;
                }
            }
            skip = 0;
        }
    }

    /// Moves the stream past `written` bytes, commits it, and gives the written entries back. True: more is
    /// left.
    fn drop_written(
        &mut self,
        row: &Row,
        handle: RowHandle,
        stream: &mut Stream,
        websocket: bool,
        written: usize,
    ) -> bool {
        let mut entries = std::mem::take(&mut self.written);
        let mut rest = written;
        let mut dropped = 0;
        let mut left = true;
        while left {
            let node = stream.out_first - 1;
            let entry = &self.view.nodes[node as usize];
            let (bytes, cost) = outbox::entry_measure(entry, &self.view.arena, websocket);
            let unwritten = bytes - stream.out_offset as usize;
            if rest < unwritten {
                stream.out_offset += rest as u32;
                break;
            }
            rest -= unwritten;
            dropped += cost;
            left = outbox::advance(&row.out_top, self.view.nodes, handle.generation, stream);
            entries.push(node);
        }
        stream.written += written as u64;
        self.commit(handle, stream);
        if dropped > 0 {
            row.sent.put(row.sent.peek().wrapping_add(dropped));
        }
        for node in entries.drain(..) {
            self.release_entry(node);
        }
        self.written = entries;
        self.publish_in_hand();
        left
    }

    /// Drops all that waits in an own row's outbox, except a message that is already partly written: half a
    /// frame could not be followed by anything. Commits `stream`.
    pub fn discard_output(&mut self, handle: RowHandle, stream: &mut Stream) {
        let Some((row, _)) = self.mine(handle) else {
            return;
        };
        outbox::take_new(&row.out_top, self.view.nodes, stream);
        if stream.out_offset == 0 {
            self.drop_entries(row, handle, stream);
            return;
        }
        let nodes = outbox::entries(row.out_top.get(), self.view.nodes, stream);
        for &node in nodes.iter().skip(1) {
            // An entry in the middle cannot be unlinked, but it can be emptied.
            let entry = &self.view.nodes[node as usize];
            let dropped = outbox::entry_cost(entry, &self.view.arena);
            let message = entry.message.swap(0);
            row.sent.put(row.sent.peek().wrapping_add(dropped));
            self.release_message(message, 1);
        }
        self.publish_in_hand();
        self.commit(handle, stream);
    }

    /// Ends an own row's outbox: nothing can be pushed from here on, all entries are given back.
    pub(super) fn close_outbox(&mut self, handle: RowHandle, stream: &mut Stream) {
        let Some((row, _)) = self.mine(handle) else {
            return;
        };
        loop {
            outbox::take_new(&row.out_top, self.view.nodes, stream);
            stream.out_offset = 0;
            self.drop_entries(row, handle, stream);
            let empty = outbox::empty(handle.generation);
            // A predecessor may have come as far as this.
            let closed = row.out_top.get() as u32 == CLOSED;
            if closed
                || row
                    .out_top
                    .exchange(empty, empty | u64::from(CLOSED))
                    .is_ok()
            {
                row.sent.put(row.queued());
                return;
            }
        }
    }

    fn entry_bytes(&self, row: &Row, node: u32) -> u64 {
        let websocket = row.transport() == Transport::WebSocket;
        outbox::entry_bytes(&self.view.nodes[node as usize], &self.view.arena, websocket) as u64
    }

    /// Drops every entry, none of which is partly written.
    fn drop_entries(&mut self, row: &Row, handle: RowHandle, stream: &mut Stream) {
        let mut left = stream.out_first != 0;
        let mut entries = std::mem::take(&mut self.written);
        let mut dropped = 0;
        while left {
            let node = stream.out_first - 1;
            dropped += outbox::entry_cost(&self.view.nodes[node as usize], &self.view.arena);
            left = outbox::advance(&row.out_top, self.view.nodes, handle.generation, stream);
            entries.push(node);
        }
        self.commit(handle, stream);
        row.sent.put(row.sent.peek().wrapping_add(dropped));
        for node in entries.drain(..) {
            self.release_entry(node);
        }
        self.written = entries;
        self.publish_in_hand();
    }
}
