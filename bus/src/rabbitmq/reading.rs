//! The reading half of a session.

use bytes::{Bytes, BytesMut};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, ReadHalf},
    time::timeout,
};

use super::{
    CONTENT_BYTES_MAX, Rabbit,
    decode::{Said, next},
    session::News,
};
use crate::wire::{Broken, Stream};

const CHUNK_BYTES: usize = 64 * 1024;
/// How long a broker that takes nothing may be silent: it is asked nothing meanwhile, and sends its heartbeats only.
const BLOCKED_PATIENCE: Duration = Duration::from_secs(25);

/// Reads what the broker says and tells the writing half what it needs to know.
pub(super) struct Reading<'a> {
    rabbit: &'a Rabbit,
    read: ReadHalf<Box<dyn Stream>>,
    input: BytesMut,
    news: &'a News,
    delivery: Option<Delivery>,
    blocked: bool,
    /// Numbers that the broker confirmed out of order: those between are still open. As many as are unconfirmed at most.
    confirmed: Confirmed,
}

/// A content that is on its way.
struct Delivery {
    number: u64,
    missing: u64,
    content: Content,
}

enum Content {
    None,
    /// Most contents consist of one frame.
    One(Bytes),
    More(BytesMut),
}

#[derive(Default)]
struct Confirmed {
    up_to: u64,
    beyond: std::collections::BTreeSet<u64>,
}

impl<'a> Reading<'a> {
    pub(super) fn new(
        rabbit: &'a Rabbit,
        read: ReadHalf<Box<dyn Stream>>,
        input: BytesMut,
        news: &'a News,
    ) -> Self {
        Self {
            rabbit,
            read,
            input,
            news,
            delivery: None,
            blocked: false,
            confirmed: Confirmed::default(),
        }
    }

    /// Until the connection breaks.
    pub(super) async fn run(mut self) -> Broken {
        loop {
            if let Err(broken) = self.turn().await {
                return broken;
            }
        }
    }

    async fn turn(&mut self) -> Result<(), Broken> {
        let mut taken = 0;
        while let Some(said) = next(&mut self.input)? {
            if let Some(number) = self.hear(said)? {
                taken = number;
            }
        }
        if taken != 0 {
            // What the broker has handed out and not been told about is bounded, so it is told only once there is room for more.
            self.rabbit.frames.room().await;
            self.news.change(|facts| facts.taken = taken);
        }
        if self.input.capacity() - self.input.len() < CHUNK_BYTES / 8 {
            self.input.reserve(self.input.len().max(CHUNK_BYTES));
        }
        let patience = if self.blocked {
            BLOCKED_PATIENCE
        } else {
            self.rabbit.patience
        };
        match timeout(patience, self.read.read_buf(&mut self.input)).await {
            Err(_) => Err(Broken::Silent(patience)),
            Ok(Ok(0)) => Err(Broken::Closed),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.into()),
        }
    }

    /// Gives back the number of a delivery that is complete.
    fn hear(&mut self, said: Said) -> Result<Option<u64>, Broken> {
        match said {
            Said::Deliver(number) => {
                self.delivery = Some(Delivery {
                    number,
                    missing: 0,
                    content: Content::None,
                })
            }
            Said::Header { bytes } => {
                let delivery = self
                    .delivery
                    .as_mut()
                    .ok_or(Broken::Malformed("a content belongs to nothing"))?;
                if bytes > 2 * CONTENT_BYTES_MAX as u64 {
                    return Err(Broken::Malformed("a content is too long"));
                }
                delivery.missing = bytes;
                return Ok(self.complete());
            }
            Said::Body(part) => {
                let delivery = self
                    .delivery
                    .as_mut()
                    .ok_or(Broken::Malformed("a content belongs to nothing"))?;
                delivery.missing = delivery
                    .missing
                    .checked_sub(part.len() as u64)
                    .ok_or(Broken::Malformed("a content is longer than announced"))?;
                delivery.content.add(part);
                return Ok(self.complete());
            }
            Said::Ack { number, all_before } => {
                self.confirmed.add(number, all_before);
                let up_to = self.confirmed.up_to;
                self.news.change(|facts| facts.confirmed = up_to);
            }
            Said::Flow(active) => self.news.change(|facts| facts.flow = Some(active)),
            Said::Blocked(why) => {
                self.rabbit
                    .state
                    .away(format_args!("RabbitMQ takes no messages at present: {why}"));
                self.blocked = true;
                self.news.change(|facts| facts.blocked = true);
            }
            Said::Unblocked => {
                self.rabbit.state.up();
                self.blocked = false;
                self.news.change(|facts| facts.blocked = false);
            }
            Said::Closed(why) => return Err(Broken::Refused(why)),
            Said::Done | Said::Heartbeat | Said::Start | Said::Tune { .. } | Said::Consuming => {}
        }
        Ok(None)
    }

    fn complete(&mut self) -> Option<u64> {
        let delivery = self.delivery.take_if(|delivery| delivery.missing == 0)?;
        self.rabbit.frames.accept_anyway(&delivery.content.finish());
        Some(delivery.number)
    }
}

impl Content {
    fn add(&mut self, part: Bytes) {
        match self {
            Self::None => *self = Self::One(part),
            Self::One(first) => {
                let mut all = BytesMut::with_capacity(2 * (first.len() + part.len()));
                all.extend_from_slice(first);
                all.extend_from_slice(&part);
                *self = Self::More(all);
            }
            Self::More(all) => all.extend_from_slice(&part),
        }
    }

    fn finish(self) -> Bytes {
        match self {
            Self::None => Bytes::new(),
            Self::One(content) => content,
            Self::More(all) => all.freeze(),
        }
    }
}

impl Confirmed {
    fn add(&mut self, number: u64, all_before: bool) {
        if all_before {
            self.up_to = self.up_to.max(number);
            self.beyond = self.beyond.split_off(&(self.up_to + 1));
        } else if number > self.up_to {
            self.beyond.insert(number);
        }
        while self.beyond.remove(&(self.up_to + 1)) {
            self.up_to += 1;
        }
    }
}
