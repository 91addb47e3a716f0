//! One attack in one form against one server, and what its neighbours had of it.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::crowd::Attackers;
use super::judge::{self, Kind, Latencies, Sample};
use super::list::{Attack, Target, Variant};
use super::neighbours::{Harm, Neighbours};
use crate::cluster::{Bus, Cluster};
use crate::delays::Delays;
use crate::server::Server;
use crate::settings::Settings;
use crate::wire::Addresses;
use crate::{posts, processes, status};

/// What is used must be given back within this time after everybody has left: closing may take `limits.drain_timeout_ms`, 5 s.
const BACK: Duration = Duration::from_secs(15);

/// What an attack did to one server's neighbours.
pub struct Outcome {
    /// Before the attack, less what the machine added.
    pub quiet: Latencies,
    /// Under it.
    pub attacked: Latencies,
    /// As the neighbours had them.
    pub raw: Latencies,
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
    fn of(attack: &Attack) -> Ground {
        let settings = attack
            .settings
            .iter()
            .fold(Settings::shipped(), |settings, (key, value)| {
                settings.with(key, *value)
            });
        if attack.hosts == 1 {
            Ground::One(Box::new(Server::start(settings)))
        } else {
            Ground::Two(Box::new(Cluster::with(Bus::Redis, attack.hosts, settings)))
        }
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

/// Tries an attack: some time of quiet, then so many seconds of it.
pub fn run(
    attack: &Attack,
    variant: Variant,
    seed: u64,
    quiet_for: Duration,
    attack_for: Duration,
) -> Outcome {
    let ground = Ground::of(attack);
    let servers = ground.servers();
    let marks: Vec<Mark> = servers.iter().map(|server| settled(server)).collect();
    let mut delays: Vec<Delays> = servers
        .iter()
        .map(|server| Delays::of(server.pid()))
        .collect();
    if let Ground::Two(cluster) = &ground {
        delays.push(Delays::of(cluster.redis.pid()));
    }
    let target = Target {
        hosts: servers.iter().map(|server| Addresses::of(server)).collect(),
        seed,
    };
    let neighbours = Neighbours::gather(target.hosts.clone());
    for delays in &delays {
        neighbours.spawn(delays.clock_task());
    }
    if let Ground::Two(_) = ground {
        // Hosts learn of each other's logins a moment later.
        std::thread::sleep(Duration::from_millis(500));
    }
    let (quiet, mut harm) = neighbours.talk(quiet_for, || {});
    let mut faults = Vec::new();
    if !harm.is_none() {
        faults.push(format!("before the attack: {harm:?}"));
    }
    let attackers = Attackers::begin(&(attack.crowds)(&target, variant));
    let mut tally = None;
    let attacked: Vec<Sample>;
    (attacked, harm) = neighbours.talk(attack_for, || tally = Some(attackers.end()));
    let quiet = Latencies::net(&quiet, &delays);
    let (net, raw) = (
        Latencies::net(&attacked, &delays),
        Latencies::raw(&attacked),
    );
    drop(delays);
    neighbours.leave();
    for (server, mark) in servers.iter().zip(&marks) {
        faults.extend(after(server, mark));
    }
    let tally = tally.expect("the attack has ended");
    if tally.connections.load(Relaxed) == 0 {
        faults.push("no attacker had a connection".into());
    }
    Outcome {
        quiet,
        attacked: net,
        raw,
        harm,
        faults,
        connections: tally.connections.load(Relaxed),
        written: tally.written.load(Relaxed),
        read: tally.read.load(Relaxed),
    }
}

/// What is in use when nobody is there.
fn settled(server: &Server) -> Mark {
    crate::wait::eventually("the start's health check has left", || {
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

    /// The kinds that were too slow beside this quiet.
    pub fn too_slow(&self, quiet: &Latencies, hosts: usize) -> Vec<(Kind, Duration, Duration)> {
        judge::too_slow(quiet, &self.attacked, ceiling(hosts))
    }

    /// What part of its bound the slowest kind takes.
    pub fn part_of_bound(&self, quiet: &Latencies, hosts: usize) -> f64 {
        let part = |kind| {
            let bound = judge::bound(quiet, kind, ceiling(hosts));
            self.attacked.p99(kind).as_secs_f64() / bound.as_secs_f64()
        };
        self.attacked.kinds().map(part).fold(0.0, f64::max)
    }
}

fn ceiling(hosts: usize) -> Duration {
    if hosts == 1 {
        judge::CEILING
    } else {
        judge::CEILING_ACROSS
    }
}
