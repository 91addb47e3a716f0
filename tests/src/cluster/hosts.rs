//! Hosts of one cluster, and what their directory must hold.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::{Forwarder, RabbitMq, Redis};
use crate::client::{Client, Transport};
use crate::house::House;
use crate::server::Server;
use crate::settings::{Settings, free_port};
use crate::status::whole;
use crate::wait::eventually;
use crate::wall_clock::WallClock;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The lease of every cluster under test.
pub const LEASE: Duration = Duration::from_millis(1500);

const SECRET: &str = "of these hosts";

/// How messages travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is a value of cluster.bus")]
pub enum Bus {
    Redis,
    RabbitMq,
    Forwarder,
    Mesh,
}

/// Every one.
pub const ALL_BUSES: [Bus; 4] = [Bus::Redis, Bus::RabbitMq, Bus::Forwarder, Bus::Mesh];

/// Hosts with a directory and a bus.
pub struct Cluster {
    /// The hosts n1, n2, …; `None` for one that was killed or stopped.
    hosts: Vec<Option<Server>>,
    /// The forwarders, the preferred one first.
    pub forwarders: Vec<Forwarder>,
    /// The broker, with that bus; shared with other clusters unless it was asked for by [`Cluster::own_broker`].
    pub rabbitmq: Option<Arc<RabbitMq>>,
    /// The directory.
    pub redis: Redis,
    namespace: String,
    settings: Settings,
}

impl Cluster {
    /// So many hosts with a Redis of their own.
    pub fn start(bus: Bus, hosts: usize) -> Cluster {
        Cluster::with(bus, hosts, Settings::new())
    }

    /// The same with settings of the test's own.
    pub fn with(bus: Bus, hosts: usize, settings: Settings) -> Cluster {
        let redis = Redis::start();
        let address = redis.address();
        Cluster::at(bus, hosts, settings, redis, &address)
    }

    /// The same over a RabbitMQ that no other test uses, for tests that hurt it.
    pub fn own_broker(hosts: usize, settings: Settings) -> Cluster {
        let redis = Redis::start();
        let address = redis.address();
        let broker = Some(Arc::new(RabbitMq::start()));
        Cluster::made(Bus::RabbitMq, hosts, settings, redis, &address, broker)
    }

    /// The same with a directory at an address of the test's own.
    pub fn at(bus: Bus, hosts: usize, settings: Settings, redis: Redis, address: &str) -> Cluster {
        let broker = (bus == Bus::RabbitMq).then(RabbitMq::shared);
        Cluster::made(bus, hosts, settings, redis, address, broker)
    }

    fn made(
        bus: Bus,
        hosts: usize,
        settings: Settings,
        redis: Redis,
        address: &str,
        rabbitmq: Option<Arc<RabbitMq>>,
    ) -> Cluster {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let namespace = format!("t{}-{number}", std::process::id());
        let lease_ms = LEASE.as_millis() as u64;
        let mut settings = settings
            .with("cluster.enabled", true)
            .with("cluster.redis", address)
            .with("cluster.namespace", namespace.as_str())
            .with("cluster.secret", SECRET);
        if settings.value("cluster.lease_ms").is_none() {
            settings = settings.with("cluster.lease_ms", lease_ms);
        }
        if settings.value("cluster.timeout_ms").is_none() {
            settings = settings.with("cluster.timeout_ms", 5000);
        }
        let mut forwarders = Vec::new();
        settings = match bus {
            Bus::Redis => settings.with("cluster.bus", "redis"),
            Bus::Mesh => settings.with("cluster.bus", "mesh"),
            Bus::RabbitMq => {
                let broker = rabbitmq.as_ref().expect("this bus has a broker");
                let address = broker.address();
                settings
                    .with("cluster.bus", "rabbitmq")
                    .with("cluster.rabbitmq", address)
            }
            Bus::Forwarder => {
                for _ in 0..2 {
                    forwarders.push(Forwarder::start(&redis, &namespace, SECRET, lease_ms));
                }
                let addresses: Vec<String> = forwarders.iter().map(Forwarder::address).collect();
                settings
                    .with("cluster.bus", "forwarder")
                    .with("cluster.forwarder", addresses)
            }
        };
        let mut cluster = Cluster {
            hosts: (0..hosts).map(|_| None).collect(),
            forwarders,
            rabbitmq,
            redis,
            namespace,
            settings,
        };
        for index in 0..hosts {
            cluster.start_host(index);
        }
        if hosts > 0 {
            cluster.is_level();
        }
        cluster
    }

    /// Starts a host that is not there.
    pub fn start_host(&mut self, index: usize) {
        self.start_host_on(index, "127.0.0.1");
    }

    /// Starts one more host, or one that is not there, whose mesh listens on this address.
    pub fn start_host_on(&mut self, index: usize, address: &str) {
        self.start_host_in(index, address, &[]);
    }

    /// Starts one more host, or one that is not there, with a wall clock of its own.
    pub fn start_host_with(&mut self, index: usize, clock: &WallClock) {
        self.start_host_in(index, "127.0.0.1", &clock.environment());
    }

    fn start_host_in(&mut self, index: usize, address: &str, environment: &[(&str, String)]) {
        while self.hosts.len() <= index {
            self.hosts.push(None);
        }
        let mesh = format!("tcp://{address}:{}", free_port());
        let settings = self
            .settings
            .clone()
            .with("server.node", format!("n{}", index + 1))
            .with("cluster.mesh_listen", mesh)
            .with(
                "server.websocket",
                vec![format!("127.0.0.1:{}", free_port())],
            )
            .with("server.tcp", vec![format!("127.0.0.1:{}", free_port())]);
        let house = environment
            .iter()
            .fold(House::new(settings), |house, (name, value)| {
                house.environment(name, value)
            });
        self.hosts[index] = Some(house.start());
    }

    /// One of the hosts.
    pub fn host(&self, index: usize) -> &Server {
        self.hosts[index].as_ref().expect("the host is not there")
    }

    /// Hosts that are there.
    pub fn hosts(&self) -> impl Iterator<Item = &Server> {
        self.hosts.iter().flatten()
    }

    /// A client of one of the hosts.
    pub fn login(&self, host: usize, transport: Transport, name: &str) -> Client {
        Client::login(self.host(host), transport, name)
    }

    /// Kills a host whole, with SIGKILL.
    pub fn kill_host(&mut self, index: usize) {
        if let Some(mut host) = self.hosts[index].take() {
            host.kill();
        }
    }

    /// Stops a host as an operator does.
    pub fn stop_host(&mut self, index: usize) {
        if let Some(mut host) = self.hosts[index].take() {
            host.stop();
        }
    }

    /// Kills a host's link; false if it has none at the moment.
    pub fn kill_link(&self, index: usize) -> bool {
        let links = self.host(index).processes("link");
        links
            .iter()
            .any(|pid| kill(Pid::from_raw(*pid), Signal::SIGKILL).is_ok())
    }

    /// Waits until every host sees every other, the directory and the bus.
    pub fn is_level(&self) {
        let others = self.hosts().count() - 1;
        for host in self.hosts() {
            eventually("the cluster is level", || {
                let cluster = &whole(host)["cluster"];
                let well = cluster["directory"]["up"] == true
                    && cluster["bus"]["up"] == true
                    && cluster["level"] == true
                    && cluster["hosts"] == others;
                well.then_some(())
            });
        }
    }

    /// Fails unless the directory comes to hold exactly these users: name, and host numbers (from 0).
    pub fn expect_users(&self, users: &[(&str, &[usize])]) {
        self.expect("user", users);
    }

    /// The same of groups.
    pub fn expect_groups(&self, groups: &[(&str, &[usize])]) {
        self.expect("group", groups);
    }

    fn expect(&self, kind: &str, wanted: &[(&str, &[usize])]) {
        let wanted: BTreeMap<String, Vec<String>> = wanted
            .iter()
            .map(|(name, hosts)| {
                let mut hosts: Vec<String> =
                    hosts.iter().map(|host| format!("n{}", host + 1)).collect();
                hosts.sort();
                ((*name).to_owned(), hosts)
            })
            .collect();
        let mut last = BTreeMap::new();
        let end = std::time::Instant::now() + crate::wait::PATIENCE;
        while std::time::Instant::now() < end {
            last = self.entries(kind);
            if last == wanted {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("the directory has {last:?} where it should have {wanted:?}");
    }

    /// What the directory holds: name, and names of hosts.
    pub fn entries(&self, kind: &str) -> BTreeMap<String, Vec<String>> {
        let prefix = format!("{}:{kind}:{{", self.namespace);
        let keys = self.redis.ask(&[
            "--scan",
            "--pattern",
            &format!("{}:{kind}:*", self.namespace),
        ]);
        let mut found = BTreeMap::new();
        for key in keys {
            let mut hosts = self.redis.ask(&["HKEYS", &key]);
            hosts.sort();
            let name = key
                .strip_prefix(&prefix)
                .and_then(|name| name.strip_suffix('}'));
            if !hosts.is_empty() {
                found.insert(name.unwrap_or(&key).to_owned(), hosts);
            }
        }
        found
    }

    /// Every key of the cluster but the memories of who was seen.
    pub fn keys(&self) -> Vec<String> {
        let mut keys = self
            .redis
            .ask(&["--scan", "--pattern", &format!("{}:*", self.namespace)]);
        keys.retain(|key| !key.contains(":seen:"));
        keys.sort();
        keys
    }
}
