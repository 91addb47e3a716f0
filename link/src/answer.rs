//! What senders are told.

use std::io;

use protocol::code::ErrorCode;
use protocol::reply::{self, Status};
use shm_table::{Counter, Urgency};

use crate::deliver::text_envelope;
use crate::lane::Outcome;
use crate::letters::Sender;
use crate::link::Link;

impl Link<'_> {
    /// Another host has answered for a letter of ours.
    pub fn answered(&mut self, number: u64, outcome: Outcome) {
        let Some(letter) = self.letters.find(number) else {
            return;
        };
        letter.awaited = letter.awaited.saturating_sub(1);
        match outcome {
            Outcome::Nobody => {}
            Outcome::Reached => letter.taken = true,
            Outcome::Full => letter.refused = true,
            Outcome::Answer(answer) => {
                if let Some(question) = &mut letter.question {
                    let names: Vec<String> = serde_json::from_slice(&answer).unwrap_or_default();
                    question.users.extend(names);
                }
            }
        }
        if letter.awaited > 0 {
            return;
        }
        if letter.question.is_some() {
            self.members_known(number);
        } else {
            self.settle(number);
        }
    }

    /// Tells a sender what became of its message, if it wants to hear it.
    pub fn tell(&mut self, sender: &Sender, status: Status) {
        if !sender.reached && reply::is_told(status, sender.quiet, sender.id.is_some()) {
            let id = sender.id.as_deref();
            self.say(sender, |w| reply::ack(w, id, &sender.message_id, status));
        }
    }

    /// Tells a sender that its message or question is refused.
    pub fn refuse(&mut self, sender: &Sender, code: ErrorCode, sentence: &str) {
        self.hands.count(Counter::Refused, 1);
        let id = sender.id.as_deref();
        self.say(sender, |w| reply::error(w, code, sentence, id, None));
    }

    /// Sends a session something. Where there is no room even for that, the session is one that cannot be told anything.
    pub fn say(&mut self, sender: &Sender, write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) {
        let message = self.hands.compose(Urgency::Answer, write, text_envelope);
        let said = message.and_then(|message| {
            self.hands
                .deliver(message, &[sender.session], Urgency::Answer)
        });
        if said.is_err() {
            tracing::debug!(row = sender.session.row, "no room for an answer");
        }
    }
}
