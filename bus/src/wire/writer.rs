//! The writing half of a connection.

use bytes::{Bytes, BytesMut};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncWriteExt, WriteHalf},
    sync::watch,
    time::{MissedTickBehavior, interval, timeout},
};

use super::{
    Broken, Stream,
    message::{Kind, hosts_body, put, put_head},
};
use crate::{carrier::BATCH_BYTES, queue::Queue};

/// Frames up to this long are copied together and written at once; longer ones are written from where they are.
const SHORT_BYTES: usize = 16 * 1024;

/// The names that a forwarder tells its clients.
pub(crate) type Names = watch::Receiver<Arc<BTreeSet<String>>>;

/// Writes frames, and something now and then when there are none.
pub(crate) struct Writer {
    stream: WriteHalf<Box<dyn Stream>>,
    buffer: BytesMut,
    silence: Duration,
}

impl Writer {
    pub(super) fn new(stream: WriteHalf<Box<dyn Stream>>, silence: Duration) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
            silence,
        }
    }

    pub(super) async fn write_one(&mut self, kind: Kind, body: &[u8]) -> Result<(), Broken> {
        put(&mut self.buffer, kind, body);
        self.flush().await
    }

    /// Tells the other end why this one goes away, as far as it can be told at once.
    pub(crate) async fn refuse(&mut self, why: &str) {
        let _ = timeout(self.silence, self.write_one(Kind::Refused, why.as_bytes())).await;
        let _ = timeout(self.silence, self.stream.shutdown()).await;
    }

    /// Writes what is put into the queue, and the names whenever they change, until the connection breaks.
    pub(crate) async fn run(&mut self, queue: &Queue<Bytes>, mut names: Option<Names>) -> Broken {
        match self.write_all(queue, &mut names).await {
            Ok(never) => match never {},
            Err(broken) => broken,
        }
    }

    async fn write_all(
        &mut self,
        queue: &Queue<Bytes>,
        names: &mut Option<Names>,
    ) -> Result<std::convert::Infallible, Broken> {
        let mut beat = interval(self.silence / 4);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut wrote = false;
        if let Some(names) = names {
            names.mark_changed();
        }
        loop {
            tokio::select! {
                _ = beat.tick() => {
                    if !wrote {
                        put(&mut self.buffer, Kind::Alive, b"");
                    }
                    wrote = false;
                }
                () = changed(names) => {
                    if let Some(names) = names {
                        let body = hosts_body(names.borrow_and_update().iter().map(String::as_str));
                        put(&mut self.buffer, Kind::Hosts, &body);
                    }
                }
                () = queue.wait() => {
                    wrote = true;
                    self.write_frames(queue).await?;
                }
            }
            self.flush().await?;
        }
    }

    async fn write_frames(&mut self, queue: &Queue<Bytes>) -> Result<(), Broken> {
        let batch = queue.take(BATCH_BYTES);
        for frame in &batch.items {
            put_head(&mut self.buffer, Kind::Frame, frame.len());
            if frame.len() <= SHORT_BYTES {
                self.buffer.extend_from_slice(frame);
            } else {
                self.write_buffer().await?;
                write(&mut self.stream, frame, self.silence).await?;
            }
        }
        // The batch counts against the queue's bound until it is in the kernel's hands.
        self.flush().await
    }

    async fn flush(&mut self) -> Result<(), Broken> {
        self.write_buffer().await?;
        let limit = patience(self.silence);
        timeout(limit, self.stream.flush())
            .await
            .map_err(|_| Broken::Unread(limit))?
            .map_err(Broken::Io)
    }

    async fn write_buffer(&mut self) -> Result<(), Broken> {
        write(&mut self.stream, &self.buffer, self.silence).await?;
        self.buffer.clear();
        Ok(())
    }
}

async fn write(
    stream: &mut WriteHalf<Box<dyn Stream>>,
    mut bytes: &[u8],
    silence: Duration,
) -> Result<(), Broken> {
    let limit = patience(silence);
    while !bytes.is_empty() {
        match timeout(limit, stream.write(bytes)).await {
            Err(_) => return Err(Broken::Unread(limit)),
            Ok(Err(error)) => return Err(error.into()),
            Ok(Ok(0)) => return Err(Broken::Closed),
            Ok(Ok(count)) => bytes = &bytes[count..],
        }
    }
    Ok(())
}

/// An end that lives but does not read has more to do than it can: it gets longer than one that is silent.
fn patience(silence: Duration) -> Duration {
    silence * 3
}

/// The names have changed; never, where there are none.
async fn changed(names: &mut Option<Names>) {
    if let Some(names) = names
        && names.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}
