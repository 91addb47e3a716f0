//! Frames over Redis or Valkey: a channel for each host, `NAMESPACE:bus:HOST`; sharded where the servers form a cluster.
//!
//! Whether it works is found out by trying: each host publishes a word to itself several times a second, and what comes back has gone the way
//! of every frame.

mod session;

use bytes::Bytes;
use directory::Server;
use std::{sync::Arc, time::Duration};
use tokio::{task::JoinSet, time::timeout};

use crate::{
    Full,
    backoff::Backoff,
    carrier::{BROKER_PATIENCE, Carrier, Context, Frames, OUTGOING_BYTES_MAX, STALE},
    queue::Queue,
    state::Teller,
    wire::{Broken, INTRODUCTION_TIME},
};
use session::Session;

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
struct Redis {
    server: Server,
    namespace: String,
    node: String,
    queue: Arc<Queue<Out>>,
    frames: Arc<Frames>,
    patience: Duration,
}

impl Carrier for End {
    fn send(&self, to: &str, payload: &Bytes) -> Result<(), Full> {
        let Some(frame) = self.frames.seal(to, payload) else {
            return Ok(());
        };
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
    let state = Arc::new(context.state);
    let redis = Redis {
        server: Server::new(
            &cluster.redis,
            Some(cluster.tls_ca_file.as_path()).filter(|file| !file.as_os_str().is_empty()),
        )?,
        namespace: cluster.namespace.clone(),
        node: context.settings.node.clone(),
        queue: Arc::clone(&queue),
        frames: Arc::clone(&context.frames),
        patience: crate::wire::silence(Duration::from_millis(cluster.lease_ms.into()))
            .min(BROKER_PATIENCE),
    };
    let end = End {
        queue,
        frames: Arc::clone(&redis.frames),
        state: Arc::clone(&state),
    };
    tasks.spawn(async move {
        let mut backoff = Backoff::default();
        loop {
            let broken = match timeout(INTRODUCTION_TIME, Session::open(&redis)).await {
                Err(_) => Broken::Slow,
                Ok(Err(broken)) => broken,
                Ok(Ok(session)) => {
                    backoff.reset();
                    redis.queue.forget(STALE);
                    state.up();
                    session.run().await
                }
            };
            state.away(format_args!("Redis, as a bus: {broken}"));
            backoff.pause().await;
        }
    });
    Ok(end)
}

impl Redis {
    fn channel(&self, host: &str) -> String {
        format!("{}:bus:{host}", self.namespace)
    }
}
