//! One attack in one form against one server, and what its neighbours had of it.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::crowd::Attackers;
use super::judge::{Latencies, part_of_bound, too_slow};
use super::list::{Attack, Target, Variant};
use super::neighbours::{Harm, Neighbours};
use crate::cluster::{Bus, Cluster};
use crate::server::Server;
use crate::settings::Settings;
use crate::wait::eventually;
use crate::wire::Addresses;
use crate::{posts, processes, status};

/// What is used must be given back within this time after everybody has left: closing may take `limits.drain_timeout_ms`, 5 s.
const BACK: Duration = Duration::from_secs(15);

/// How long neighbours of several hosts talk before an attack, until nothing is amiss: more than once each.
const WARM_UP: Duration = Duration::from_millis(450);

/// What an attack did to one server's neighbours.
pub struct Outcome {
    /// What the neighbours of the server that nobody attacks had meanwhile.
    pub quiet: Latencies,
    /// What those of the attacked one had.
    pub attacked: Latencies,
    /// What was refused, lost or closed.
    pub harm: Harm,
    /// What else must not be: processes that died, memory that did not come back, an audit that found something.
    pub faults: Vec<String>,
    /// Connections that the attackers made.
    pub connections: u64,
    /// Bytes they wrote and read.
    pub written: u64,
    /// See above.
    pub read: u64,
}

/// One server, or the hosts of a cluster.
enum Ground {
    One(Box<Server>),
    Two(Box<Cluster>),
}

impl Ground {
    fn of(hosts: usize, settings: Settings) -> Ground {
        if hosts == 1 {
            Ground::One(Box::new(Server::start(settings)))
        } else {
            Ground::Two(Box::new(Cluster::with(Bus::Redis, hosts, settings)))
        }
    }

    fn addresses(&self) -> Vec<Addresses> {
        let servers = self.servers();
        servers.iter().map(|server| Addresses::of(server)).collect()
    }

    fn neighbours(&self) -> Neighbours {
        let neighbours = Neighbours::gather(self.addresses());
        if let Ground::Two(_) = self {
            // Hosts learn of each other's logins a moment later; until then some are told "offline".
            let reach_each_other = || {
                let (_, harm) = neighbours.talk(WARM_UP, || {});
                harm.is_none().then_some(())
            };
            eventually("all neighbours reach each other", reach_each_other);
        }
        neighbours
    }

    fn servers(&self) -> Vec<&Server> {
        match self {
            Ground::One(server) => vec![server],
            Ground::Two(cluster) => cluster.hosts().collect(),
        }
    }
}

/// What of a server must be the same before and after.
#[derive(Debug, PartialEq, Eq)]
struct Mark {
    fill: BTreeMap<String, u64>,
    processes: Vec<i32>,
}

impl Mark {
    fn of(server: &Server) -> Mark {
        let mut processes = processes::children(server.pid());
        processes.sort_unstable();
        Mark {
            fill: status::fill(server),
            processes,
        }
    }
}

/// Servers that nobody attacks, and their neighbours.
pub struct Control {
    neighbours: Neighbours,
    _ground: Ground,
}

impl Control {
    /// Starts so many hosts.
    pub fn start(hosts: usize) -> Control {
        let ground = Ground::of(hosts, Settings::shipped());
        Control {
            neighbours: ground.neighbours(),
            _ground: ground,
        }
    }
}

/// Tries an attack for so long.
pub fn run(
    attack: &Attack,
    variant: Variant,
    seed: u64,
    attack_for: Duration,
    control: &Control,
) -> Outcome {
    let as_shipped = Settings::shipped();
    let settings = attack
        .settings
        .iter()
        .fold(as_shipped, |all, (key, value)| all.with(key, *value));
    let ground = Ground::of(attack.hosts, settings);
    let servers = ground.servers();
    let marks: Vec<Mark> = servers.iter().map(|server| settled(server)).collect();
    let target = Target {
        hosts: ground.addresses(),
        seed,
    };
    let neighbours = ground.neighbours();
    let attackers = Attackers::begin(&(attack.crowds)(&target, variant));
    let mut tally = None;
    let (quiet, (attacked, harm)) = std::thread::scope(|scope| {
        let quiet = scope.spawn(|| control.neighbours.talk(attack_for, || {}).0);
        let attacked = neighbours.talk(attack_for, || tally = Some(attackers.end()));
        (quiet.join().expect("nobody attacks these"), attacked)
    });
    neighbours.leave();
    let mut faults = Vec::new();
    for (server, mark) in servers.iter().zip(&marks) {
        faults.extend(after(server, mark));
    }
    let tally = tally.expect("the attack has ended");
    Outcome {
        quiet: Latencies::of(&quiet),
        attacked: Latencies::of(&attacked),
        harm,
        faults,
        connections: tally.connections.load(Relaxed),
        written: tally.written.load(Relaxed),
        read: tally.read.load(Relaxed),
    }
}

/// What is in use when nobody is there.
fn settled(server: &Server) -> Mark {
    eventually("the start's health check has left", || {
        Some(Mark::of(server)).filter(|mark| mark.fill["sessions"] == 0)
    })
}

/// What is not as it was, when everybody has left.
fn after(server: &Server, before: &Mark) -> Vec<String> {
    let mut faults = Vec::new();
    let end = Instant::now() + BACK;
    let mut now = Mark::of(server);
    while now.fill != before.fill && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
        now = Mark::of(server);
    }
    for (section, used) in &now.fill {
        let was = before.fill.get(section).copied().unwrap_or_default();
        if *used != was {
            faults.push(format!("{used} of {section} in use and not {was}"));
        }
    }
    if now.processes != before.processes {
        let (was, is) = (&before.processes, &now.processes);
        faults.push(format!("a process died: {was:?}, now {is:?}"));
    }
    let status = status::whole(server);
    if status["state"] != "running" {
        faults.push(format!("the server is {}", status["state"]));
    }
    faults.extend(posts::audit(server).err());
    if server.house().log().contains("panicked at") {
        faults.push("a process panicked".into());
    }
    faults
}

impl Outcome {
    /// Whether anything happened that no machine can be blamed for.
    pub fn is_harm(&self) -> bool {
        !self.harm.is_none() || !self.faults.is_empty()
    }

    /// Whether it is the machine that may be to blame, if anybody: somebody was too slow, or the attackers had no turn.
    pub fn may_be_chance(&self) -> bool {
        let is_slow = !too_slow(&self.quiet, &self.attacked).is_empty();
        !self.is_harm() && (is_slow || self.connections == 0)
    }

    /// What part of its bound the slowest kind takes.
    pub fn part_of_bound(&self) -> f64 {
        part_of_bound(&self.quiet, &self.attacked)
    }
}
