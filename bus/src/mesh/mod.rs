//! Hosts that connect to each other directly. Of two hosts the one with the lesser name connects.

mod peers;
mod state;

use bytes::Bytes;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    task::{AbortHandle, JoinSet},
    time::{MissedTickBehavior, interval},
};

use crate::{
    Full, Hosts,
    backoff::Backoff,
    carrier::{Carrier, Context, Frames},
    seat::Seat,
    wire::{
        Address, Broken, Door, Friend, Identity, Introducer, Message, Reader, Role, Trust, reach,
    },
};
use peers::Peers;

/// Between two attempts to listen where a predecessor listens still.
const LISTEN_PAUSE: Duration = Duration::from_millis(25);

/// The sending end.
pub(crate) struct End {
    peers: Arc<Peers>,
    frames: Arc<Frames>,
}

impl Carrier for End {
    fn send(&self, to: &str, payload: &Bytes) -> Result<(), Full> {
        let (Some(seat), Some(frame)) = (self.peers.seat(to), self.frames.seal(to, payload)) else {
            return Ok(());
        };
        seat.put(frame).map_err(|_| Full)
    }

    fn waiting(&self) -> bool {
        self.peers.waiting()
    }
}

/// What the tasks of a mesh share.
struct Mesh {
    context: Context,
    peers: Arc<Peers>,
    trust: Trust,
    introducer: Introducer,
    silence: Duration,
}

pub(crate) fn start(
    context: Context,
    address: watch::Sender<Option<String>>,
    tasks: &mut JoinSet<()>,
) -> Result<End, String> {
    let cluster = &context.settings.cluster;
    let listen = Address::parse(&cluster.mesh_listen)
        .map_err(|error| format!("cluster.mesh_listen: {error}"))?;
    let advertise = match cluster.mesh_advertise.as_str() {
        "" if listen.is_every() => {
            return Err(format!(
                "cluster.mesh_listen is {listen}: cluster.mesh_advertise must say where other hosts connect"
            ));
        }
        "" => None,
        text => {
            Some(Address::parse(text).map_err(|error| format!("cluster.mesh_advertise: {error}"))?)
        }
    };
    let identity = if listen.tls {
        Some(Identity::new(
            &cluster.tls_cert_file,
            &cluster.tls_key_file,
        )?)
    } else {
        None
    };
    let silence = context.silence();
    let introducer = context.introducer([Role::Host, Role::Host])?;
    let peers = Arc::new(Peers::new(usize::from(cluster.hosts)));
    let end = End {
        peers: Arc::clone(&peers),
        frames: Arc::clone(&context.frames),
    };
    let trust = Trust::new(&cluster.tls_ca_file)?;
    let mesh = Arc::new(Mesh {
        peers,
        trust,
        introducer,
        silence,
        context,
    });
    tasks.spawn(async move {
        let door = mesh.listen(&listen, identity).await;
        let bound = Address {
            port: door.address().map_or(listen.port, |address| address.port()),
            ..listen
        };
        tracing::info!("other hosts of the mesh can connect to {bound}");
        address.send_replace(Some(match advertise {
            Some(Address { tls, host, port: 0 }) => Address {
                tls,
                host,
                port: bound.port,
            }
            .to_string(),
            Some(advertise) => advertise.to_string(),
            None => bound.to_string(),
        }));
        mesh.run(door).await;
    });
    Ok(end)
}

impl Mesh {
    /// Listens as soon as that is possible: a predecessor may have the port for a moment more.
    async fn listen(&self, address: &Address, identity: Option<Identity>) -> Door {
        loop {
            match Door::open(address, identity.clone(), self.introducer.clone()).await {
                Ok(door) => return door,
                Err(error) => self
                    .context
                    .state
                    .away(format_args!("it cannot listen on {address}: {error}")),
            }
            tokio::time::sleep(LISTEN_PAUSE).await;
        }
    }

    async fn run(self: Arc<Self>, mut door: Door) {
        let mut hosts = self.context.hosts.clone();
        hosts.mark_changed();
        let mut connectors = BTreeMap::new();
        let mut tasks = JoinSet::new();
        let mut tick = interval(self.silence / 2);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                friend = door.next() => self.take_in(friend, &mut tasks),
                () = crate::carrier::changed(&mut hosts) => self.follow(&mut hosts, &mut connectors, &mut tasks),
                () = self.peers.changed() => {}
                Some(_) = tasks.join_next() => {}
                _ = tick.tick() => self.follow(&mut hosts, &mut connectors, &mut tasks),
            }
            self.tell_state();
        }
    }

    /// Has one connector for each host of the directory that this one connects to.
    fn follow(
        self: &Arc<Self>,
        hosts: &mut Hosts,
        connectors: &mut BTreeMap<String, AbortHandle>,
        tasks: &mut JoinSet<()>,
    ) {
        let known = Arc::clone(&hosts.borrow_and_update());
        connectors.retain(|name, connector| {
            // A connector that is connected goes on: the directory may be wrong about a host that answers.
            let stays = known.contains_key(name)
                || self.peers.seat(name).is_some_and(|seat| seat.is_taken());
            if !stays {
                connector.abort();
            }
            stays && !connector.is_finished()
        });
        self.peers.prune(&known);
        for name in known.keys() {
            let Some(seat) = self.peers.seat_or_new(name) else {
                continue;
            };
            if *name > self.context.settings.node && !connectors.contains_key(name) {
                connectors.insert(
                    name.clone(),
                    tasks.spawn(Arc::clone(self).connect_for_ever(name.clone(), seat)),
                );
            }
        }
    }

    fn take_in(self: &Arc<Self>, (reader, writer, peer): Friend, tasks: &mut JoinSet<()>) {
        let Some(seat) = self.peers.seat_or_new(&peer.name) else {
            tracing::warn!(
                "host {} is refused: there are more hosts than cluster.hosts = {}",
                peer.name,
                self.context.settings.cluster.hosts
            );
            return;
        };
        let mesh = Arc::clone(self);
        tasks.spawn(async move {
            mesh.serve(&peer.name, &seat, reader, writer).await;
        });
    }

    async fn connect_for_ever(self: Arc<Self>, name: String, seat: Arc<Seat>) {
        let mut hosts = self.context.hosts.clone();
        let mut backoff = Backoff::default();
        loop {
            let Some(address) = hosts
                .borrow_and_update()
                .get(&name)
                .and_then(|host| host.mesh.clone())
            else {
                seat.failed("it has not told where to connect".into());
                crate::carrier::changed(&mut hosts).await;
                continue;
            };
            match self.reach(&name, &address).await {
                Ok((reader, writer, _)) => {
                    backoff.reset();
                    self.serve(&name, &seat, reader, writer).await;
                }
                Err(broken) => seat.failed(format!("{address}: {broken}")),
            }
            if !hosts.borrow().contains_key(&name) {
                return;
            }
            backoff.pause().await;
        }
    }

    async fn reach(&self, name: &str, address: &str) -> Result<Friend, Broken> {
        let address =
            Address::parse(address).map_err(|_| Broken::Malformed("its address is none"))?;
        let friend = reach(&address, &self.trust, &self.introducer).await?;
        if friend.2.name != name {
            return Err(Broken::Stranger("another host answers there"));
        }
        Ok(friend)
    }

    async fn serve(
        &self,
        name: &str,
        seat: &Seat,
        mut reader: Reader,
        writer: crate::wire::Writer,
    ) {
        tracing::info!("connected with host {name}");
        let read = async {
            loop {
                match reader.next().await {
                    Ok(Message::Frame(frame)) => {
                        self.context.frames.accept(frame, Some(name)).await
                    }
                    Ok(Message::Hosts(_)) => {
                        return Broken::Malformed("only a forwarder tells hosts");
                    }
                    Err(broken) => return broken,
                }
            }
        };
        let broken = seat.serve(writer, None, read, || self.peers.tell()).await;
        tracing::info!("the connection with host {name} ended: {broken}");
    }
}
