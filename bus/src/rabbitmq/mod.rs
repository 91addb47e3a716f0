//! Frames over RabbitMQ: a topic exchange named like the namespace, a queue for each life of a host, bound under the host's name.
//!
//! The few methods of AMQP 0-9-1 that this takes are spoken here, over the streams of the wire, so that a broker that stops answering costs one connection
//! and a bounded buffer. A queue survives its consumer for some seconds, for a link that is replaced; what waits in it is bounded by the broker.

mod decode;
mod encode;
mod reading;
mod session;
mod uri;

use bytes::Bytes;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::{task::JoinSet, time::timeout};

use crate::{
    Full,
    backoff::Backoff,
    carrier::{BROKER_PATIENCE, Carrier, Context, Frames, OUTGOING_BYTES_MAX, STALE},
    queue::Queue,
    state::Teller,
    wire::{Broken, INTRODUCTION_TIME, Trust},
};
use session::Session;
use uri::Uri;

/// Longest content that brokers take unless told otherwise. A longer one would cost the connection.
const CONTENT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The sending end.
pub(crate) struct End {
    queue: Arc<Queue<Out>>,
    frames: Arc<Frames>,
    state: Arc<Teller>,
}

/// A frame and whose it is.
struct Out {
    to: String,
    frame: Bytes,
}

/// What a session needs to know.
struct Rabbit {
    uri: Uri,
    trust: Trust,
    exchange: String,
    node: String,
    boot: String,
    life: u64,
    /// Connections that this process has made.
    connections: AtomicU32,
    queue: Arc<Queue<Out>>,
    frames: Arc<Frames>,
    state: Arc<Teller>,
    patience: Duration,
}

impl Carrier for End {
    fn send(&self, to: &str, payload: &Bytes) -> Result<(), Full> {
        if to.len() > 255 {
            return Ok(());
        }
        let Some(frame) = self.frames.seal(to, payload) else {
            return Ok(());
        };
        if frame.len() > CONTENT_BYTES_MAX {
            self.frames.lose(format_args!("a frame of {} bytes for host {to} is lost: RabbitMQ takes at most {CONTENT_BYTES_MAX}", frame.len()));
            return Ok(());
        }
        if !self.state.is_up() {
            self.queue.forget(STALE);
        }
        let bytes = frame.len();
        self.queue
            .put(
                Out {
                    to: to.into(),
                    frame,
                },
                bytes,
            )
            .map_err(|_| Full)
    }

    fn waiting(&self) -> bool {
        self.state.is_up() && !self.queue.is_idle()
    }
}

pub(crate) fn start(context: Context, tasks: &mut JoinSet<()>) -> Result<End, String> {
    let cluster = &context.settings.cluster;
    let queue = Arc::new(Queue::new(OUTGOING_BYTES_MAX));
    let patience = context.silence().min(BROKER_PATIENCE);
    let rabbit = Rabbit {
        uri: Uri::parse(&cluster.rabbitmq)?,
        trust: Trust::new(&cluster.tls_ca_file)?,
        exchange: cluster.namespace.clone(),
        node: context.settings.node.clone(),
        boot: context.settings.boot.clone(),
        life: context.settings.life,
        connections: AtomicU32::new(0),
        queue: Arc::clone(&queue),
        frames: Arc::clone(&context.frames),
        state: Arc::new(context.state),
        patience,
    };
    if rabbit.queue_name().len() > 255 {
        return Err(
            "the namespace and the host's name are too long for the name of a queue".into(),
        );
    }
    let end = End {
        queue,
        frames: Arc::clone(&rabbit.frames),
        state: Arc::clone(&rabbit.state),
    };
    tasks.spawn(async move {
        let mut backoff = Backoff::default();
        loop {
            let broken = match timeout(INTRODUCTION_TIME, Session::open(&rabbit)).await {
                Err(_) => Broken::Slow,
                Ok(Err(broken)) => broken,
                Ok(Ok(session)) => {
                    backoff.reset();
                    rabbit.queue.forget(STALE);
                    rabbit.state.up();
                    session.run().await
                }
            };
            rabbit
                .state
                .away(format_args!("RabbitMQ at {}: {broken}", rabbit.uri.address));
            backoff.pause().await;
        }
    });
    Ok(end)
}

impl Rabbit {
    /// Another for each life of the host: whoever consumed for an earlier one, and may still be connected as far as the broker knows, takes
    /// nothing away from this one.
    fn queue_name(&self) -> String {
        format!("{}.{}.{}", self.exchange, self.node, self.boot)
    }

    /// A number for a connection of this life of the host: higher than that of every earlier one, of this process or of another.
    fn next_connection(&self) -> i64 {
        let connection = self.connections.fetch_add(1, Ordering::Relaxed);
        i64::try_from(self.life << 32 | u64::from(connection)).unwrap_or(i64::MAX)
    }
}
