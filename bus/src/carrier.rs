//! What each kind of bus is built from, and what it gives back.

use bytes::Bytes;
use std::{fmt, sync::Arc, time::Duration};

use crate::{
    FRAME_BYTES_MAX, Full, Hosts, Incoming, Settings,
    envelope::{Envelopes, Refusal},
    notice::Notice,
    queue::Queue,
    state::Teller,
    wire::{Introducer, Role},
};

/// Bytes of frames that wait to leave for one host (mesh, forwarder) or for the broker.
pub(crate) const OUTGOING_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How much is taken and written at once.
pub(crate) const BATCH_BYTES: usize = 256 * 1024;
/// What could not leave for so long, because nothing was connected, is lost: whoever sent it has repeated it or given up.
pub(crate) const STALE: Duration = Duration::from_secs(2);

/// How long a broker may be silent; it is asked something three times as often.
pub(crate) const BROKER_PATIENCE: Duration = Duration::from_millis(1500);

/// The sending half of a bus.
pub(crate) trait Carrier: Send + Sync {
    fn send(&self, to: &str, payload: &Bytes) -> Result<(), Full>;
    /// Whether something that was handed over has not left yet.
    fn waiting(&self) -> bool;
}

/// What every kind of bus has.
pub(crate) struct Context {
    pub(crate) settings: Settings,
    pub(crate) hosts: Hosts,
    pub(crate) state: Teller,
    pub(crate) frames: Arc<Frames>,
}

impl Context {
    pub(crate) fn new(
        settings: Settings,
        hosts: Hosts,
        incoming: Arc<Queue<Incoming>>,
        state: Teller,
    ) -> Result<Self, String> {
        let cluster = &settings.cluster;
        let envelopes = Envelopes::new(
            &cluster.namespace,
            &settings.node,
            &settings.boot,
            &cluster.secret.0,
        )?;
        let frames = Frames {
            envelopes,
            incoming,
            refused: Notice::default(),
            lost: Notice::default(),
        };
        Ok(Self {
            settings,
            hosts,
            state,
            frames: Arc::new(frames),
        })
    }

    /// For buses whose hosts connect to each other or to a forwarder.
    pub(crate) fn introducer(&self, roles: [Role; 2]) -> Result<Introducer, String> {
        let (cluster, boot) = (&self.settings.cluster, self.frames.envelopes.boot());
        Introducer::new(
            &cluster.secret.0,
            &cluster.namespace,
            &self.settings.node,
            boot,
            roles,
            self.silence(),
        )
    }

    /// How long a connection may be silent.
    pub(crate) fn silence(&self) -> Duration {
        crate::wire::silence(Duration::from_millis(self.settings.cluster.lease_ms.into()))
    }
}

/// The directory knows other hosts than before; never, where nobody tells any more.
pub(crate) async fn changed(hosts: &mut Hosts) {
    if hosts.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Which hosts of the directory are reached.
#[derive(Default)]
pub(crate) struct Reach {
    some: bool,
    missing: Vec<String>,
}

/// A host that is not reached.
pub(crate) struct Unreached<'a> {
    pub(crate) name: &'a str,
    pub(crate) why: String,
}

impl Reach {
    pub(crate) fn reached(&mut self) {
        self.some = true;
    }

    /// It is too early to say.
    pub(crate) fn in_doubt(&mut self) {
        self.some = true;
    }

    pub(crate) fn missing(&mut self, Unreached { name, why }: Unreached<'_>) {
        // Three hosts are enough to find out what is wrong.
        if self.missing.len() < 3 {
            self.missing.push(format!("host {name}: {why}"));
        } else {
            self.missing.push(String::new());
        }
    }

    pub(crate) fn tell(&self, state: &Teller) {
        if self.missing.is_empty() {
            return state.up();
        }
        let more = self.missing.len().saturating_sub(3);
        let mut why = self.missing[..self.missing.len() - more].join("; ");
        if more > 0 {
            why.push_str(&format!("; and {more} more"));
        }
        if self.some {
            state.partly(why)
        } else {
            state.away(why)
        }
    }
}

/// Frames on their way out and in.
pub(crate) struct Frames {
    envelopes: Envelopes,
    incoming: Arc<Queue<Incoming>>,
    refused: Notice,
    lost: Notice,
}

impl Frames {
    /// A frame ready to travel, or `None` if the payload is too long to travel at all.
    pub(crate) fn seal(&self, to: &str, payload: &[u8]) -> Option<Bytes> {
        if payload.len() > FRAME_BYTES_MAX {
            self.lost.tell(format_args!(
                "a payload of {} bytes for host {to} is lost: {FRAME_BYTES_MAX} is the most",
                payload.len()
            ));
            return None;
        }
        Some(self.envelopes.seal(to, payload))
    }

    /// Passes an arrived frame on as soon as there is room. `peer`: whose frames alone may come here.
    pub(crate) async fn accept(&self, frame: Bytes, peer: Option<&str>) {
        if let Some(incoming) = self.open(&frame, peer) {
            let bytes = incoming.payload.len();
            self.incoming.put_patiently(incoming, bytes).await;
        }
    }

    /// Passes an arrived frame on even if there is no room; whoever calls this has other means to bound what comes, and waits for [`Frames::room`].
    pub(crate) fn accept_anyway(&self, frame: &Bytes) {
        if let Some(incoming) = self.open(frame, None) {
            let bytes = incoming.payload.len();
            self.incoming.put_anyway(incoming, bytes);
        }
    }

    /// Passes an arrived frame on, or loses it if there is no room: for a broker that would cut off whoever does not read.
    pub(crate) fn accept_or_lose(&self, frame: &Bytes) {
        if let Some(incoming) = self.open(frame, None) {
            let bytes = incoming.payload.len();
            if let Err(incoming) = self.incoming.put(incoming, bytes) {
                self.lose(format_args!(
                    "frames from host {} came faster than they were taken and are lost",
                    incoming.from
                ));
            }
        }
    }

    /// Waits until there is room for an arrived frame.
    pub(crate) async fn room(&self) {
        self.incoming.wait_for_room().await;
    }

    /// A frame is lost; why.
    pub(crate) fn lose(&self, why: impl fmt::Display) {
        self.lost.tell(why);
    }

    fn open(&self, frame: &Bytes, peer: Option<&str>) -> Option<Incoming> {
        let incoming = match self.envelopes.open(frame) {
            Ok(incoming) if peer.is_none_or(|peer| peer == incoming.from) => incoming,
            Ok(incoming) => {
                self.refused.tell(format_args!(
                    "a frame of host {} came from host {}; it is dropped",
                    incoming.from,
                    peer.unwrap_or_default()
                ));
                return None;
            }
            Err(refusal @ (Refusal::Unsigned | Refusal::Forged | Refusal::Signed)) => {
                self.refused.tell(format_args!(
                    "a frame is dropped: {refusal}; all hosts need the same cluster.secret"
                ));
                return None;
            }
            Err(refusal) => {
                self.refused
                    .tell(format_args!("a frame is dropped: {refusal}"));
                return None;
            }
        };
        Some(incoming)
    }
}
