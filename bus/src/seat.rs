//! The place of one connection: a newer one takes it from an older one.

use bytes::Bytes;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::{sync::oneshot, time::Instant};

use crate::{
    carrier::{OUTGOING_BYTES_MAX, STALE},
    queue::Queue,
    wire::{Broken, Names, Writer},
};

/// What waits for one other end, and whether that is connected.
pub(crate) struct Seat {
    pub(crate) queue: Queue<Bytes>,
    connection: Mutex<Connection>,
}

struct Connection {
    /// Dropping it ends the connection in whose hands the other half is.
    current: Option<oneshot::Sender<()>>,
    /// How many there were.
    count: u64,
    /// Since when there is one, or none.
    since: Instant,
    why: String,
}

impl Seat {
    pub(crate) fn new() -> Self {
        Self {
            queue: Queue::new(OUTGOING_BYTES_MAX),
            connection: Mutex::new(Connection {
                current: None,
                count: 0,
                since: Instant::now(),
                why: "it has not been reached yet".into(),
            }),
        }
    }

    pub(crate) fn is_taken(&self) -> bool {
        self.lock().current.is_some()
    }

    /// Why there has been no connection, and for how long; `None` while there is one.
    pub(crate) fn missing(&self) -> Option<(Instant, String)> {
        let connection = self.lock();
        connection
            .current
            .is_none()
            .then(|| (connection.since, connection.why.clone()))
    }

    /// An attempt to connect has failed.
    pub(crate) fn failed(&self, why: String) {
        let mut connection = self.lock();
        if connection.current.is_none() {
            connection.why = why;
        }
    }

    /// Puts a frame in; `Err`: there is no room. What has waited long for a connection that does not come gives way.
    pub(crate) fn put(&self, frame: Bytes) -> Result<(), Bytes> {
        if !self.is_taken() {
            self.queue.forget(STALE);
        }
        let bytes = frame.len();
        self.queue.put(frame, bytes)
    }

    /// Serves a connection until it breaks or a newer one takes the seat: writes what is put into the queue while `read` reads.
    /// `changed` is called at the beginning and at the end.
    pub(crate) async fn serve(
        &self,
        mut writer: Writer,
        names: Option<Names>,
        read: impl Future<Output = Broken>,
        changed: impl Fn(),
    ) -> Broken {
        let (token, replaced) = oneshot::channel();
        let guard = self.take(token, &changed);
        self.queue.forget(STALE);
        let broken = tokio::select! {
            biased;
            _ = replaced => Broken::Replaced,
            broken = read => broken,
            broken = writer.run(&self.queue, names) => broken,
        };
        if let Broken::Malformed(_) | Broken::Replaced = broken {
            writer.refuse(&broken.to_string()).await;
        }
        guard.end(&broken);
        broken
    }

    fn take<'a, F: Fn()>(&'a self, token: oneshot::Sender<()>, changed: &'a F) -> Sitting<'a, F> {
        let mut connection = self.lock();
        connection.current = Some(token);
        connection.count += 1;
        connection.since = Instant::now();
        let count = connection.count;
        drop(connection);
        changed();
        Sitting {
            seat: self,
            count,
            changed,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection in its seat; dropping it leaves the seat, unless another has it already.
struct Sitting<'a, F: Fn()> {
    seat: &'a Seat,
    count: u64,
    changed: &'a F,
}

impl<F: Fn()> Sitting<'_, F> {
    fn end(self, broken: &Broken) {
        let mut connection = self.seat.lock();
        if connection.count == self.count {
            connection.why = broken.to_string();
        }
    }
}

impl<F: Fn()> Drop for Sitting<'_, F> {
    fn drop(&mut self) {
        let mut connection = self.seat.lock();
        if connection.count == self.count {
            connection.current = None;
            connection.since = Instant::now();
        }
        drop(connection);
        (self.changed)();
    }
}
