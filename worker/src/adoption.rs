//! Adoption: a connection goes on with this process where the last one stopped, at whatever instruction that was.
//!
//! The row says how far its byte streams were accounted for, the kernel how far they really went. Between the two lies at
//! most one read and one write:
//!
//! - bytes written and not accounted for are skipped;
//! - bytes read and not accounted for are still in the read window, which belongs to the slot and not to the process; they
//!   are parsed from there, by the code that parses every read. The message that was being handled is handled
//!   once more, with the same ordinal and so with the same id. Where the connection was handed over because nobody could fill the dead
//!   process's slot, they are in that slot's window, which nobody writes to until they are accounted for.
//!
//! A few steps of a connection's life change its row's state before the stream is committed. Where the two disagree, the
//! state is set so that doing the step again gives what doing it once would have.
//!
//! The same happens after a crash, a reload and an upgrade; after the last two there is nothing to skip and nothing to parse.

use std::os::fd::AsFd;

use protocol::code::CloseCode;
use protocol::ws::{Decoder, Event};
use shm_table::{Counter, Found, ReadWindow, State, Transport};

use crate::closing::Words;
use crate::connection::{Connection, Flag};
use crate::work::Work;

/// Most bytes of a poisonous input that are logged.
const LOGGED_BYTES_MAX: usize = 1024;

impl Work<'_> {
    /// Takes over a connection whose row is this process's now and whose socket is watched.
    pub fn adopt(&mut self, connection: &mut Connection, window: &mut ReadWindow<'_>) {
        let row = connection.handle.row;
        let Some(socket) = self.seats.socket(row) else {
            return;
        };
        let counts = match sys::tcp::counts(socket.as_fd()) {
            Ok(counts) => counts,
            Err(error) => {
                tracing::error!(row, %error, "a connection's counts cannot be read, so it ends");
                return self.finish(connection);
            }
        };
        let has_room = connection.has(Flag::Ended)
            || self.hands.reconcile_written(
                connection.handle,
                &mut connection.stream,
                counts.written,
            );
        if !has_room {
            // A last word past the outbox (see `abandon`) was all that remained to be said.
            return self.finish(connection);
        }
        self.repair(connection);
        if !connection.gone {
            self.go_on_reading(connection, window, counts.consumed);
        }
        if !connection.gone {
            self.go_on_writing(connection);
        }
        if !connection.gone {
            self.tell_client_again(connection);
        }
        // Whether its input was found in a window or not: the window is free from here on.
        self.hands.release_input(connection.handle);
        self.look_at_window();
    }

    /// Makes state and stream agree.
    fn repair(&mut self, connection: &mut Connection) {
        match (connection.state, connection.transport) {
            (State::Connected, Transport::WebSocket) if !connection.has(Flag::Greeted) => {
                // The request is not accounted for, so it will be parsed again; its answer is not queued twice.
                self.enter(connection, State::Handshake);
            }
            (State::Connected, Transport::Tcp) if !connection.has(Flag::Greeted) => {
                if self.hands.has_output(connection.handle, &connection.stream) {
                    connection.set(Flag::Greeted, true);
                } else {
                    self.greet(connection);
                }
                self.commit(connection);
            }
            (State::Closing, _) if !connection.has(Flag::Farewell) => {
                // Its last words are queued. What it was that they answered is not known any more, nor needed.
                connection.set(Flag::Farewell, true);
                connection.set(Flag::Curt, true);
                connection.set(Flag::Paused, false);
                connection.set(Flag::FanningOut, false);
                self.hands.receive_truncate(&mut connection.stream, 0);
                let deadline = self.clock.after(self.settings.limits.drain_timeout_ms);
                self.hands.set_deadline(connection.handle, deadline);
                self.commit(connection);
            }
            _ => {}
        }
    }

    /// Parses what the predecessor had read and not accounted for, and sees to it that what it meant to read is read.
    fn go_on_reading(
        &mut self,
        connection: &mut Connection,
        window: &mut ReadWindow<'_>,
        consumed: u64,
    ) {
        let row = connection.handle.row;
        let Some(lost) = consumed.checked_sub(connection.stream.consumed) else {
            tracing::error!(
                row,
                consumed,
                recorded = connection.stream.consumed,
                "a connection has read less than it accounts for"
            );
            return self.close_curtly(connection, CloseCode::INTERNAL, Words::None);
        };
        if lost > 0 && connection.state == State::Closing && connection.has(Flag::Curt) {
            connection.stream.consumed = consumed;
            self.commit(connection);
        } else {
            let found = self.hands.find_input(connection.handle);
            let behind = connection.has(Flag::Behind) && found.is_some();
            if lost > 0 || behind {
                self.go_on_handling(connection, window, lost, found);
            }
        }
        if connection.gone {
            return;
        }
        if connection.has(Flag::Paused) {
            self.resume(connection);
        } else if connection.has(Flag::Behind) {
            self.read_again(row);
        }
    }

    /// Handles the message again that was being handled, unless it was at the crash before as well.
    fn go_on_handling(
        &mut self,
        connection: &mut Connection,
        window: &mut ReadWindow<'_>,
        lost: u64,
        found: Option<Found>,
    ) {
        let row = connection.handle.row;
        let from = connection.stream.consumed;
        if self.hands.suspect(connection.handle, from) {
            self.log_poison(connection, lost, found);
            self.hands.count(Counter::Poisoned, 1);
            connection.stream.consumed = from.wrapping_add(lost);
            connection.set(Flag::Behind, false);
            self.close_curtly(connection, CloseCode::INTERNAL, Words::None);
            return;
        }
        if !self.salvage(window, connection, lost, found) {
            tracing::error!(
                row,
                lost,
                "input that a dead process had read is not in its window"
            );
            self.close_curtly(connection, CloseCode::INTERNAL, Words::None);
        }
    }

    fn log_poison(&self, connection: &Connection, lost: u64, found: Option<Found>) {
        let handle = connection.handle;
        let mut input = Vec::new();
        self.hands.receive_read(&connection.stream, 0, &mut input);
        let assembled = connection.assembled() as usize;
        if let Some(found) = found {
            let from = connection.stream.consumed;
            // What is not there is not shown.
            let _ = self.hands.copy_input(found, from, lost, &mut input);
        }
        let shown = match input.split_at_checked(assembled) {
            Some((before, fresh)) if connection.is_framed() => {
                [before, &self.unmasked(connection.decoder(), fresh)].concat()
            }
            _ => input,
        };
        tracing::error!(
            row = handle.row,
            session = &*self.hands.session_id(handle),
            user = self.hands.user_name(handle).as_deref().unwrap_or_default(),
            peer = ?self.hands.peer(handle),
            bytes = shown.len(),
            input = %shown.get(..LOGGED_BYTES_MAX).unwrap_or(&shown).escape_ascii(),
            "poison: this input was being handled at two crashes running, so its session is closed"
        );
    }

    /// The payload of the frames in `input`, up to the end of the first message.
    fn unmasked(&self, mut decoder: Decoder, mut input: &[u8]) -> Vec<u8> {
        let (mut all, mut part) = (Vec::new(), Vec::new());
        loop {
            let most = self.settings.limits.message_bytes as usize;
            let (used, event) = decoder.next(input, most, &mut part);
            let goes_on = match event {
                Event::Message { payload, .. } => {
                    all.extend_from_slice(payload);
                    false
                }
                Event::Piece { payload, end } => {
                    all.extend_from_slice(payload);
                    end.is_none()
                }
                Event::Ping(_) | Event::Pong(_) => true,
                Event::NeedMore { .. } | Event::Close { .. } | Event::Violation { .. } => false,
            };
            input = input.get(used..).unwrap_or_default();
            if !goes_on {
                return all;
            }
        }
    }

    /// Sees to it that what is queued is written, and that a close goes on.
    fn go_on_writing(&mut self, connection: &mut Connection) {
        self.hands.set_blocked(connection.handle, false);
        if connection.has(Flag::Ended) {
            // The predecessor may have died before it could.
            if let Some(socket) = self.seats.socket(connection.handle.row) {
                crate::socket::end_writing(socket);
            }
        }
        self.obey(connection);
        if !connection.gone {
            self.flush(connection);
        }
    }
}
