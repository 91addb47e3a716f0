//! Hosts that meet at forwarders.
//!
//! A host is connected to every forwarder. What it sends goes through the first in the order of the list that is connected to the recipient too, else
//! through the first that is there. When another forwarder takes over, what the former had in hand is lost or late: that is a reconnection.

use bytes::Bytes;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};

use crate::{
    Full,
    backoff::Backoff,
    carrier::{Carrier, Context, Frames, Reach, Unreached, changed},
    seat::Seat,
    wire::{Address, Broken, Friend, Message, Role, Trust, reach},
};

/// The sending end.
pub(crate) struct End {
    ways: Arc<Ways>,
    frames: Arc<Frames>,
}

/// The ways to the forwarders, in the order of the list.
struct Ways {
    all: Vec<Way>,
    changed: Notify,
}

struct Way {
    address: Address,
    seat: Seat,
    /// Who is connected to that forwarder, by its last word.
    hosts: Mutex<BTreeSet<String>>,
}

impl Carrier for End {
    fn send(&self, to: &str, payload: &Bytes) -> Result<(), Full> {
        let Some(frame) = self.frames.seal(to, payload) else {
            return Ok(());
        };
        let ways = &self.ways.all;
        let way = ways
            .iter()
            .find(|way| way.knows(to))
            .or_else(|| ways.iter().find(|way| way.seat.is_taken()))
            .or(ways.first());
        way.map_or(Ok(()), |way| way.seat.put(frame).map_err(|_| Full))
    }

    fn waiting(&self) -> bool {
        self.ways
            .all
            .iter()
            .any(|way| way.seat.is_taken() && !way.seat.queue.is_idle())
    }
}

impl Way {
    fn knows(&self, host: &str) -> bool {
        self.seat.is_taken() && self.hosts().contains(host)
    }

    fn hosts(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn start(context: Context, tasks: &mut JoinSet<()>) -> Result<End, String> {
    let cluster = &context.settings.cluster;
    let addresses = cluster
        .forwarder
        .iter()
        .map(|text| Address::parse(text))
        .collect::<Result<Vec<_>, _>>();
    let addresses = addresses.map_err(|error| format!("cluster.forwarder: {error}"))?;
    if addresses.is_empty() {
        return Err("cluster.forwarder names no forwarder".into());
    }
    let trust = Trust::new(&cluster.tls_ca_file)?;
    let introducer = context.introducer([Role::Client, Role::Forwarder])?;
    let all = addresses
        .into_iter()
        .map(|address| Way {
            address,
            seat: Seat::new(),
            hosts: Mutex::default(),
        })
        .collect();
    let ways = Arc::new(Ways {
        all,
        changed: Notify::new(),
    });
    let end = End {
        ways: Arc::clone(&ways),
        frames: Arc::clone(&context.frames),
    };
    for index in 0..ways.all.len() {
        let (ways, trust, introducer, frames) = (
            Arc::clone(&ways),
            trust.clone(),
            introducer.clone(),
            Arc::clone(&context.frames),
        );
        tasks.spawn(async move {
            let mut backoff = Backoff::default();
            loop {
                match reach(&ways.all[index].address, &trust, &introducer).await {
                    Ok(friend) => {
                        backoff.reset();
                        ways.serve(index, friend, &frames).await;
                    }
                    Err(broken) => ways.all[index].seat.failed(broken.to_string()),
                }
                backoff.pause().await;
            }
        });
    }
    tasks.spawn(ways.watch(context));
    Ok(end)
}

impl Ways {
    async fn serve(&self, index: usize, (mut reader, writer, peer): Friend, frames: &Frames) {
        let way = &self.all[index];
        tracing::info!("connected with forwarder {} ({})", way.address, peer.name);
        let read = async {
            loop {
                match reader.next().await {
                    Ok(Message::Frame(frame)) => frames.accept(frame, None).await,
                    Ok(Message::Hosts(names)) => {
                        *way.hosts() = names.into_iter().collect();
                        self.changed.notify_one();
                    }
                    Err(broken) => return broken,
                }
            }
        };
        let broken: Broken = way
            .seat
            .serve(writer, None, read, || self.changed.notify_one())
            .await;
        tracing::warn!(
            "the connection with forwarder {} ended: {broken}",
            way.address
        );
        way.hosts().clear();
        // Other frames go another way from now on; these would only come late.
        way.seat.queue.forget(Duration::ZERO);
    }

    async fn watch(self: Arc<Self>, mut context: Context) {
        let mut tick = interval(context.silence() / 2);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let grace = context.silence();
        let mut unknown: BTreeMap<String, Instant> = BTreeMap::new();
        loop {
            tokio::select! {
                () = self.changed.notified() => {}
                () = changed(&mut context.hosts) => {}
                _ = tick.tick() => {}
            }
            if !self.all.iter().any(|way| way.seat.is_taken()) {
                context.state.away(self.faults());
                continue;
            }
            let hosts = Arc::clone(&context.hosts.borrow_and_update());
            unknown.retain(|name, _| {
                hosts.contains_key(name) && !self.all.iter().any(|way| way.knows(name))
            });
            let mut reach = Reach::default();
            for name in hosts.keys() {
                if self.all.iter().any(|way| way.knows(name)) {
                    reach.reached();
                    continue;
                }
                let since = *unknown.entry(name.clone()).or_insert_with(Instant::now);
                if since.elapsed() < grace {
                    reach.in_doubt();
                } else {
                    reach.missing(Unreached {
                        name,
                        why: "it is connected to no forwarder that this host is connected to"
                            .into(),
                    });
                }
            }
            reach.tell(&context.state);
        }
    }

    fn faults(&self) -> String {
        let fault = |way: &Way| {
            way.seat
                .missing()
                .map(|(_, why)| format!("forwarder {}: {why}", way.address))
        };
        self.all
            .iter()
            .filter_map(fault)
            .take(3)
            .collect::<Vec<_>>()
            .join("; ")
    }
}
