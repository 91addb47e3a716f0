//! One connection to the broker, from its beginning to its end.

use bytes::BytesMut;
use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf},
    sync::Notify,
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use super::{
    Out, Rabbit,
    decode::{FRAME_BYTES_MAX, Said, next},
    encode::{Encoder, QueueBounds},
    reading::Reading,
};
use crate::{
    carrier::BATCH_BYTES,
    queue::Batch,
    wire::{Broken, Stream, connect},
};

/// A queue without a consumer ends after this; a link that is replaced is back long before.
const EXPIRES_MS: i64 = 10_000;
/// A frame that nobody took for so long was repeated or given up by its sender.
const TTL_MS: i64 = 5_000;
/// Bytes that wait in the broker for one host.
const QUEUE_BYTES_MAX: i64 = 16 * 1024 * 1024;
/// Frames that the broker hands out before it has been told that earlier ones were taken.
const PREFETCH: u16 = 128;
/// Batches that the broker has not confirmed. Each is at most [`BATCH_BYTES`] or one frame, and the queue's bound covers them all.
const UNCONFIRMED_BATCHES_MAX: usize = 32;
const HEARTBEAT_S: u16 = 10;

/// A connection that publishes and consumes.
pub(super) struct Session<'a> {
    rabbit: &'a Rabbit,
    read: ReadHalf<Box<dyn Stream>>,
    write: WriteHalf<Box<dyn Stream>>,
    input: BytesMut,
    output: BytesMut,
    frame_bytes_max: usize,
}

/// What the reading half has to tell the writing half.
#[derive(Default)]
pub(super) struct News {
    facts: Mutex<Facts>,
    pub(super) told: Notify,
}

#[derive(Clone, Copy, Default)]
pub(super) struct Facts {
    /// Deliveries up to this number have been passed on.
    pub(super) taken: u64,
    /// Of how many published frames the broker has spoken.
    pub(super) confirmed: u64,
    /// The broker asked for silence, or for an end of it; to be answered.
    pub(super) flow: Option<bool>,
    /// It takes nothing at present.
    pub(super) blocked: bool,
}

impl News {
    pub(super) fn change(&self, how: impl FnOnce(&mut Facts)) {
        how(&mut self.facts.lock().unwrap_or_else(PoisonError::into_inner));
        self.told.notify_one();
    }

    fn now(&self) -> Facts {
        let mut facts = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        let now = *facts;
        facts.flow = None;
        now
    }
}

/// Published frames that the broker has not confirmed.
struct Published<'a> {
    /// Number of the last of them.
    last: u64,
    since: Instant,
    _batch: Batch<'a, Out>,
}

impl<'a> Session<'a> {
    pub(super) async fn open(rabbit: &'a Rabbit) -> Result<Self, Broken> {
        let stream = connect(&rabbit.uri.address, &rabbit.trust).await?;
        let (read, write) = tokio::io::split(stream);
        let mut session = Self {
            rabbit,
            read,
            write,
            input: BytesMut::new(),
            output: BytesMut::new(),
            frame_bytes_max: 4096,
        };
        session.log_in().await?;
        session.declare().await?;
        Ok(session)
    }

    fn say(&mut self) -> Encoder<'_> {
        Encoder(&mut self.output)
    }

    async fn log_in(&mut self) -> Result<(), Broken> {
        let uri = &self.rabbit.uri;
        self.say().protocol();
        if self.answer().await? != Said::Start {
            return Err(Broken::Malformed("the broker does not introduce itself"));
        }
        let name = format!("host {}", self.rabbit.node);
        self.say().start_ok(uri, &name);
        let Said::Tune {
            channels,
            frame_bytes,
            heartbeat_s,
        } = self.answer().await?
        else {
            return Err(Broken::Malformed("the broker does not say its limits"));
        };
        // 0 means no limit.
        let frame_bytes = if frame_bytes == 0 {
            FRAME_BYTES_MAX
        } else {
            frame_bytes.clamp(4096, FRAME_BYTES_MAX)
        };
        self.frame_bytes_max = frame_bytes as usize;
        let heartbeat_s = if heartbeat_s == 0 {
            HEARTBEAT_S
        } else {
            heartbeat_s.min(HEARTBEAT_S)
        };
        self.say().tune_ok(
            if channels == 0 { 8 } else { channels.min(8) },
            frame_bytes,
            heartbeat_s,
        );
        self.say().open(&uri.vhost);
        self.done().await
    }

    async fn declare(&mut self) -> Result<(), Broken> {
        let (rabbit, queue) = (self.rabbit, self.rabbit.queue_name());
        self.say().channel_open();
        self.done().await?;
        self.say().confirm_select();
        self.done().await?;
        self.say().exchange_declare(&rabbit.exchange);
        self.done().await?;
        self.say().queue_declare(
            &queue,
            &QueueBounds {
                expires_ms: EXPIRES_MS,
                ttl_ms: TTL_MS,
                bytes_max: QUEUE_BYTES_MAX,
            },
        );
        self.done().await?;
        self.say()
            .queue_bind(&queue, &rabbit.exchange, &rabbit.node);
        self.done().await?;
        self.say().qos(PREFETCH);
        self.done().await?;
        // The broker gives frames to the consumer with the highest priority: a connection that it has not noticed to be dead gets none.
        self.say().consume(&queue, rabbit.next_connection());
        match self.answer().await? {
            Said::Consuming => Ok(()),
            _ => Err(Broken::Malformed(
                "the broker does not let this host consume",
            )),
        }
    }

    async fn done(&mut self) -> Result<(), Broken> {
        match self.answer().await? {
            Said::Done => Ok(()),
            _ => Err(Broken::Malformed("the broker's answer fits no question")),
        }
    }

    async fn answer(&mut self) -> Result<Said, Broken> {
        self.write.write_all(&self.output).await?;
        self.write.flush().await?;
        self.output.clear();
        loop {
            match next(&mut self.input)? {
                Some(Said::Closed(why)) => return Err(Broken::Refused(why)),
                Some(Said::Heartbeat | Said::Blocked(_) | Said::Unblocked) => {}
                Some(said) => return Ok(said),
                None => match self.read.read_buf(&mut self.input).await {
                    Ok(0) => return Err(Broken::Closed),
                    Ok(_) => {}
                    Err(error) => return Err(error.into()),
                },
            }
        }
    }

    /// Until it breaks.
    pub(super) async fn run(self) -> Broken {
        let Self {
            rabbit,
            read,
            write,
            input,
            output,
            frame_bytes_max,
        } = self;
        let news = News::default();
        let reading = Reading::new(rabbit, read, input, &news);
        let mut writing = Writing {
            rabbit,
            write,
            output,
            frame_bytes_max,
            news: &news,
        };
        tokio::select! {
            broken = reading.run() => {
                writing.leave().await;
                broken
            }
            broken = writing.run() => broken,
        }
    }
}

struct Writing<'a> {
    rabbit: &'a Rabbit,
    write: WriteHalf<Box<dyn Stream>>,
    output: BytesMut,
    frame_bytes_max: usize,
    news: &'a News,
}

impl Writing<'_> {
    async fn run(&mut self) -> Broken {
        match self.write_all().await {
            Ok(never) => match never {},
            Err(broken) => broken,
        }
    }

    async fn write_all(&mut self) -> Result<std::convert::Infallible, Broken> {
        let rabbit = self.rabbit;
        let queue = rabbit.queue_name();
        let mut beat = interval(rabbit.patience / 3);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut unconfirmed: VecDeque<Published<'_>> = VecDeque::new();
        let (mut published, mut acknowledged, mut blocked) = (0, 0, false);
        loop {
            let mut publish = false;
            tokio::select! {
                () = self.news.told.notified() => {}
                _ = beat.tick() => {
                    // A broker that blocks publishers reads nothing, so nothing is asked meanwhile.
                    if !blocked {
                        Encoder(&mut self.output).queue_question(&queue);
                    }
                    Encoder(&mut self.output).heartbeat();
                    if unconfirmed.front().is_some_and(|oldest| !blocked && oldest.since.elapsed() > rabbit.patience * 2) {
                        return Err(Broken::Silent(rabbit.patience * 2));
                    }
                }
                () = rabbit.queue.wait(), if !blocked && unconfirmed.len() < UNCONFIRMED_BATCHES_MAX => publish = true,
            }
            let facts = self.news.now();
            blocked = facts.blocked;
            while unconfirmed
                .front()
                .is_some_and(|oldest| oldest.last <= facts.confirmed)
            {
                unconfirmed.pop_front();
            }
            if facts.taken > acknowledged {
                acknowledged = facts.taken;
                Encoder(&mut self.output).ack(acknowledged);
            }
            if let Some(active) = facts.flow {
                Encoder(&mut self.output).flow_ok(active);
            }
            if publish && !blocked {
                let batch = rabbit.queue.take(BATCH_BYTES);
                for out in &batch.items {
                    Encoder(&mut self.output).publish(
                        &rabbit.exchange,
                        &out.to,
                        &out.frame,
                        self.frame_bytes_max,
                    );
                    published += 1;
                }
                unconfirmed.push_back(Published {
                    last: published,
                    since: Instant::now(),
                    _batch: batch,
                });
            }
            self.flush().await?;
        }
    }

    async fn flush(&mut self) -> Result<(), Broken> {
        let limit = self.rabbit.patience * 2;
        let mut rest = &self.output[..];
        while !rest.is_empty() {
            match timeout(limit, self.write.write(rest))
                .await
                .map_err(|_| Broken::Unread(limit))??
            {
                0 => return Err(Broken::Closed),
                count => rest = &rest[count..],
            }
        }
        timeout(limit, self.write.flush())
            .await
            .map_err(|_| Broken::Unread(limit))??;
        self.output.clear();
        if self.output.capacity() > 4 * BATCH_BYTES {
            self.output = BytesMut::new();
        }
        Ok(())
    }

    /// Says goodbye, so that the broker does not wait for more.
    async fn leave(&mut self) {
        self.output.clear();
        Encoder(&mut self.output).close();
        let _ = timeout(self.rabbit.patience, self.flush()).await;
    }
}
