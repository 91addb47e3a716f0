//! From the socket into the read window, and through it: messages are handled where they lie.
//!
//! The window belongs to the segment, so bytes the kernel no longer has are in the table even if
//! this process dies before it has looked at them. In front of what is read there is room for what
//! was *kept*: the end of the last read that made no sense alone. So parsing always sees one
//! contiguous piece, and a connection with nothing half received keeps nothing.

use std::io::ErrorKind;

use protocol::code::{CloseCode, ErrorCode};
use shm_table::{Congestion, Counter, Found, ReadWindow};

use crate::closing::Words;
use crate::connection::{Connection, Flag};
use crate::rate;
use crate::seats::Hint;
use crate::work::Work;

/// Room in front of what is read: the longest HTTP head, or an incomplete frame header, fits.
pub(crate) const HEADROOM: usize = 16 * 1024;

/// Most bytes read from one socket per turn, so that a fast sender does not keep the others waiting.
pub(crate) const READ_BYTES_MAX: usize = 32 * 1024;

/// The same while memory is nearly used up: what is read may have to be kept.
const READ_BYTES_TIGHT: usize = 2 * 1024;

const _: () = assert!(protocol::http::HEAD_BYTES_MAX <= HEADROOM);
const _: () = assert!(protocol::ws::TAIL_MAX <= HEADROOM);

/// How far the input of one read has been used.
#[derive(Debug)]
pub(crate) struct Cursor {
    /// Everything before this offset is done with.
    pub at: usize,
    /// Bytes at the front of the input that are still in the row's receive buffer as well; 0 once
    /// they have been taken out of it.
    kept: usize,
}

/// What a parser says after one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Go on with the rest.
    Again,
    /// The rest makes no sense without more; keep it.
    NeedMore,
}

impl Cursor {
    /// The input up to here has become part of the row, or is about to be handled. What was kept of
    /// it leaves the receive buffer at the first such step: it is in the window.
    #[inline]
    pub fn advance(&mut self, work: &mut Work<'_>, connection: &mut Connection, bytes: usize) {
        if self.kept > 0 {
            self.release(work, connection);
        }
        self.at += bytes;
        connection.stream.consumed += bytes as u64;
    }

    fn release(&mut self, work: &mut Work<'_>, connection: &mut Connection) {
        let assembled = connection.assembled();
        work.hands
            .receive_truncate(&mut connection.stream, assembled);
        connection.stream.consumed -= self.kept as u64;
        self.kept = 0;
        // From here on the window alone has it; what comes next may be stored where it was.
        work.commit(connection);
    }
}

impl Work<'_> {
    /// Reads a connection once and handles what came. Returns how many bytes that were.
    pub fn read(&mut self, window: &mut ReadWindow<'_>, row: u32) -> usize {
        let Some(mut connection) = self.connection(row) else {
            return 0;
        };
        let connection = &mut connection;
        if self.seats.has(row, Hint::Failed) && !connection.has(Flag::FanningOut) {
            // Nobody will read the outbox, so there is nothing to wait for. What the client still
            // said is heard, and writing finds out the rest.
            connection.set(Flag::Paused, false);
        }
        if connection.has(Flag::Paused) {
            return 0;
        }
        if connection.has(Flag::Behind) {
            self.catch_up(window, connection);
            return 0;
        }
        let bytes = self.read_fresh(window, connection);
        self.hands.reading_done();
        bytes
    }

    /// Reads the socket once into the window, and handles what came.
    fn read_fresh(&mut self, window: &mut ReadWindow<'_>, connection: &mut Connection) -> usize {
        let row = connection.handle.row;
        let Some(socket) = self.seats.socket(row) else {
            return 0;
        };
        let window_at = connection.stream.consumed.wrapping_sub(HEADROOM as u64);
        self.hands.note_reading(connection.handle, window_at);
        let most = match self.hands.is_memory_tight() {
            true => READ_BYTES_TIGHT,
            false => READ_BYTES_MAX,
        };
        let fresh = &mut window[HEADROOM..HEADROOM + most];
        let bytes = match crate::socket::read(socket, fresh) {
            Ok(0) => {
                self.end_of_input(connection);
                return 0;
            }
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.seats.set(row, Hint::Urgent, false);
                return 0;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                self.read_again(row);
                return 0;
            }
            Err(_) => {
                self.finish(connection);
                return 0;
            }
        };
        self.hands.count(Counter::BytesIn, bytes as u64);
        let more =
            bytes == most || self.seats.has(row, Hint::HungUp) || self.seats.has(row, Hint::Urgent);
        if more {
            self.read_again(row);
        }
        if connection.state == shm_table::State::Closing && connection.has(Flag::Curt) {
            connection.stream.consumed += bytes as u64;
            self.is_within_rate(connection, rate::message(bytes));
            self.commit(connection);
            return bytes;
        }
        let kept = connection.kept();
        let start = HEADROOM.saturating_sub(kept);
        self.load_kept(connection, &mut window[start..HEADROOM]);
        self.parse(connection, &window[start..HEADROOM + bytes], kept);
        bytes
    }

    /// Asks for another read of this row, in turn with those who wait already.
    pub fn read_again(&mut self, row: u32) {
        if let Some(flow) = self.flow_of(row) {
            self.again.push(row, flow);
        }
    }

    /// Reads again from those who filled outboxes faster than they were written, where the worker that is to write them has had a
    /// turn since.
    pub fn relieve(&mut self) {
        let mut asked = 0;
        while let Some((row, congestion, one_more)) = self.congested.get_mut(asked) {
            let row = *row;
            if std::mem::take(one_more) || !self.hands.is_relieved(*congestion) {
                asked += 1;
                continue;
            }
            self.congested.swap_remove(asked);
            self.seats.set(row, Hint::Congested, false);
            if let Some(mut connection) = self.connection(row) {
                self.resume(&mut connection);
            }
            if self.is_time_over(1) {
                break;
            }
        }
        self.hands.set_congested(self.congested.len());
    }

    /// Handles the messages that were kept when the connection was paused, or the turn's time was over.
    fn catch_up(&mut self, window: &mut ReadWindow<'_>, connection: &mut Connection) {
        connection.set(Flag::Behind, false);
        let kept = connection.kept();
        let window_at = connection.stream.consumed.wrapping_sub(kept as u64);
        self.hands.note_reading(connection.handle, window_at);
        self.read_again(connection.handle.row);
        match window.get_mut(..kept) {
            Some(input) => {
                self.load_kept(connection, input);
                self.parse(connection, input, kept);
            }
            None => self.close(connection, CloseCode::INTERNAL, Words::None),
        }
        self.hands.reading_done();
    }

    /// Goes on in the input that a predecessor had taken from the socket and not accounted for: its last `lost` bytes, which
    /// lie in the window that was found, or what it was catching up with.
    ///
    /// False: they are not there.
    pub fn salvage(
        &mut self,
        window: &mut ReadWindow<'_>,
        connection: &mut Connection,
        lost: u64,
        found: Option<Found>,
    ) -> bool {
        connection.redo = true;
        let Some(found) = found else {
            return false;
        };
        if lost == 0 {
            // Had it handled anything of it, that would have been taken out of the receive buffer. The own window may have to be kept for
            // another connection; then it is caught up with when that is not so any more.
            if self.hands.is_own(found) {
                self.catch_up(window, connection);
            }
            return true;
        }
        let kept = connection.kept();
        let mut input = vec![0; kept];
        let from = connection.stream.consumed;
        if !self.hands.copy_input(found, from, lost, &mut input) {
            return false;
        }
        self.hands.count(Counter::Salvaged, 1);
        if let Some(front) = input.get_mut(..kept) {
            self.load_kept(connection, front);
        }
        self.parse(connection, &input, kept);
        true
    }

    /// Copies the kept bytes of the row to the window.
    fn load_kept(&mut self, connection: &Connection, into: &mut [u8]) {
        if into.is_empty() {
            return;
        }
        let mut bytes = self.lend_bytes();
        self.hands
            .receive_read(&connection.stream, connection.assembled(), &mut bytes);
        // The lengths agree; should they ever not, the parser sees zeroes and not a panic.
        into.fill(0);
        for (to, from) in into.iter_mut().zip(&bytes) {
            *to = *from;
        }
        self.return_bytes(bytes);
    }

    /// Handles every message in `input`, of which the first `kept` bytes are in the receive buffer
    /// too, and keeps the rest. The input itself stays as it is: a successor may have to begin anew.
    fn parse(&mut self, connection: &mut Connection, input: &[u8], kept: usize) {
        let mut cursor = Cursor { at: 0, kept };
        self.forget_voice();
        while cursor.at < input.len() {
            if connection.has(Flag::FanningOut) && !connection.closing() {
                connection.set(Flag::Behind, true);
                break;
            }
            let step = if !connection.has(Flag::Begun) {
                self.next_start(connection, input, &mut cursor)
            } else if connection.is_framed() {
                self.next_frame(connection, input, &mut cursor)
            } else if connection.transport == shm_table::Transport::WebSocket {
                self.next_head(connection, input, &mut cursor)
            } else {
                self.next_line(connection, input, &mut cursor)
            };
            if connection.gone {
                return;
            }
            if connection.state == shm_table::State::Closing && connection.has(Flag::Curt) {
                let rest = input.len() - cursor.at;
                cursor.advance(self, connection, rest);
                break;
            }
            if step == Step::NeedMore {
                break;
            }
            let congestion = self.hands.take_congestion();
            let congestion = congestion.filter(|_| !connection.closing());
            let congested = congestion.is_some();
            if let Some(congestion) = congestion {
                self.wait_for_turn(connection.handle.row, congestion);
            }
            let reads_too_little = self.reads_too_little(connection);
            if connection.gone {
                return;
            }
            if reads_too_little || congested {
                connection.set(Flag::Paused, true);
                connection.set(Flag::Behind, cursor.at < input.len());
                break;
            }
            if cursor.at < input.len()
                && self.is_read_over(1)
                && self.put_off(connection, input, &mut cursor)
            {
                break;
            }
        }
        self.keep(connection, input, &mut cursor);
        if connection.gone {
            return;
        }
        if connection.alive {
            self.sign_of_life(connection);
        }
        let memory = self.hands.must_wait_for_memory(&connection.stream);
        if let Some(congestion) = memory.filter(|_| !connection.closing()) {
            connection.set(Flag::Paused, true);
            self.wait_for_turn(connection.handle.row, congestion);
        }
        self.commit(connection);
    }

    /// Keeps the rest of the input to be handled later, in turn with what others say. False: it is better handled now, as nothing was used
    /// yet or there is no room for it; nothing has changed then.
    #[cold]
    fn put_off(&mut self, connection: &mut Connection, input: &[u8], cursor: &mut Cursor) -> bool {
        let rest = input.get(cursor.at..).unwrap_or_default();
        if cursor.kept > 0 || connection.closing() {
            return false;
        }
        let stream = &mut connection.stream;
        if self.hands.receive_append(stream, rest).is_err() {
            return false;
        }
        stream.consumed += rest.len() as u64;
        cursor.at = input.len();
        connection.set(Flag::Behind, true);
        self.read_again(connection.handle.row);
        true
    }

    /// Notes that a connection is to be read again only when another worker has had a turn, or there is memory.
    #[cold]
    fn wait_for_turn(&mut self, row: u32, congestion: Congestion) {
        if !self.seats.set(row, Hint::Congested, true) {
            // Where a round of writing is under way, this worker's own next one may not come to what was written now.
            let one_more = !self.unwritten.is_empty();
            self.congested.push((row, congestion, one_more));
            self.hands.set_congested(self.congested.len());
        }
    }

    /// Appends what is left of the input to the receive buffer.
    fn keep(&mut self, connection: &mut Connection, input: &[u8], cursor: &mut Cursor) {
        // While nothing was used, the first bytes are in the receive buffer still.
        let rest = input.get(cursor.at.max(cursor.kept)..).unwrap_or_default();
        if rest.is_empty() {
            return;
        }
        if self
            .hands
            .receive_append(&mut connection.stream, rest)
            .is_ok()
        {
            connection.stream.consumed += rest.len() as u64;
            if !connection.has(Flag::Behind) {
                // The part of a head that has come is looked at again with each read.
                let looks = match connection.state {
                    shm_table::State::Handshake => rest.len() as u32 / 512,
                    _ => 0,
                };
                self.is_within_rate(connection, rate::PART + looks);
            }
        } else {
            self.no_room(connection);
        }
    }

    /// Input could not be stored. It cannot be given back to the kernel either, so the connection
    /// ends, with a word that tells it to come back.
    pub fn no_room(&mut self, connection: &mut Connection) {
        if connection.state == shm_table::State::Handshake {
            self.finish(connection);
        } else if connection.closing() {
            connection.set(Flag::Curt, true);
        } else {
            let words = Words::Error(
                ErrorCode::Overloaded,
                "the server has no room for this message",
            );
            self.close_curtly(connection, CloseCode::TRY_AGAIN, words);
        }
    }

    /// True if the client has left more than half an outbox of ours unread, even after one more
    /// attempt to write. It is not read from then until it has caught up: a client that never reads
    /// its own answers must not grow without bound.
    fn reads_too_little(&mut self, connection: &mut Connection) -> bool {
        if connection.closing() || !self.is_half_full(connection) {
            return false;
        }
        if !self.seats.has(connection.handle.row, Hint::Blocked) {
            self.flush(connection);
        }
        !connection.closing() && self.is_half_full(connection)
    }

    /// True while more than half of what the session's outbox may hold is in use.
    pub fn is_half_full(&self, connection: &Connection) -> bool {
        self.hands.own_outbox_bytes(connection.handle) > self.hands.share_bytes() / 2
    }

    /// The peer has ended its direction, so the connection is over. What is written already but not
    /// sent gets one more chance: `echo … | nc` ends its input before it reads the answer.
    fn end_of_input(&mut self, connection: &mut Connection) {
        if connection.transport == shm_table::Transport::Tcp {
            while self.flush_some(connection) {}
        }
        self.finish(connection);
    }
}
