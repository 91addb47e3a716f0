//! The listening half of a member: holds everything that comes against what must come.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::answers::{Answer, Settled};
use super::letter::{Letter, To};
use super::member::PAUSE_MAX;
use super::world::World;
use crate::random::Random;
use crate::wire::{Ear, Heard};

/// A member's ears and what it remembers of what it heard.
pub struct Listener {
    world: Arc<World>,
    index: usize,
    random: Random,
    /// Whether it falls asleep now and then, so that its socket fills and the server writes in parts.
    dozes: bool,
    /// By sender and whether it was to all: the next letter's number, and the id of the one before.
    streams: HashMap<(usize, bool), (u32, String)>,
    opened: bool,
    last_error: String,
}

/// The close code, and the last words.
pub type Ending = (Option<u16>, String);

impl Listener {
    /// Of this member.
    pub fn new(world: Arc<World>, index: usize, dozes: bool) -> Listener {
        let random = world.plan.random("listener", index);
        Listener {
            world,
            index,
            random,
            dozes,
            streams: HashMap::new(),
            opened: false,
            last_error: String::new(),
        }
    }

    /// Listens until the server says the end, and returns what it says, with the connection. An error is what must never happen.
    pub async fn listen(mut self, mut ear: Ear) -> Result<(Ending, Ear), String> {
        loop {
            match ear.hear().await {
                Ok(Heard::Text(text)) => {
                    if let Some(ending) = self.hear(&text)? {
                        return Ok((ending, ear));
                    }
                }
                Ok(Heard::Pong(payload)) => self.account().answers.settle_pong(payload)?,
                Ok(Heard::Close(code)) => return Ok(((code, self.last_error), ear)),
                Ok(Heard::End) => return Err("the connection ended without a word".into()),
                Err(error) => return Err(format!("the connection broke: {error}")),
            }
            if self.dozes && self.random.one_in(200) {
                let pause = 20 + self.random.below(300);
                tokio::time::sleep(Duration::from_millis(pause as u64)).await;
            }
        }
    }

    fn account(&self) -> &super::ledger::Account {
        &self.world.ledger.accounts[self.index]
    }

    /// One message; how it ends if it is a last one.
    fn hear(&mut self, text: &str) -> Result<Option<Ending>, String> {
        if !self.last_error.is_empty() {
            return Err(self.last_error.clone());
        }
        let said: Value =
            serde_json::from_str(text).map_err(|error| format!("{error} in {text:?}"))?;
        match (said["type"].as_str(), said["event"].as_str()) {
            (Some("open"), _) if !self.opened => self.opened = true,
            (Some("message"), _) => self.letter(&said)?,
            (Some("ack"), _) if said["status"] == "delivered" => {
                let id = said["id"].as_u64().and_then(|id| u32::try_from(id).ok());
                let id = id.ok_or_else(|| format!("whose answer is {text}"))?;
                self.answer(Answer::Ack(id), &said["messageId"])?;
            }
            (Some("pong"), _) => self.answer(Answer::Pong, &Value::Null)?,
            (Some("system"), Some("login")) => self.answer(Answer::Login, &Value::Null)?,
            (Some("system"), Some("join")) => self.answer(Answer::Join, &Value::Null)?,
            (Some("kicked" | "error"), _) if said["closeCode"].is_u64() => {
                let code = said["closeCode"].as_u64().map(|code| code as u16);
                return Ok(Some((code, text.to_owned())));
            }
            // A last word before a close frame; anything but a close behind it is a fault as well.
            (Some("error" | "kicked"), _) if self.last_error.is_empty() => {
                self.last_error = text.to_owned();
            }
            _ => return Err(format!("{text:?} was not to come")),
        }
        Ok(None)
    }

    fn answer(&self, answer: Answer, cause: &Value) -> Result<(), String> {
        match self.account().answers.settle(answer)? {
            Settled::First(asked) if !self.dozes => {
                let member = self.index;
                self.world.waits.ended(said_by_now(asked), || {
                    format!("{answer:?} of member {member}")
                });
            }
            Settled::First(_) => {}
            Settled::Again => {
                let cause = cause.as_str().map(str::to_owned);
                let what = cause.unwrap_or_else(|| format!("{answer:?} of member {}", self.index));
                self.world.ledger.twice(what);
            }
        }
        self.world.ledger.count("answers", 1);
        Ok(())
    }

    /// How long the next letter of its partner was under way.
    fn partner_letter(&self, letter: Letter) {
        let account = &self.world.ledger.accounts[letter.from];
        let sent = account.under_way.lock().unwrap().pop_front();
        if let Some(sent) = sent.filter(|_| !self.dozes) {
            self.world
                .waits
                .ended(said_by_now(sent), || format!("{letter:?}"));
        }
    }

    fn letter(&mut self, said: &Value) -> Result<(), String> {
        let (Some(id), Some(content)) = (said["id"].as_str(), said["content"].as_str()) else {
            return Err(format!("no message: {said}"));
        };
        let letter = Letter::read(content)?;
        if said["from"] != name(letter.from) {
            return Err(format!("{said} is not from {letter:?}"));
        }
        if letter.from == self.index {
            return self.answer(Answer::Copy(letter), &said["id"]);
        }
        let circle = self.index / self.world.plan.circle;
        let world = self.world.clone();
        let account = &world.ledger.accounts[self.index];
        let (count, to_all) = match letter.to {
            To::Member(to) if to == self.index && letter.from == self.index ^ 1 => {
                (&account.from_partner, false)
            }
            To::Circle(to) if to == circle && said["group"] == group(to) => {
                (&account.from_circle, true)
            }
            _ => return Err(format!("{letter:?} is for somebody else")),
        };
        let stream = self.streams.entry((letter.from, to_all)).or_default();
        if letter.number == stream.0 {
            count.fetch_add(1, SeqCst);
            *stream = (letter.number + 1, id.to_owned());
            if !to_all {
                self.partner_letter(letter);
            }
            world.ledger.count("letters heard", 1);
        } else if letter.number + 1 == stream.0 && id == stream.1 {
            world.ledger.twice(id.to_owned());
        } else {
            let next = stream.0;
            return Err(format!(
                "{letter:?} with id {id} came instead of number {next}; the id before: {}",
                stream.1
            ));
        }
        Ok(())
    }
}

/// When the last byte of what a member began to say then went out, at the latest: it may pause thrice.
fn said_by_now(begun: Instant) -> Instant {
    (begun + 4 * PAUSE_MAX).min(Instant::now())
}

/// The user that a member is.
pub fn name(member: usize) -> String {
    format!("u{member}")
}

/// The group of a circle.
pub fn group(circle: usize) -> String {
    format!("g{circle}")
}
