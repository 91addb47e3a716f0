//! Bytes out: answers into the connection's own outbox, and outboxes to the sockets.
//!
//! Everything a client gets passes through its outbox, so that its order is the order of handling
//! and a successor of this process would go on at the very byte.

use std::io::{self, ErrorKind, Write};

use protocol::code::{CloseCode, ErrorCode};
use protocol::reply::{self, MessageParts};
use protocol::ws::{self, Opcode};
use shm_table::{
    Counter, Envelope, Full, Message, Output, RowHandle, SHORT_BYTES_MAX, State, Transport, Urgency,
};

use crate::connection::{Connection, Flag};
use crate::seats::Hint;
use crate::work::Work;

/// What goes around a text message: a frame header for WebSocket, a line end for TCP.
pub(crate) fn text_envelope(bytes: usize) -> Envelope {
    let header = ws::header(Opcode::Text, bytes);
    Envelope {
        prefix: header.bytes,
        prefix_len: header.len,
        newline: true,
    }
}

/// Bytes that go to one WebSocket connection just as they are.
fn no_envelope(_bytes: usize) -> Envelope {
    Envelope {
        prefix: [0; 10],
        prefix_len: 0,
        newline: false,
    }
}

/// How many deliveries are as much work as a short read.
const DELIVERIES: u32 = 16;

/// How often one socket is offered more in one go, some 64 KiB each time, while it takes all that it is offered.
const WRITES_MAX: u32 = 4;

/// How much work a write is that the socket takes whole, and there is more.
const WRITE_WEIGHT: u32 = 8;

impl Work<'_> {
    /// Encodes a text message for any number of recipients. [`Full`] is for the caller to tell.
    pub fn encode(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>,
    ) -> Result<Message, Full> {
        self.hands.compose(Urgency::Message, write, text_envelope)
    }

    /// The same for a message of one client to others: most are short, and written where they stay.
    #[inline]
    pub fn encode_message(&mut self, parts: &MessageParts<'_>) -> Result<Message, Full> {
        if parts.content.len() < SHORT_BYTES_MAX {
            let write = |room: &mut [u8]| reply::message_within(room, parts);
            let short = self
                .hands
                .compose_short(Urgency::Message, write, text_envelope)?;
            if let Some(message) = short {
                return Ok(message);
            }
        }
        self.encode(|w| reply::message(w, parts))
    }

    /// Puts a message for others into their outboxes, and says into how many. `None`: there is no
    /// room, and it is in none.
    pub fn deliver(&mut self, message: Message, to: &[RowHandle]) -> Option<usize> {
        self.slice.note(to.len() as u32 / DELIVERIES);
        self.hands
            .deliver(message, to, Urgency::Message)
            .ok()
            .map(|reached| reached as usize)
    }

    /// Answers the client with a text message. An answer may use the arena's reserve; without room
    /// even there the session cannot go on truthfully and ends.
    pub fn answer(
        &mut self,
        connection: &mut Connection,
        write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>,
    ) {
        let message = self.hands.compose(Urgency::Answer, write, text_envelope);
        self.queue(connection, message);
    }

    /// Answers a request with an error; `id` is the request's own.
    pub fn refuse(
        &mut self,
        connection: &mut Connection,
        code: ErrorCode,
        sentence: &str,
        id: Option<&str>,
    ) {
        self.hands.count(Counter::Refused, 1);
        self.answer(connection, |w| reply::error(w, code, sentence, id, None));
    }

    /// Sends `open`, the first message on a TCP connection.
    pub fn greet(&mut self, connection: &mut Connection) {
        let mut open = Vec::new();
        // Writing to memory does not fail.
        let _ = self.write_open(connection, &mut open);
        self.answer(connection, |w| w.write_all(&open));
        connection.set(Flag::Greeted, true);
    }

    /// Writes `open`, the first message on every connection.
    pub fn write_open(&self, connection: &Connection, w: &mut dyn Write) -> io::Result<()> {
        let limits = &self.settings.limits;
        reply::open(
            w,
            &self.hands.session_id(connection.handle),
            &self.settings.server.node,
            limits.login_timeout_ms.into(),
            limits.heartbeat_timeout_ms.into(),
        )
    }

    /// Sends a frame of any kind to a WebSocket client.
    pub fn send_frame(&mut self, connection: &mut Connection, opcode: Opcode, payload: &[u8]) {
        let message = self.frame(opcode, payload);
        self.queue(connection, message);
    }

    /// Answers a ping. A pong that waits still, with nothing behind it, makes way.
    pub fn send_pong(&mut self, connection: &mut Connection, payload: &[u8]) {
        let queued = self.frame(Opcode::Pong, payload).and_then(|message| {
            self.hands
                .deliver_pong(message, connection.handle, &connection.stream)
        });
        if queued.is_err() {
            self.abandon(connection);
        }
    }

    fn frame(&mut self, opcode: Opcode, payload: &[u8]) -> Result<Message, Full> {
        self.hands.compose(
            Urgency::Answer,
            |w| w.write_all(payload),
            |bytes| {
                let header = ws::header(opcode, bytes);
                Envelope {
                    prefix: header.bytes,
                    prefix_len: header.len,
                    newline: false,
                }
            },
        )
    }

    /// Queues bytes that are no message: the answer to an HTTP request. There is one on a connection, and nothing before it,
    /// so one that is queued already is a dead predecessor's, who did not get to say that the request is done with. False without room.
    #[must_use]
    pub fn send_raw(
        &mut self,
        connection: &mut Connection,
        write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>,
    ) -> bool {
        if self.hands.has_output(connection.handle, &connection.stream) {
            return true;
        }
        let message = self.hands.compose(Urgency::Answer, write, no_envelope);
        message
            .and_then(|message| self.hands.deliver_closing(message, connection.handle))
            .is_ok()
    }

    /// Queues a message for the connection's own client, its outbox limit notwithstanding: the
    /// client is not read from when its outbox is more than half full, which bounds its answers.
    pub fn queue(&mut self, connection: &mut Connection, message: Result<Message, Full>) {
        if connection.gone {
            // Its last words had no room, and what follows them has nobody to go to.
            if let Ok(message) = message {
                self.hands.discard(message);
            }
            return;
        }
        let queued =
            message.and_then(|message| self.hands.deliver_closing(message, connection.handle));
        if queued.is_err() {
            self.abandon(connection);
        }
    }

    /// Ends a session for which there is no room to say anything more. If nothing is under way, a
    /// last word still fits into the socket directly.
    fn abandon(&mut self, connection: &mut Connection) {
        tracing::debug!(row = connection.handle.row, "no room for an answer");
        self.hands.count(Counter::Kicked, 1);
        if !self.hands.has_output(connection.handle, &connection.stream) {
            let code = CloseCode::TRY_AGAIN;
            let mut word = Vec::new();
            let written = if connection.transport == Transport::Tcp {
                reply::kicked(&mut word, code.reason(), Some(code)).map(|()| word.push(b'\n'))
            } else if connection.is_framed() {
                ws::close_frame(&mut word, code, code.reason())
            } else {
                Ok(())
            };
            if let (Ok(()), Some(socket)) = (written, self.seats.socket(connection.handle.row)) {
                // Whether it arrives does not change what follows.
                let _ = crate::socket::write(socket, &word);
            }
        }
        self.finish(connection);
    }

    /// Serves the rows of this worker that have something to write or an order: all of them, one after another, or, where that takes longer
    /// than some slices, in turn. False: the turn's time was over before. True: they are all served, or it is time to read again.
    pub fn serve_ready(&mut self) -> bool {
        if !self.unwritten.is_empty() {
            return self.serve_in_turn();
        }
        while let Some(handle) = self.hands.next_ready() {
            self.serve(handle.row);
            if self.is_time_over(2) {
                self.hands.end_turn();
                if !self.is_phase_over() {
                    return false;
                }
                self.line_up();
                self.unwritten.begin_epoch();
                return true;
            }
        }
        self.wrote_all = true;
        true
    }

    /// The same in turn.
    #[cold]
    #[inline(never)]
    fn serve_in_turn(&mut self) -> bool {
        self.line_up();
        let mut since_us = self.elapsed_us();
        while let Some(row) = self.unwritten.pop() {
            if self.hands.take_ready(row).is_some() {
                self.serve(row);
            }
            if self.unwritten.is_epoch_over() {
                self.line_up();
                self.unwritten.begin_epoch();
                self.wrote_all = true;
            }
            self.slice.note(2);
            let now_us = self.elapsed_us();
            self.unwritten.charge(now_us.wrapping_sub(since_us));
            since_us = now_us;
            if now_us >= self.slice.most_us && !self.unwritten.is_empty() {
                return self.is_phase_over();
            }
        }
        true
    }

    /// Has all who are ready wait for their turns.
    #[cold]
    #[inline(never)]
    fn line_up(&mut self) {
        let mut rows = std::mem::take(&mut self.spare.rows);
        rows.clear();
        self.hands.all_ready(&mut rows);
        for &row in &rows {
            if !self.unwritten.has(row)
                && let Some(flow) = self.flow_of(row)
            {
                self.unwritten.push(row, flow);
            }
        }
        self.spare.rows = rows;
    }

    /// Carries out the orders of a row and writes what it has.
    // Always: the connection is then not copied.
    #[inline(always)]
    fn serve(&mut self, row: u32) {
        let Some(mut connection) = self.connection(row) else {
            return;
        };
        self.obey(&mut connection);
        if !connection.gone && !self.seats.has(row, Hint::Blocked) {
            self.flush(&mut connection);
        }
    }

    /// The socket has room again.
    pub fn writable(&mut self, row: u32) {
        if self.seats.has(row, Hint::Blocked)
            && let Some(connection) = self.connection(row)
        {
            self.blocked(&connection, false);
            self.hands.mark_ready(connection.handle);
        }
    }

    /// Writes what is queued, as far as the socket takes it, straight from the arena. What is more than others should wait for is written
    /// when the row's turn comes again.
    #[inline]
    pub fn flush(&mut self, connection: &mut Connection) {
        if self.flush_some(connection) {
            self.hands.mark_ready(connection.handle);
        }
    }

    /// The same. True: there is more, and the socket may take it.
    // Never: what it calls is then inlined here, once.
    #[inline(never)]
    pub fn flush_some(&mut self, connection: &mut Connection) -> bool {
        let row = connection.handle.row;
        let mut writes = 0;
        loop {
            let Some(socket) = self.seats.socket(row) else {
                return false;
            };
            let write = |bytes: &[u8]| crate::socket::write(socket, bytes);
            let result = self
                .hands
                .write_output(connection.handle, &mut connection.stream, write);
            match result {
                Ok(Output::Drained) => {
                    self.drained(connection);
                    break;
                }
                Ok(Output::Blocked) => {
                    self.blocked(connection, true);
                    break;
                }
                Ok(Output::More) => {
                    writes += 1;
                    self.slice.note(WRITE_WEIGHT);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.blocked(connection, true);
                    break;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    self.finish(connection);
                    return false;
                }
            }
            if writes == WRITES_MAX {
                break;
            }
        }
        self.resume(connection);
        writes == WRITES_MAX
    }

    /// Notes whether the socket takes no more, for ourselves and for those who send to it.
    fn blocked(&mut self, connection: &Connection, blocked: bool) {
        self.seats
            .set(connection.handle.row, Hint::Blocked, blocked);
        self.hands.set_blocked(connection.handle, blocked);
    }

    /// Nothing is left to write.
    fn drained(&mut self, connection: &mut Connection) {
        if connection.state == State::Closing {
            self.farewell_sent(connection);
        }
    }

    /// Reads again from a client that has caught up with what it was sent, unless it waits for another worker's turn or for its
    /// own fan-out.
    pub fn resume(&mut self, connection: &mut Connection) {
        if !connection.gone
            && connection.has(Flag::Paused)
            && !connection.has(Flag::FanningOut)
            && !self.seats.has(connection.handle.row, Hint::Congested)
            && !self.is_half_full(connection)
        {
            connection.set(Flag::Paused, false);
            self.commit(connection);
            self.read_again(connection.handle.row);
        }
    }
}
