//! How frames travel between the hosts of a cluster: over Redis, RabbitMQ, forwarders, or directly (`mesh`).
//!
//! # What a bus promises
//!
//! - Frames from one host to one other **arrive in the order** in which they were handed over, while the bus stays up.
//! - A frame **may be lost**: when a connection breaks, when nobody listens, when the other side does not keep up. After a reconnection a frame
//!   **may come twice**, and one handed over shortly before may come late.
//! - A frame that arrives is **whole** and, where the hosts share a secret, **authentic**: a host that knows the secret made it for this host.
//!   That an old frame is not played again by someone who can write to the broker is not promised.
//! - Nothing here waits for anything, and nothing grows without bound: every queue is bounded in bytes, and a host that does not read
//!   costs its own frames only.
//!
//! Whoever needs more (the lanes of the link) numbers its messages, repeats and acknowledges them, and knows each by an id.
#![forbid(unsafe_code)]

mod backoff;
mod carrier;
mod envelope;
mod forwarder;
mod mesh;
mod notice;
mod queue;
mod rabbitmq;
mod redis;
pub mod relay;
mod seat;
mod state;
mod wire;

use bytes::Bytes;
use directory::Host;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{sync::watch, task::JoinSet, time::Instant};

use carrier::{Carrier, Context};
use queue::Queue;
pub use state::{Condition, State};

/// Longest payload of a frame, bytes: 1 MiB and one message of the greatest `limits.message_bytes`, with its header.
pub const FRAME_BYTES_MAX: usize = (1 + 64) * 1024 * 1024 + 64 * 1024;

/// Bytes of received frames that wait for [`Bus::receive`]; past it the bus reads no more, or, where a broker would suffer, loses frames.
const INCOMING_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The hosts that the directory knows, this one not among them.
pub type Hosts = watch::Receiver<Arc<BTreeMap<String, Host>>>;

/// What a bus needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which bus.
    pub kind: config::Bus,
    /// Addresses, secret, lease.
    pub cluster: config::Cluster,
    /// This host's name.
    pub node: String,
    /// This host's life: 16 hexadecimal digits.
    pub boot: String,
    /// Which process of that life this is: a number higher than that of every earlier one.
    pub life: u64,
}

/// A payload that another host sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// Name of the host.
    pub from: String,
    /// The life of that host in which it was sent.
    pub boot: u64,
    /// What it handed over.
    pub payload: Bytes,
}

/// So much waits to leave already that a frame was not taken. Try again later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too much waits to be sent to other hosts")]
pub struct Full;

/// A host's end of the bus. Owned by one task; dropping it ends all it does.
pub struct Bus {
    carrier: Box<dyn Carrier>,
    incoming: Arc<Queue<Incoming>>,
    state: watch::Receiver<State>,
    mesh_address: watch::Receiver<Option<String>>,
    tasks: JoinSet<()>,
}

impl Bus {
    /// Begins to connect, and goes on for ever, whatever happens at the other end. Called by the link at start, within a tokio runtime.
    ///
    /// # Errors
    /// A sentence about settings that can never work: an address that is none, a file that cannot be read, a secret that is missing.
    pub fn start(settings: Settings, hosts: Hosts) -> Result<Self, String> {
        let incoming = Arc::new(Queue::new(INCOMING_BYTES_MAX));
        let (state_in, state) = state::channel();
        let (address_in, mesh_address) = watch::channel(None);
        let mut tasks = JoinSet::new();
        let kind = settings.kind;
        let context = Context::new(settings, hosts, Arc::clone(&incoming), state_in)?;
        let carrier: Box<dyn Carrier> = match kind {
            config::Bus::Redis => Box::new(redis::start(context, &mut tasks)?),
            config::Bus::Rabbitmq => Box::new(rabbitmq::start(context, &mut tasks)?),
            config::Bus::Forwarder => Box::new(forwarder::start(context, &mut tasks)?),
            config::Bus::Mesh => Box::new(mesh::start(context, address_in, &mut tasks)?),
        };
        Ok(Self {
            carrier,
            incoming,
            state,
            mesh_address,
            tasks,
        })
    }

    /// Hands a payload over for a host. Never waits. A payload longer than [`FRAME_BYTES_MAX`] and one for a host that nobody knows are lost.
    ///
    /// # Errors
    /// [`Full`]: so much waits for this host (mesh, forwarder) or for the broker already.
    pub fn send(&self, to: &str, payload: Bytes) -> Result<(), Full> {
        self.carrier.send(to, &payload)
    }

    /// The next payload from another host. Nothing is lost when the future is dropped.
    pub async fn receive(&mut self) -> Incoming {
        loop {
            if let Some(incoming) = self.try_receive() {
                return incoming;
            }
            self.incoming.wait().await;
        }
    }

    /// A payload that has already arrived.
    pub fn try_receive(&mut self) -> Option<Incoming> {
        self.incoming.take_one()
    }

    /// Whether frames travel, since when, and if not, why.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    /// Where other hosts of the mesh connect, once this one listens there; `None` until then and for ever with another bus.
    #[must_use]
    pub fn mesh_address(&self) -> watch::Receiver<Option<String>> {
        self.mesh_address.clone()
    }

    /// Waits until what was handed over has left, at most `within`, and ends.
    pub async fn close(mut self, within: Duration) {
        let end = Instant::now() + within;
        while self.carrier.waiting() && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.tasks.shutdown().await;
    }
}
