//! Hosts that meet at forwarders, in this process; the executable is tested where it is made.

use bus::relay::{self, Relay};
use std::time::Duration;
use tokio::task::JoinSet;

use crate::{
    exchange::{all_to_all, long_and_empty, take_two},
    hosts::{Directory, TestHost, settings},
};

/// A forwarder; dropping it ends its connections without a word.
struct Forwarder {
    address: String,
    _tasks: JoinSet<()>,
}

impl Forwarder {
    async fn start(listen: &str) -> Self {
        Self::with(listen, |_| {}).await
    }

    async fn with(listen: &str, change: impl FnOnce(&mut relay::Settings)) -> Self {
        let mut settings = relay::Settings {
            listen: listen.into(),
            namespace: "bus-tests".into(),
            secret: config::Secret("only tests know it".into()),
            lease: Duration::from_millis(1500),
            tls_cert_file: "".into(),
            tls_key_file: "".into(),
        };
        change(&mut settings);
        let relay = Relay::open(&settings).await.unwrap();
        let address = relay.address();
        let mut tasks = JoinSet::new();
        tasks.spawn(relay.run());
        Self {
            address,
            _tasks: tasks,
        }
    }
}

fn start(node: &str, forwarders: &[&Forwarder], directory: &Directory) -> TestHost {
    let mut settings = settings(config::Bus::Forwarder, node);
    settings.cluster.forwarder = forwarders
        .iter()
        .map(|forwarder| forwarder.address.clone())
        .collect();
    TestHost::start(settings, directory)
}

#[tokio::test]
async fn three_hosts_exchange_frames() {
    let (directory, forwarder) = (
        Directory::default(),
        Forwarder::start("tcp://127.0.0.1:0").await,
    );
    let mut hosts = ["a", "b", "c"].map(|node| start(node, &[&forwarder], &directory));
    all_to_all(&mut hosts, 500).await;
    let (from, to) = take_two(&mut hosts, 1, 2);
    long_and_empty(from, to).await;
    for host in &hosts {
        host.until_up().await;
    }
}

#[tokio::test]
async fn over_tls() {
    let certificate = crate::broker::Certificate::new();
    let forwarder = Forwarder::with("tls://127.0.0.1:0", |settings| {
        settings.tls_cert_file = certificate.cert.clone();
        settings.tls_key_file = certificate.key.clone();
    })
    .await;
    let directory = Directory::default();
    let mut hosts = ["a", "b"].map(|node| {
        let mut settings = settings(config::Bus::Forwarder, node);
        settings.cluster.forwarder = vec![forwarder.address.clone()];
        settings.cluster.tls_ca_file = certificate.cert.clone();
        TestHost::start(settings, &directory)
    });
    all_to_all(&mut hosts, 100).await;
}

#[tokio::test]
async fn the_second_takes_over_when_the_first_is_gone() {
    let directory = Directory::default();
    let (first, second) = (
        Forwarder::start("tcp://127.0.0.1:0").await,
        Forwarder::start("tcp://127.0.0.1:0").await,
    );
    let (mut a, mut b) = (
        start("a", &[&first, &second], &directory),
        start("b", &[&first, &second], &directory),
    );
    a.until_heard(&mut b).await;
    let address = first.address.clone();
    drop(first);
    a.until_heard(&mut b).await;
    b.until_heard(&mut a).await;
    drop(second);
    let state = a.until("away", |state| !state.is_up()).await;
    assert!(state.why().contains(&address), "{state:?}");
    let _first = Forwarder::start(&address).await;
    a.until_heard(&mut b).await;
    b.until_heard(&mut a).await;
    a.until_up().await;
}

#[tokio::test]
async fn a_host_that_reaches_only_the_second_is_reached_over_it() {
    let directory = Directory::default();
    let (first, second) = (
        Forwarder::start("tcp://127.0.0.1:0").await,
        Forwarder::start("tcp://127.0.0.1:0").await,
    );
    let (mut a, mut b, mut c) = (
        start("a", &[&first, &second], &directory),
        start("b", &[&second], &directory),
        start("c", &[&first], &directory),
    );
    a.until_heard(&mut b).await;
    b.until_heard(&mut a).await;
    a.until_heard(&mut c).await;
    // b and c meet nowhere, and say so.
    b.until("partly up", |state| state.why().contains("host c"))
        .await;
    a.until_up().await;
}

#[tokio::test]
async fn another_secret_or_namespace_is_refused() {
    let (directory, forwarder) = (
        Directory::default(),
        Forwarder::start("tcp://127.0.0.1:0").await,
    );
    let mut stranger = settings(config::Bus::Forwarder, "a");
    stranger.cluster.forwarder = vec![forwarder.address.clone()];
    let mut elsewhere = stranger.clone();
    stranger.cluster.secret = config::Secret("another".into());
    elsewhere.cluster.namespace = "elsewhere".into();
    let stranger = TestHost::start(stranger, &directory);
    stranger
        .until("away", |state| {
            !state.is_up() && state.why().contains("secret")
        })
        .await;
    let elsewhere = TestHost::start(elsewhere, &directory);
    elsewhere
        .until("away", |state| {
            !state.is_up() && state.why().contains("namespace")
        })
        .await;
}

#[tokio::test]
async fn a_newer_connection_of_a_host_replaces_the_older() {
    let (directory, forwarder) = (
        Directory::default(),
        Forwarder::start("tcp://127.0.0.1:0").await,
    );
    let mut a = start("a", &[&forwarder], &directory);
    let older = start("b", &[&forwarder], &directory);
    a.until_heard(&mut { older }).await;
    let mut newer = start("b", &[&forwarder], &directory);
    a.until_heard(&mut newer).await;
    newer.until_heard(&mut a).await;
}

#[tokio::test]
async fn a_slow_host_loses_frames_and_its_neighbours_none() {
    let (directory, forwarder) = (
        Directory::default(),
        Forwarder::start("tcp://127.0.0.1:0").await,
    );
    let [mut a, slow, mut c] = ["a", "b", "c"].map(|node| start(node, &[&forwarder], &directory));
    a.until_up().await;
    c.until_heard(&mut a).await;
    let payload = bytes::Bytes::from(vec![1; 200_000]);
    let mut sent = 0;
    while sent < 80_000_000 {
        if a.bus.send("b", payload.clone()).is_ok() {
            sent += payload.len();
        } else {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    for n in 0..100_u32 {
        a.send("c", n.to_be_bytes().to_vec()).await;
        assert_eq!(c.hear().await.1, n.to_be_bytes().to_vec());
    }
    drop(slow);
}
