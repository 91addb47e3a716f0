//! Saying goodbye: last words, the closing handshake, and the end when nobody answers.
//!
//! A close has three phases, kept in the row's flags: our farewell is queued, it is written, the
//! peer has ended too. All of it is bounded by the drain deadline, which the timer watches.
//!
//! On WebSocket the peer's Close frame is awaited and then the connection ends. Where no such answer
//! can be understood (TCP, HTTP, broken frames) our direction is ended and input is thrown away
//! until the peer ends its own: closing at once would reset the connection, and a reset may destroy
//! the last line before the peer has read it.

use protocol::code::{CloseCode, ErrorCode};
use protocol::reply;
use protocol::ws::{self, Opcode};
use shm_table::{Counter, Envelope, State, Urgency};

use crate::connection::{Connection, Flag};
use crate::work::Work;

/// What is said before the end. On TCP there is always a last line, and it has the close code.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Words<'a> {
    /// Just the Close frame; on TCP a `kicked` with the code's own reason.
    None,
    /// A `kicked` with this reason.
    Kicked(&'a str),
    /// An `error`.
    Error(ErrorCode, &'a str),
    /// On TCP an `error`; on WebSocket the Close frame says enough.
    LineError(ErrorCode, &'a str),
    /// The Close frame, with this reason instead of the code's own.
    Broken(&'a str),
}

impl Work<'_> {
    /// Closes a connection after the handshake: last words, Close frame, then the peer's turn.
    pub fn close(&mut self, connection: &mut Connection, code: CloseCode, words: Words<'_>) {
        if connection.closing() {
            return;
        }
        if connection.state == State::Handshake {
            // There is no protocol yet in which to say anything.
            self.finish(connection);
            return;
        }
        if code != CloseCode::NORMAL && code != CloseCode::GOING_AWAY {
            self.hands.count(Counter::Kicked, 1);
        }
        self.say(connection, code, words);
        if connection.is_framed() {
            self.say_close(connection, code, words);
        }
        if connection.gone {
            return;
        }
        connection.stream.close_code = code.0;
        if connection.transport == shm_table::Transport::Tcp {
            self.hang_up_after_output(connection);
        } else {
            self.begin_closing(connection);
        }
    }

    /// Closes a connection whose input cannot be understood any more.
    pub fn close_curtly(&mut self, connection: &mut Connection, code: CloseCode, words: Words<'_>) {
        self.close(connection, code, words);
        if !connection.gone {
            self.hang_up_after_output(connection);
        }
    }

    /// Closes a session against its client's will, telling it why.
    pub fn kick(&mut self, connection: &mut Connection, code: CloseCode) {
        if connection.closing() {
            return;
        }
        tracing::debug!(row = connection.handle.row, %code, reason = code.reason(), "kicked");
        let words = match connection.has(Flag::Echo) {
            true => Words::None,
            false => Words::Kicked(code.reason()),
        };
        self.close(connection, code, words);
    }

    /// The peer's Close frame has come: it is answered if it was not an answer itself, and then the
    /// connection ends.
    pub fn peer_closed(&mut self, connection: &mut Connection, code: Option<CloseCode>) {
        connection.set(Flag::PeerClosed, true);
        if connection.state != State::Closing {
            let answer = self.hands.compose(
                Urgency::Answer,
                |w| ws::close_answer(w, code),
                |_| Envelope {
                    prefix: [0; 10],
                    prefix_len: 0,
                    newline: false,
                },
            );
            self.queue(connection, answer);
            if connection.gone {
                return;
            }
            connection.stream.close_code = code.unwrap_or(CloseCode::NORMAL).0;
            self.begin_closing(connection);
        } else if !self.hands.has_output(connection.handle, &connection.stream) {
            self.finish(connection);
        }
    }

    /// Ends our direction once everything queued is written, without waiting for an answer.
    pub fn hang_up_after_output(&mut self, connection: &mut Connection) {
        connection.set(Flag::Curt, true);
        if connection.state == State::Closing {
            self.hands.receive_truncate(&mut connection.stream, 0);
            self.commit(connection);
            if !self.hands.has_output(connection.handle, &connection.stream) {
                self.farewell_sent(connection);
            }
        } else {
            self.begin_closing(connection);
        }
    }

    /// All that was queued for a closing connection is written.
    pub fn farewell_sent(&mut self, connection: &mut Connection) {
        if connection.has(Flag::PeerClosed) {
            self.finish(connection);
        } else if connection.has(Flag::Curt) && !connection.has(Flag::Ended) {
            connection.set(Flag::Ended, true);
            self.commit(connection);
            if let Some(socket) = self.seats.socket(connection.handle.row) {
                crate::socket::end_writing(socket);
            }
        }
    }

    /// The farewell is queued: the row's state says so, and a deadline bounds what follows.
    fn begin_closing(&mut self, connection: &mut Connection) {
        self.forget_message(connection);
        connection.set(Flag::Farewell, true);
        connection.set(Flag::FanningOut, false);
        if connection.has(Flag::Paused) {
            // Its outbox no longer matters; the peer's answer does.
            connection.set(Flag::Paused, false);
            self.read_again(connection.handle.row);
        }
        self.enter(connection, State::Closing);
        let deadline = self.clock.after(self.settings.limits.drain_timeout_ms);
        self.hands.set_deadline(connection.handle, deadline);
        self.commit(connection);
    }

    /// Gives back the room of a message that will not be completed. Input that is kept stays, as
    /// the peer's Close frame is found only by following the frames; unless nobody will look for it.
    fn forget_message(&mut self, connection: &mut Connection) {
        let assembled = connection.assembled();
        if connection.has(Flag::Curt) || connection.kept() == 0 {
            self.hands.receive_truncate(&mut connection.stream, 0);
        } else if assembled > 0 {
            let mut kept = self.lend_bytes();
            self.hands
                .receive_read(&connection.stream, assembled, &mut kept);
            self.hands.receive_truncate(&mut connection.stream, 0);
            if self
                .hands
                .receive_append(&mut connection.stream, &kept)
                .is_err()
            {
                connection.set(Flag::Curt, true);
            }
            self.return_bytes(kept);
        }
    }

    /// Moves a row of ours to another state.
    pub fn enter(&mut self, connection: &mut Connection, state: State) {
        self.hands.set_state(connection.handle, state);
        connection.state = state;
    }

    fn say(&mut self, connection: &mut Connection, code: CloseCode, words: Words<'_>) {
        let tcp = connection.transport == shm_table::Transport::Tcp;
        let shown = tcp.then_some(code);
        match words {
            Words::None | Words::Broken(_) if tcp => {
                self.answer(connection, |w| reply::kicked(w, code.reason(), shown));
            }
            Words::Kicked(reason) => {
                self.answer(connection, |w| reply::kicked(w, reason, shown));
            }
            Words::LineError(error, sentence) if tcp => {
                self.answer(connection, |w| {
                    reply::error(w, error, sentence, None, shown)
                });
            }
            Words::Error(error, sentence) => {
                self.answer(connection, |w| {
                    reply::error(w, error, sentence, None, shown)
                });
            }
            Words::None | Words::LineError(..) | Words::Broken(_) => {}
        }
    }

    fn say_close(&mut self, connection: &mut Connection, code: CloseCode, words: Words<'_>) {
        let reason = match words {
            Words::Broken(sentence) => sentence,
            _ => code.reason(),
        };
        let mut body = Vec::with_capacity(ws::CONTROL_BYTES_MAX);
        if ws::close_payload(&mut body, code, reason).is_ok() {
            self.send_frame(connection, Opcode::Close, &body);
        }
    }
}
