//! Lines, taken one after another from the input of a TCP connection.

use protocol::code::{CloseCode, ErrorCode};
use protocol::line::{self, Event};

use crate::closing::Words;
use crate::command;
use crate::connection::Connection;
use crate::rate;
use crate::reading::{Cursor, Step};
use crate::work::Work;

impl Work<'_> {
    /// Takes one line, or the part of it that has come, from the input and acts on it.
    pub fn next_line(
        &mut self,
        connection: &mut Connection,
        input: &[u8],
        cursor: &mut Cursor,
    ) -> Step {
        let Some(rest) = input.get(cursor.at..) else {
            return Step::NeedMore;
        };
        let line_bytes_max = self.settings.limits.message_bytes as usize;
        let assembled = connection.line_bytes();
        let (used, event) = line::next(rest, assembled as usize, line_bytes_max);
        if used > 0 {
            cursor.advance(self, connection, used);
        }
        if assembled == 0 && matches!(rest, [b'\r' | b'\n', ..]) {
            self.empty_lines(connection, rest.get(..used).unwrap_or_default());
            if connection.closing() {
                return Step::Again;
            }
        }
        match event {
            Event::NeedMore => return Step::NeedMore,
            Event::Line(line) => self.line(connection, line),
            Event::Piece { bytes, end: false } => {
                if self
                    .hands
                    .receive_append(&mut connection.stream, bytes)
                    .is_ok()
                {
                    connection.set_line_bytes(assembled + bytes.len() as u32);
                    self.is_within_rate(connection, rate::PART);
                } else {
                    self.no_room(connection);
                }
            }
            Event::Piece { bytes, end: true } => {
                let mut whole = self.lend_bytes();
                self.hands.receive_read(&connection.stream, 0, &mut whole);
                whole.extend_from_slice(bytes);
                self.hands.receive_truncate(&mut connection.stream, 0);
                connection.set_line_bytes(0);
                self.line(connection, line::trim(&whole));
                self.return_bytes(whole);
            }
            Event::TooLong => {
                let words = Words::LineError(ErrorCode::TooBig, "the line is too long");
                self.close(connection, CloseCode::TOO_BIG, words);
            }
        }
        if cursor.at < input.len() {
            // Behind the last one, what is left to do comes first (`parse`).
            self.commit(connection);
        }
        Step::Again
    }

    /// Counts the empty lines with which `input` begins. Old clients end each message with two bytes of these.
    #[cold]
    fn empty_lines(&mut self, connection: &mut Connection, input: &[u8]) {
        let ends = input
            .iter()
            .take_while(|byte| matches!(byte, b'\r' | b'\n'));
        let cost = rate::PART * (ends.count() as u32).div_ceil(2);
        self.is_within_rate(connection, cost);
    }

    /// A whole line.
    fn line(&mut self, connection: &mut Connection, line: &[u8]) {
        connection.alive = true;
        if connection.closing() {
            return;
        }
        match protocol::text(line) {
            Ok(text) => command::handle(self, connection, text),
            Err(code) => {
                let words = Words::LineError(ErrorCode::BadJson, "the line is not UTF-8");
                self.close(connection, code, words);
            }
        }
    }
}
