//! What a member still waits to be answered.
//!
//! The server answers one session's requests in their order. The only answer that may come again is the last one: the request
//! that a process had in hand when it died.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Instant;

use tokio::sync::Notify;

use super::letter::Letter;

/// The answer to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// `system` with `event` `login`.
    Login,
    /// `system` with `event` `join`.
    Join,
    /// `pong`.
    Pong,
    /// `ack` of the request with this id.
    Ack(u32),
    /// The message itself: the sender's own copy.
    Copy(Letter),
}

/// How an answer was received.
#[derive(Debug, PartialEq, Eq)]
pub enum Settled {
    /// It was the next one, and was asked for then.
    First(Instant),
    /// It is the last one again.
    Again,
}

/// The answers that one session waits for.
#[derive(Default)]
pub struct Answers {
    open: Mutex<Open>,
    settled: Notify,
}

#[derive(Default)]
struct Open {
    expected: VecDeque<(Answer, Instant)>,
    last: Option<Answer>,
    /// WebSocket pings, answered beside the messages.
    pings: VecDeque<Vec<u8>>,
    last_ping: Option<Vec<u8>>,
}

impl Answers {
    /// To be called before the request goes out.
    pub fn expect(&self, answer: Answer) {
        let mut open = self.open.lock().unwrap();
        open.expected.push_back((answer, Instant::now()));
    }

    /// The same for a WebSocket ping.
    pub fn expect_pong(&self, payload: Vec<u8>) {
        self.open.lock().unwrap().pings.push_back(payload);
    }

    /// An answer came; an error says why it is wrong.
    pub fn settle(&self, answer: Answer) -> Result<Settled, String> {
        let mut open = self.open.lock().unwrap();
        if open
            .expected
            .front()
            .is_some_and(|(next, _)| *next == answer)
        {
            let (answer, since) = open.expected.pop_front().expect("there is a first one");
            open.last = Some(answer);
            self.settled.notify_one();
            return Ok(Settled::First(since));
        }
        if open.last == Some(answer) {
            return Ok(Settled::Again);
        }
        let next = open.expected.front().map(|(next, _)| next);
        Err(format!(
            "{answer:?} came, {next:?} was to come, after {:?}",
            open.last
        ))
    }

    /// The answer to a WebSocket ping came.
    pub fn settle_pong(&self, payload: Vec<u8>) -> Result<(), String> {
        let mut open = self.open.lock().unwrap();
        if open.pings.front() == Some(&payload) {
            open.last_ping = open.pings.pop_front();
            self.settled.notify_one();
        } else if open.last_ping.as_ref() != Some(&payload) {
            return Err(format!("the pong {payload:?} was not to come"));
        }
        Ok(())
    }

    /// What is still to come.
    pub fn missing(&self) -> Option<String> {
        let open = self.open.lock().unwrap();
        let count = open.expected.len() + open.pings.len();
        (count > 0).then(|| {
            let next = open.expected.front();
            format!(
                "{count} answers, the first {:?}",
                next.map(|(next, _)| next)
            )
        })
    }

    /// Waits until nothing is to come any more. One task at a time.
    pub async fn all(&self) {
        while self.missing().is_some() {
            self.settled.notified().await;
        }
    }
}
