//! Hosts that meet at a RabbitMQ.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use bus::Settings;

use crate::{
    broker::{Folder, Server, free_port, until_listening},
    exchange::{all_to_all, long_and_empty, take_two},
    hosts::{Directory, TestHost, settings},
};

/// A RabbitMQ with a folder, a node name and a cookie of its own.
struct Rabbit {
    folder: Folder,
    port: u16,
    dist: u16,
    epmd: u16,
    _epmd: Server,
    server: Option<Server>,
}

impl Rabbit {
    fn start() -> Self {
        let folder = Folder::new("rabbitmq");
        let epmd = free_port();
        let mut command = Command::new("epmd");
        command
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .args(["-port", &epmd.to_string()]);
        let epmd_server = Server::start(&mut command, folder.0.join("epmd.log"));
        std::fs::write(folder.0.join("plugins"), "[].\n").unwrap();
        let mut rabbit = Self {
            folder,
            port: free_port(),
            dist: free_port(),
            epmd,
            _epmd: epmd_server,
            server: None,
        };
        rabbit.start_again();
        rabbit
    }

    fn command(&self, program: &str) -> Command {
        let file = |name: &str| self.folder.0.join(name);
        let mut command = Command::new(program);
        command
            .env("HOME", &self.folder.0)
            .env("RABBITMQ_NODENAME", format!("bus{}@localhost", self.port))
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", self.port.to_string())
            .env("RABBITMQ_DIST_PORT", self.dist.to_string())
            .env("ERL_EPMD_PORT", self.epmd.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_MNESIA_BASE", file("mnesia"))
            .env("RABBITMQ_LOG_BASE", file("log"))
            .env("RABBITMQ_LOGS", "-")
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", file("plugins"))
            .env("RABBITMQ_PID_FILE", file("pid"))
            .env("RABBITMQ_CONF_ENV_FILE", file("none"))
            .env("RABBITMQ_CONFIG_FILE", file("none.conf"))
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "-kernel inet_dist_use_interface {127,0,0,1} +S 2:2",
            );
        command
    }

    fn start_again(&mut self) {
        let server = Server::start(
            &mut self.command("/usr/lib/rabbitmq/bin/rabbitmq-server"),
            self.folder.0.join("server.log"),
        );
        until_listening(self.port, &server, Duration::from_secs(40));
        self.server = Some(server);
    }

    fn stop(&mut self) {
        self.server = None;
    }

    fn signal(&self, signal: &str) {
        self.server.as_ref().unwrap().signal(signal);
    }

    fn host(&self, node: &str, directory: &Directory) -> TestHost {
        TestHost::start(self.settings(node), directory)
    }

    fn settings(&self, node: &str) -> Settings {
        let mut settings = settings(config::Bus::Rabbitmq, node);
        settings.cluster.rabbitmq = format!("amqp://127.0.0.1:{}", self.port);
        settings
    }
}

/// One server for one story: it takes seconds to start.
#[tokio::test]
async fn three_hosts_exchange_frames_whatever_the_broker_does() {
    let directory = Directory::default();
    let mut rabbit = Rabbit::start();
    let mut hosts = ["a", "b", "c"].map(|node| rabbit.host(node, &directory));
    for host in &hosts {
        host.until_up().await;
    }
    all_to_all(&mut hosts, 500).await;
    let (from, to) = take_two(&mut hosts, 0, 1);
    long_and_empty(from, to).await;

    // What nobody takes is bounded, and holds up nobody: b and c go on.
    let [mut a, mut b, mut c] = hosts;
    slow_reader(&mut a, &mut b, &mut c).await;

    // A link is replaced: what came meanwhile waits for it.
    drop(b);
    let mut first = rabbit.settings("b");
    let b = TestHost::start(first.clone(), &directory);
    b.until_up().await;
    drop(b);
    for n in 0..20_u32 {
        a.send("b", n.to_be_bytes().to_vec()).await;
    }
    first.life += 1;
    let mut b = TestHost::start(first, &directory);
    for n in 0..20_u32 {
        assert_eq!(b.hear().await.1, n.to_be_bytes().to_vec());
    }

    the_latest_life_hears_all(&rabbit, &directory, &mut a).await;

    // Stopped, and going on.
    rabbit.signal("STOP");
    let stopped = Instant::now();
    a.until("away", |state| !state.is_up()).await;
    assert!(
        stopped.elapsed() < Duration::from_secs(4),
        "it took {:?} to notice",
        stopped.elapsed()
    );
    while a.bus.send("b", vec![0; 100_000].into()).is_ok() {
        assert!(
            stopped.elapsed() < Duration::from_secs(10),
            "nothing bounds what waits"
        );
    }
    rabbit.signal("CONT");
    a.until_heard(&mut b).await;
    b.until_heard(&mut a).await;

    // Killed, and started again.
    rabbit.stop();
    a.until("away", |state| !state.is_up()).await;
    b.until("away", |state| !state.is_up()).await;
    rabbit.start_again();
    a.until_heard(&mut b).await;
    b.until_heard(&mut a).await;
    c.until_heard(&mut a).await;
    all_to_all(&mut [a, b, c], 100).await;
}

/// Connections of one host that the broker takes for alive: all comes to the one of the latest process of the latest life, whatever any clock
/// said when they were made.
async fn the_latest_life_hears_all(rabbit: &Rabbit, directory: &Directory, a: &mut TestHost) {
    let mut later = rabbit.settings("d");
    later.life = 2;
    let mut earlier = later.clone();
    earlier.life = 1;
    let mut later = TestHost::start(later, directory);
    later.until_up().await;
    // A process of which the broker learns late.
    let mut earlier = TestHost::start(earlier, directory);
    earlier.until_up().await;
    for n in 0..50_u32 {
        a.send("d", n.to_be_bytes().to_vec()).await;
        assert_eq!(later.hear().await.1, n.to_be_bytes().to_vec());
    }
    // Another life of the host begins with 1 again.
    let mut next = rabbit.host("d", directory);
    next.until_up().await;
    for n in 0..50_u32 {
        a.send("d", n.to_be_bytes().to_vec()).await;
        assert_eq!(next.hear().await.1, n.to_be_bytes().to_vec());
    }
    assert!(earlier.bus.try_receive().is_none());
}

async fn slow_reader(a: &mut TestHost, b: &mut TestHost, c: &mut TestHost) {
    let payload = bytes::Bytes::from(vec![1; 100_000]);
    for _ in 0..600 {
        a.send("c", payload.clone()).await;
    }
    for n in 0..100_u32 {
        a.send("b", n.to_be_bytes().to_vec()).await;
        assert_eq!(b.hear().await.1, n.to_be_bytes().to_vec());
    }
    // The oldest of what waited in the broker are lost; what comes is whole.
    while let Ok(incoming) = tokio::time::timeout(Duration::from_millis(500), c.bus.receive()).await
    {
        assert_eq!(incoming.payload, payload);
    }
}

#[tokio::test]
async fn a_wrong_address_is_told() {
    let mut settings = settings(config::Bus::Rabbitmq, "a");
    settings.cluster.rabbitmq = "http://127.0.0.1".into();
    assert!(bus::Bus::start(settings, Directory::default().watch("a")).is_err());
}
