//! Hosts that meet at a Redis, at what Sentinel calls master, and in a Cluster.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use crate::{
    broker::{Folder, Server, free_port, until_listening},
    exchange::{all_to_all, long_and_empty, take_two},
    hosts::{Directory, LONG, TestHost, settings},
};

/// A Redis with a folder of its own.
struct Redis {
    folder: Folder,
    port: u16,
    arguments: Vec<String>,
    server: Option<Server>,
}

impl Redis {
    fn start(arguments: &[&str]) -> Self {
        let arguments = arguments
            .iter()
            .map(|argument| (*argument).to_owned())
            .collect();
        let mut redis = Self {
            folder: Folder::new("redis"),
            port: free_port(),
            arguments,
            server: None,
        };
        redis.start_again();
        redis
    }

    fn start_again(&mut self) {
        let folder = self.folder.0.to_str().unwrap();
        let mut command = Command::new("redis-server");
        command
            .args([
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--dir",
                folder,
                "--port",
                &self.port.to_string(),
            ])
            .args(&self.arguments);
        let server = Server::start(&mut command, self.folder.0.join("server.log"));
        until_listening(self.port, &server, LONG);
        self.server = Some(server);
    }

    fn stop(&mut self) {
        self.server = None;
    }

    fn signal(&self, signal: &str) {
        self.server.as_ref().unwrap().signal(signal);
    }

    fn ask(&self, words: &[&str]) -> String {
        let output = Command::new("redis-cli")
            .args(["-p", &self.port.to_string()])
            .args(words)
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    async fn until_it_says(&self, question: &[&str], part: &str) {
        let end = Instant::now() + LONG;
        while !self.ask(question).contains(part) {
            assert!(
                Instant::now() < end,
                "{question:?} is answered {}",
                self.ask(question)
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn start(node: &str, address: &str, directory: &Directory) -> TestHost {
    let mut settings = settings(config::Bus::Redis, node);
    settings.cluster.redis = address.into();
    TestHost::start(settings, directory)
}

#[tokio::test]
async fn three_hosts_exchange_frames_whatever_the_server_does() {
    let (directory, mut redis) = (
        Directory::default(),
        Redis::start(&["--requirepass", "a/word"]),
    );
    let address = format!("redis://:a%2Fword@127.0.0.1:{}", redis.port);
    let mut hosts = ["a", "b", "c"].map(|node| start(node, &address, &directory));
    for host in &hosts {
        host.until_up().await;
    }
    all_to_all(&mut hosts, 500).await;
    let (from, to) = take_two(&mut hosts, 0, 1);
    long_and_empty(from, to).await;
    let [mut a, mut b, c] = hosts;

    // Stopped, and going on.
    redis.signal("STOP");
    let stopped = Instant::now();
    a.until("away", |state| !state.is_up()).await;
    assert!(
        stopped.elapsed() < Duration::from_secs(3),
        "it took {:?} to notice",
        stopped.elapsed()
    );
    while a.bus.send("b", vec![0; 100_000].into()).is_ok() {
        assert!(
            stopped.elapsed() < Duration::from_secs(10),
            "nothing bounds what waits"
        );
    }
    redis.signal("CONT");
    a.until_heard(&mut b).await;
    b.until_heard(&mut a).await;

    // Killed, and started again, empty.
    redis.stop();
    a.until("away", |state| !state.is_up()).await;
    b.until("away", |state| !state.is_up()).await;
    redis.start_again();
    a.until_heard(&mut b).await;
    b.until_heard(&mut a).await;
    c.until_heard(&mut a).await;
    a.until_up().await;
    all_to_all(&mut [a, b, c], 100).await;
}

#[tokio::test]
async fn a_slow_host_loses_frames_and_its_neighbours_none() {
    let (directory, redis) = (Directory::default(), Redis::start(&[]));
    let address = format!("redis://127.0.0.1:{}", redis.port);
    let [mut a, b, mut c] = ["a", "b", "c"].map(|node| start(node, &address, &directory));
    a.until_heard(&mut c).await;
    b.until_up().await;
    let payload = bytes::Bytes::from(vec![1; 200_000]);
    for _ in 0..300 {
        a.send("b", payload.clone()).await;
    }
    for n in 0..100_u32 {
        a.send("c", n.to_be_bytes().to_vec()).await;
        assert_eq!(c.hear().await.1, n.to_be_bytes().to_vec());
    }
    c.until_heard(&mut a).await;
    // It still hears, as much as there was room for.
    let mut b = b;
    let mut count = 0;
    while let Ok(incoming) = tokio::time::timeout(Duration::from_millis(300), b.bus.receive()).await
    {
        assert_eq!(incoming.payload, payload);
        count += 1;
    }
    assert!((20..=300).contains(&count), "{count}");
}

#[tokio::test]
async fn another_secret_is_not_heard() {
    let (directory, redis) = (Directory::default(), Redis::start(&[]));
    let address = format!("redis://127.0.0.1:{}", redis.port);
    let (a, mut b) = (
        start("a", &address, &directory),
        start("b", &address, &directory),
    );
    let mut stranger = settings(config::Bus::Redis, "c");
    stranger.cluster.redis = address;
    stranger.cluster.secret = config::Secret::default();
    let stranger = TestHost::start(stranger, &directory);
    stranger.until_up().await;
    a.until_heard(&mut b).await;
    stranger.send("b", "from a stranger").await;
    redis.ask(&["PUBLISH", "bus-tests:bus:b", "garbage"]);
    tokio::time::sleep(Duration::from_millis(200)).await;
    a.send("b", "from a friend").await;
    assert_eq!(b.hear().await, ("a".into(), "from a friend".into()));
}

#[tokio::test]
async fn the_next_master_is_found() {
    let directory = Directory::default();
    let mut first = Redis::start(&[]);
    let second = Redis::start(&["--replicaof", &format!("127.0.0.1 {}", first.port)]);
    second
        .until_it_says(&["INFO", "replication"], "master_link_status:up")
        .await;
    let folder = Folder::new("sentinel");
    let port = free_port();
    let file = folder.0.join("sentinel.conf");
    let text = format!(
        "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor main 127.0.0.1 {} 1\nsentinel down-after-milliseconds main 500\nsentinel failover-timeout main 3000\n",
        folder.0.display(),
        first.port
    );
    std::fs::write(&file, text).unwrap();
    let sentinel = Server::start(
        Command::new("redis-server").arg(&file).arg("--sentinel"),
        folder.0.join("server.log"),
    );
    until_listening(port, &sentinel, LONG);
    // Sentinel knows the replica once it has asked the master.
    let end = Instant::now() + LONG;
    while !sentinel.log().contains("+slave ") {
        assert!(Instant::now() < end, "{}", sentinel.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let address = format!("redis+sentinel://127.0.0.1:{port}/main");
    let (mut a, mut b) = (
        start("a", &address, &directory),
        start("b", &address, &directory),
    );
    a.until_heard(&mut b).await;
    first.stop();
    a.until("away", |state| !state.is_up()).await;
    a.until_heard(&mut b).await;
    b.until_heard(&mut a).await;
    second.until_it_says(&["ROLE"], "master").await;
}

#[tokio::test]
async fn a_cluster_has_sharded_channels() {
    let directory = Directory::default();
    let node = || {
        let bus = free_port().to_string();
        (
            Redis::start(&[
                "--cluster-enabled",
                "yes",
                "--cluster-port",
                &bus,
                "--cluster-node-timeout",
                "2000",
            ]),
            bus,
        )
    };
    let [(one, one_bus), (other, other_bus)] = [node(), node()];
    one.ask(&["CLUSTER", "ADDSLOTSRANGE", "0", "8191"]);
    other.ask(&["CLUSTER", "ADDSLOTSRANGE", "8192", "16383"]);
    one.ask(&[
        "CLUSTER",
        "MEET",
        "127.0.0.1",
        &other.port.to_string(),
        &other_bus,
    ]);
    let _ = one_bus;
    one.until_it_says(&["CLUSTER", "INFO"], "cluster_state:ok")
        .await;
    other
        .until_it_says(&["CLUSTER", "INFO"], "cluster_state:ok")
        .await;
    let address = format!(
        "redis+cluster://127.0.0.1:{},127.0.0.1:{}",
        one.port, other.port
    );
    let mut hosts = ["a", "b", "c"].map(|node| start(node, &address, &directory));
    for host in &hosts {
        host.until_up().await;
    }
    all_to_all(&mut hosts, 200).await;
    let (from, to) = take_two(&mut hosts, 0, 1);
    long_and_empty(from, to).await;
    let sharded = [&one, &other].map(|redis| {
        redis
            .ask(&["PUBSUB", "SHARDCHANNELS"])
            .lines()
            .filter(|line| !line.is_empty())
            .count()
    });
    assert_eq!(sharded.iter().sum::<usize>(), 3, "{sharded:?}");

    // Both stopped, and going on.
    one.signal("STOP");
    other.signal("STOP");
    for host in &hosts {
        host.until("away", |state| !state.is_up()).await;
    }
    one.signal("CONT");
    other.signal("CONT");
    all_to_all(&mut hosts, 50).await;
}
