//! Messages from other hosts, put into the outboxes of those here whom they are for.

use std::io::Write;

use protocol::ws::{self, Opcode};
use shm_table::{Counter, Envelope, RowHandle, Urgency};

use crate::lane::Outcome;
use crate::link::Link;
use crate::parcel::{Kind, Parcel};

/// What goes around a text message: a frame header for WebSocket, a line end for TCP.
pub fn text_envelope(bytes: usize) -> Envelope {
    let header = ws::header(Opcode::Text, bytes);
    Envelope {
        prefix: header.bytes,
        prefix_len: header.len,
        newline: true,
    }
}

impl Link<'_> {
    /// Delivers a message. `Reached` only if one of those it is for has it for certain, `Full` if nobody has.
    pub fn deliver(&mut self, parcel: &Parcel<'_>) -> Outcome {
        let mut recipients = std::mem::take(&mut self.recipients);
        recipients.clear();
        let addressed = self.recipients(parcel, &mut recipients);
        let outcome = self.deliver_to(parcel.body, &recipients, addressed);
        self.recipients = recipients;
        self.hands.count(Counter::TakenIn, 1);
        if let Some(congestion) = self.hands.take_congestion() {
            self.congestion = Some(congestion);
        }
        outcome
    }

    /// Finds the sessions a message goes to; how many of the first it is for.
    fn recipients(&self, parcel: &Parcel<'_>, into: &mut Vec<RowHandle>) -> usize {
        match parcel.kind {
            Kind::Group => {
                self.hands.members_of(parcel.to, into);
            }
            Kind::Everyone => self.hands.everyone(into),
            _ => {
                self.hands.sessions_of(parcel.to, into);
                let addressed = into.len();
                if parcel.from != parcel.to {
                    self.hands.sessions_of(parcel.from, into);
                }
                return addressed;
            }
        }
        into.len()
    }

    fn deliver_to(&mut self, body: &[u8], to: &[RowHandle], addressed: usize) -> Outcome {
        if to.is_empty() {
            return Outcome::Nobody;
        }
        let message = self.hands.compose(
            Urgency::Message,
            |w: &mut Vec<u8>| w.write_all(body),
            text_envelope,
        );
        let reached = message.and_then(|message| self.hands.deliver(message, to, Urgency::Message));
        match reached {
            Err(_) => Outcome::Full,
            Ok(reached) if reached as usize > to.len() - addressed => Outcome::Reached,
            Ok(_) => Outcome::Nobody,
        }
    }
}
