//! Frames, taken one after another from the input: messages to the protocol or back to the echo,
//! pieces to the receive buffer, control frames answered.

use protocol::code::CloseCode;
use protocol::ws::{self, Event, Kind};
use shm_table::State;

use crate::closing::Words;
use crate::command;
use crate::connection::{Connection, Flag};
use crate::rate;
use crate::reading::{Cursor, Step};
use crate::work::{SPARE_BYTES_MAX, Work};

impl Work<'_> {
    /// Takes one event of the frame decoder from the input and acts on it.
    pub fn next_frame(
        &mut self,
        connection: &mut Connection,
        input: &[u8],
        cursor: &mut Cursor,
    ) -> Step {
        let mut unmasked = std::mem::take(&mut self.spare.unmasked);
        let step = self.next_event(connection, input, cursor, &mut unmasked);
        if unmasked.capacity() <= SPARE_BYTES_MAX {
            self.spare.unmasked = unmasked;
        }
        step
    }

    fn next_event(
        &mut self,
        connection: &mut Connection,
        input: &[u8],
        cursor: &mut Cursor,
        unmasked: &mut Vec<u8>,
    ) -> Step {
        let Some(rest) = input.get(cursor.at..) else {
            return Step::NeedMore;
        };
        let message_bytes_max = self.settings.limits.message_bytes as usize;
        let mut decoder = connection.decoder();
        let before = connection.assembled();
        let (used, event) = decoder.next(rest, message_bytes_max, unmasked);
        if used > 0 {
            cursor.advance(self, connection, used);
        }
        connection.set_decoder(&decoder);
        match event {
            Event::NeedMore { .. } => {
                self.empty_fragments(connection, used);
                return Step::NeedMore;
            }
            Event::Message { kind, payload } => self.framed_message(connection, kind, payload),
            Event::Piece { payload, end: None } => {
                self.empty_fragments(connection, used - payload.len());
                self.piece(connection, payload);
            }
            Event::Piece {
                payload,
                end: Some(kind),
            } => {
                self.empty_fragments(connection, used - payload.len());
                self.last_piece(connection, kind, payload, before);
            }
            Event::Ping(payload) => {
                connection.alive = true;
                // Of several pings in a row the last one is answered (RFC 6455 section 5.5.3). Whoever comes after this process finds
                // it in the window, so that nothing has to be remembered.
                let is_last = !ws::begins_with_ping(input.get(cursor.at..).unwrap_or_default());
                let is_within = self.is_within_rate(connection, rate::PART);
                if is_within && is_last && !connection.closing() {
                    self.send_pong(connection, payload);
                }
            }
            Event::Pong(_) => {
                connection.alive = true;
                self.is_within_rate(connection, rate::PART);
            }
            Event::Close { code, .. } => self.peer_closed(connection, code),
            Event::Violation { code, sentence } => {
                tracing::debug!(row = connection.handle.row, %code, sentence, "broken frame");
                self.close_curtly(connection, code, Words::Broken(sentence));
            }
        }
        if cursor.at < input.len() {
            // Behind the last one, what is left to do comes first (`parse`).
            self.commit(connection);
        }
        Step::Again
    }

    /// Counts the fragments that the decoder passed over because nothing was in them, by the bytes of their headers: the least is 6 long.
    fn empty_fragments(&mut self, connection: &mut Connection, header_bytes: usize) {
        let fragments = header_bytes as u32 / 8;
        if fragments > 1 {
            self.is_within_rate(connection, fragments);
        }
    }

    /// Part of a message whose end has not come. It cannot be left out, but past the rate it counts against the session.
    fn piece(&mut self, connection: &mut Connection, payload: &[u8]) {
        self.is_within_rate(connection, rate::PART);
        if connection.closing() {
            return;
        }
        if connection.has(Flag::Echo) {
            connection.alive = true;
        }
        if self
            .hands
            .receive_append(&mut connection.stream, payload)
            .is_err()
        {
            self.no_room(connection);
        }
    }

    /// The end of a message of which `before` bytes are in the receive buffer.
    fn last_piece(&mut self, connection: &mut Connection, kind: Kind, payload: &[u8], before: u32) {
        if before == 0 || connection.state == State::Closing {
            self.framed_message(connection, kind, payload);
            return;
        }
        let mut whole = self.lend_bytes();
        self.hands.receive_read(&connection.stream, 0, &mut whole);
        whole.extend_from_slice(payload);
        self.hands.receive_truncate(&mut connection.stream, 0);
        self.framed_message(connection, kind, &whole);
        self.return_bytes(whole);
    }

    /// A whole message, wherever it lies.
    fn framed_message(&mut self, connection: &mut Connection, kind: Kind, payload: &[u8]) {
        connection.alive = true;
        let echo = connection.has(Flag::Echo);
        // All others say so in `command`, where it is known which message it is.
        let counted = echo || connection.closing();
        if counted && !self.is_within_rate(connection, rate::message(payload.len()))
            || connection.closing()
        {
            return;
        }
        match (kind, protocol::text(payload)) {
            (Kind::Binary, _) if !echo => {
                self.close(connection, CloseCode::UNSUPPORTED, Words::None);
            }
            (Kind::Text, Err(code)) => self.close_curtly(connection, code, Words::None),
            (Kind::Text, Ok(text)) if !echo => command::handle(self, connection, text),
            _ => self.send_frame(connection, kind.into(), payload),
        }
    }
}
