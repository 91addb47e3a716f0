//! What a forwarder does: it passes frames from each host that is connected to it to each other.
//!
//! It reads only from whom a frame is and to whom. It has the secret of the cluster, so that nobody else connects, and the recipients check the
//! frames' own signatures. What waits for one host is bounded; past it that host's frames are lost, and nobody else's.

use bytes::Bytes;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::watch, task::JoinSet};

use crate::{
    envelope::route,
    notice::Notice,
    seat::Seat,
    wire::{Address, Broken, Door, Friend, Identity, Introducer, Message, Role, random, silence},
};

/// Most hosts that a forwarder connects.
const HOSTS_MAX: usize = 512;
/// Frames shorter than this are copied out of the buffer that they were read with.
const SHORT_BYTES: usize = 32 * 1024;

/// What a forwarder needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where hosts connect: `tcp://address:port` or `tls://address:port`; port 0 lets the system choose.
    pub listen: String,
    /// The cluster whose hosts may connect.
    pub namespace: String,
    /// What those hosts prove to know.
    pub secret: config::Secret,
    /// After how long a silent host is dead; a connection counts as broken after a third of it.
    pub lease: Duration,
    /// PEM file of the certificate, for `tls://`.
    pub tls_cert_file: PathBuf,
    /// PEM file of its key.
    pub tls_key_file: PathBuf,
}

/// A forwarder that listens.
pub struct Relay {
    door: Door,
    address: Address,
    name: String,
    shared: Arc<Shared>,
}

struct Shared {
    clients: Mutex<BTreeMap<String, Client>>,
    names: watch::Sender<Arc<BTreeSet<String>>>,
    lost: Notice,
    refused: Notice,
}

struct Client {
    seat: Arc<Seat>,
    boot: u64,
}

/// A host that is connected, in one of its lives.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Connected {
    /// Its name.
    pub host: String,
    /// That life: 16 hexadecimal digits.
    pub boot: String,
}

impl Relay {
    /// Listens. Called once, within a tokio runtime.
    ///
    /// # Errors
    /// A sentence: the address is none or taken, a file cannot be read, the secret is missing.
    pub async fn open(settings: &Settings) -> Result<Self, String> {
        let listen = Address::parse(&settings.listen)?;
        let identity = if listen.tls {
            Some(Identity::new(
                &settings.tls_cert_file,
                &settings.tls_key_file,
            )?)
        } else {
            None
        };
        // No host may have this name: '/' is none of the characters of names.
        let id = u64::from_be_bytes(random().ok_or("the system has no random numbers")?);
        let name = format!("forwarder/{id:016x}");
        let roles = [Role::Forwarder, Role::Client];
        let introducer = Introducer::new(
            &settings.secret.0,
            &settings.namespace,
            &name,
            id,
            roles,
            silence(settings.lease),
        )?;
        let cannot = |error| format!("it cannot listen on {listen}: {error}");
        let door = Door::open(&listen, identity, introducer)
            .await
            .map_err(cannot)?;
        let address = Address {
            port: door.address().map_err(cannot)?.port(),
            ..listen.clone()
        };
        let shared = Shared {
            clients: Mutex::default(),
            names: watch::Sender::default(),
            lost: Notice::default(),
            refused: Notice::default(),
        };
        Ok(Self {
            door,
            address,
            name,
            shared: Arc::new(shared),
        })
    }

    /// Where it listens, the port never 0.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// What it is called; each start has another name, and none is a host's.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Tells whenever a host has connected or gone.
    #[must_use]
    pub fn watch(&self) -> Watch {
        Watch {
            names: self.shared.names.subscribe(),
            shared: Arc::clone(&self.shared),
        }
    }

    /// Relays until it is dropped.
    pub async fn run(mut self) {
        let mut tasks = JoinSet::new();
        loop {
            tokio::select! {
                (reader, writer, peer) = self.door.next() => {
                    let Some(seat) = self.shared.seat(&peer.name, peer.boot) else {
                        tracing::warn!("host {} is refused: {HOSTS_MAX} are connected", peer.name);
                        continue;
                    };
                    let shared = Arc::clone(&self.shared);
                    tasks.spawn(async move { shared.serve((reader, writer, peer), &seat).await });
                }
                Some(_) = tasks.join_next() => {}
            }
        }
    }
}

/// Knows who is connected to a [`Relay`].
pub struct Watch {
    names: watch::Receiver<Arc<BTreeSet<String>>>,
    shared: Arc<Shared>,
}

impl Watch {
    /// Waits until a host has connected or gone since the last call.
    pub async fn changed(&mut self) {
        if self.names.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Who is connected now.
    #[must_use]
    pub fn connected(&self) -> BTreeSet<Connected> {
        let clients = self.shared.clients();
        let taken = clients.iter().filter(|(_, client)| client.seat.is_taken());
        taken
            .map(|(host, client)| Connected {
                host: host.clone(),
                boot: format!("{:016x}", client.boot),
            })
            .collect()
    }
}

impl Shared {
    fn seat(&self, name: &str, boot: u64) -> Option<Arc<Seat>> {
        let mut clients = self.clients();
        if let Some(client) = clients.get_mut(name) {
            client.boot = boot;
            return Some(Arc::clone(&client.seat));
        }
        clients.retain(|_, client| client.seat.is_taken() || Arc::strong_count(&client.seat) > 1);
        if clients.len() >= HOSTS_MAX {
            return None;
        }
        let seat = Arc::new(Seat::new());
        clients.insert(
            name.into(),
            Client {
                seat: Arc::clone(&seat),
                boot,
            },
        );
        Some(seat)
    }

    async fn serve(&self, (mut reader, writer, peer): Friend, seat: &Seat) {
        tracing::info!("host {} (boot {:016x}) is connected", peer.name, peer.boot);
        let read = async {
            loop {
                match reader.next().await {
                    Ok(Message::Frame(frame)) => self.relay(&peer.name, frame),
                    Ok(Message::Hosts(_)) => {
                        return Broken::Malformed("only a forwarder tells hosts");
                    }
                    Err(broken) => return broken,
                }
            }
        };
        let broken = seat
            .serve(writer, Some(self.names.subscribe()), read, || self.tell())
            .await;
        tracing::info!("the connection with host {} ended: {broken}", peer.name);
    }

    fn relay(&self, sender: &str, frame: Bytes) {
        let to = match route(&frame) {
            Some(route) if route.from == sender => route.to,
            _ => {
                return self.refused.tell(format_args!(
                    "a frame of host {sender} is none, or names another sender; it is dropped"
                ));
            }
        };
        let seat = self
            .clients()
            .get(to)
            .filter(|client| client.seat.is_taken())
            .map(|client| Arc::clone(&client.seat));
        let Some(seat) = seat else {
            return self
                .lost
                .tell(format_args!("frames are lost: host {to} is not connected"));
        };
        // A short frame that waits must not keep the whole buffer alive that it was read with.
        let frame = if frame.len() < SHORT_BYTES {
            Bytes::copy_from_slice(&frame)
        } else {
            frame
        };
        if let Err(frame) = seat.put(frame) {
            let to = route(&frame).map_or("", |route| route.to);
            self.lost.tell(format_args!(
                "frames are lost: host {to} does not read as fast as others write"
            ));
        }
    }

    /// Tells the clients and whoever watches who is connected.
    fn tell(&self) {
        let clients = self.clients();
        let names = clients
            .iter()
            .filter(|(_, client)| client.seat.is_taken())
            .map(|(name, _)| name.clone())
            .collect();
        self.names.send_replace(Arc::new(names));
    }

    fn clients(&self) -> MutexGuard<'_, BTreeMap<String, Client>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
