//! Messages for many: delivered over many rounds, a slice in each, and acknowledged when everybody has them.
//!
//! Their sender is not read meanwhile, so that its next message comes to nobody before this one. What is to be done stands in the table
//! ([`shm_table::Hands::begin_fanout`]); here is only what its worker notes for the end.

use protocol::code::ErrorCode;
use protocol::reply::{self, Status};
use shm_table::{Full, Message, Order, RowHandle, State, Step, Urgency};

use crate::connection::{Connection, Flag};
use crate::output::text_envelope;
use crate::work::Work;

/// A message for more recipients than this is delivered over several rounds, so many in each: about 0.1 ms.
pub(crate) const AT_ONCE: u32 = 512;

/// Recipients between two looks at the clock.
const STEP: u32 = 16;

/// What the sender is told in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Note<'a> {
    /// How many of the recipients are not those whom the message is for.
    pub others: u32,
    pub quiet: bool,
    /// Other hosts may have it too.
    pub elsewhere: bool,
    pub id: Option<&'a str>,
    pub message_id: &'a str,
}

impl<'a> Note<'a> {
    fn write(&self) -> Vec<u8> {
        let flags =
            u8::from(self.quiet) | u8::from(self.elsewhere) << 1 | u8::from(self.id.is_some()) << 2;
        let mut bytes = self.others.to_le_bytes().to_vec();
        bytes.push(flags);
        // Not more than `protocol::request::ID_BYTES_MAX`.
        bytes.push(self.id.unwrap_or_default().len() as u8);
        bytes.extend_from_slice(self.id.unwrap_or_default().as_bytes());
        bytes.extend_from_slice(self.message_id.as_bytes());
        bytes
    }

    fn read(bytes: &'a [u8]) -> Option<Self> {
        let (others, rest) = bytes.split_first_chunk()?;
        let (&[flags, id_bytes], rest) = rest.split_first_chunk()?;
        let (id, message_id) = rest.split_at_checked(usize::from(id_bytes))?;
        let id = str::from_utf8(id).ok()?;
        Some(Note {
            others: u32::from_le_bytes(*others),
            quiet: flags & 1 != 0,
            elsewhere: flags & 2 != 0,
            id: (flags & 4 != 0).then_some(id),
            message_id: str::from_utf8(message_id).ok()?,
        })
    }

    /// What is said of a message that so many recipients got.
    fn status(&self, reached: u32) -> Status {
        // As with short messages: of several who passed it over nobody knows which they were.
        if reached > self.others {
            Status::Delivered
        } else if self.elsewhere {
            Status::Routed
        } else {
            Status::Offline
        }
    }
}

impl Work<'_> {
    /// Whether a message for so many is delivered over several rounds.
    #[inline]
    pub fn is_for_many(&self, recipients: usize) -> bool {
        recipients > self.slice.at_once as usize
    }

    /// Sends a message to many. The connection is not read again until all have it, and is told then. `hand_over` gives it to
    /// the link, if other hosts are concerned. Without room it is refused, and nobody has it.
    pub fn begin_fanout(
        &mut self,
        connection: &mut Connection,
        message: Result<Message, Full>,
        recipients: &[RowHandle],
        note: &Note<'_>,
        hand_over: impl FnOnce(&mut Self, &Connection),
    ) {
        let ordinal = connection.stream.ordinal;
        let is_begun =
            connection.redo && self.hands.has_fanout_of(connection.handle, Some(ordinal));
        let prepared = match message {
            Ok(message) if is_begun => {
                self.hands.discard(message);
                return self.wait_for_fanout(connection);
            }
            message => message.and_then(|message| self.hands.prepare_fanout(message, recipients)),
        };
        let Ok(prepared) = prepared else {
            let sentence = "the server has no room for this message now";
            return self.refuse(connection, ErrorCode::Overloaded, sentence, note.id);
        };
        if note.elsewhere {
            hand_over(self, connection);
        }
        self.hands
            .begin_fanout(prepared, connection.handle, ordinal, &note.write());
        // Preparing took time for each of them too.
        self.is_time_over(recipients.len() as u32 / 256);
        self.wait_for_fanout(connection);
    }

    fn wait_for_fanout(&mut self, connection: &mut Connection) {
        connection.set(Flag::FanningOut, true);
        connection.set(Flag::Paused, true);
    }

    /// Goes on with the oldest fan-out, by one round's slice.
    #[inline]
    pub fn fan_out(&mut self) {
        if self.hands.has_fanout() {
            self.fan_out_slice();
        }
    }

    #[cold]
    #[inline(never)]
    fn fan_out_slice(&mut self) {
        if let Some(congestion) = self.fanout_congestion {
            if !self.hands.is_relieved(congestion) {
                return;
            }
            self.fanout_congestion = None;
        }
        self.hands.set_fanout_waits(false);
        let began_us = self.hands.now_us();
        let step = self.slice.at_once.min(STEP);
        let mut done = 0;
        while done < self.slice.at_once {
            match self.hands.fan_out(step) {
                Step::None | Step::Waits => return,
                Step::Done(recipients) => done += recipients,
                Step::Over => {
                    self.fanned_out();
                    done += step;
                }
            }
            self.fanout_congestion = self.hands.take_congestion();
            if let Some(congestion) = self.fanout_congestion {
                let waits = !self.hands.is_relieved(congestion);
                return self.hands.set_fanout_waits(waits);
            }
            let took_us = self.hands.now_us().wrapping_sub(began_us);
            if took_us >= self.slice.most_us / 2 {
                return;
            }
        }
    }

    /// All recipients of the oldest fan-out have it: its sender is told, and then read again. Should this process die before the last of
    /// that, its successor does all of it.
    fn fanned_out(&mut self) {
        let Some(done) = self.hands.fanned_out() else {
            return;
        };
        if let Some(note) = Note::read(&done.note) {
            let status = note.status(done.reached);
            if reply::is_told(status, note.quiet, note.id.is_some()) {
                self.tell_sender(done.sender, &note, status);
            }
        }
        self.hands.order(done.sender, Order::FANNED_OUT);
        self.hands.end_fanout();
    }

    fn tell_sender(&mut self, sender: RowHandle, note: &Note<'_>, status: Status) {
        let own = self.connection(sender.row);
        if let Some(mut connection) = own.filter(|connection| connection.handle == sender) {
            if !connection.closing() {
                self.answer(&mut connection, |w| {
                    reply::ack(w, note.id, note.message_id, status)
                });
            }
            return;
        }
        if self.hands.state(sender) != Some(State::LoggedIn) {
            return;
        }
        // It was handed over to another worker meanwhile. Without room for the answer its session ends, as an own one would.
        let write = |w: &mut Vec<u8>| reply::ack(w, note.id, note.message_id, status);
        let answer = self.hands.compose(Urgency::Answer, write, text_envelope);
        let told = answer.and_then(|answer| self.hands.deliver(answer, &[sender], Urgency::Answer));
        if told != Ok(1) {
            self.hands.order(sender, Order::UNSERVED);
        }
    }

    /// A connection is read again whose fan-out is over.
    pub fn fanout_over(&mut self, connection: &mut Connection) {
        // The order may be about an earlier one: its process died between giving it and ending that.
        if connection.closing()
            || !connection.has(Flag::FanningOut)
            || self.hands.has_fanout_of(connection.handle, None)
        {
            return;
        }
        connection.set(Flag::FanningOut, false);
        self.commit(connection);
        self.resume(connection);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_says_what_was_noted() {
        let longest = "7".repeat(protocol::request::ID_BYTES_MAX);
        for id in [None, Some("\"a\""), Some(&*longest)] {
            for (quiet, elsewhere) in [(false, false), (true, false), (false, true)] {
                let note = Note {
                    others: 70_000,
                    quiet,
                    elsewhere,
                    id,
                    message_id: "AAAAAAAAAAAAAAAAA_.18446744073709551615",
                };
                let bytes = note.write();
                assert!(bytes.len() <= shm_table::NOTE_BYTES_MAX);
                assert_eq!(Note::read(&bytes), Some(note));
            }
        }
        assert_eq!(Note::read(b"short"), None);
    }
}
