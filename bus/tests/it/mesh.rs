//! Hosts that connect to each other.

use bus::Bus;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{
    exchange::{all_to_all, long_and_empty, take_two},
    hosts::{Directory, LONG, TestHost, settings},
};

fn start(node: &str, directory: &Directory) -> TestHost {
    TestHost::start(settings(config::Bus::Mesh, node), directory)
}

fn address(host: &TestHost) -> String {
    host.bus
        .mesh_address()
        .borrow()
        .clone()
        .unwrap()
        .trim_start_matches("tcp://")
        .to_owned()
}

#[tokio::test]
async fn three_hosts_exchange_frames() {
    let directory = Directory::default();
    let mut hosts = ["a", "b", "c"].map(|node| start(node, &directory));
    all_to_all(&mut hosts, 500).await;
    for (from, to) in [(0, 1), (1, 0), (2, 0)] {
        let (from, to) = take_two(&mut hosts, from, to);
        long_and_empty(from, to).await;
    }
    for host in &hosts {
        host.until_up().await;
    }
}

#[tokio::test]
async fn over_tls() {
    let certificate = crate::broker::Certificate::new();
    let directory = Directory::default();
    let mut hosts = ["a", "b"].map(|node| {
        let mut settings = settings(config::Bus::Mesh, node);
        settings.cluster.mesh_listen = "tls://127.0.0.1:0".into();
        settings.cluster.tls_ca_file = certificate.cert.clone();
        settings.cluster.tls_cert_file = certificate.cert.clone();
        settings.cluster.tls_key_file = certificate.key.clone();
        TestHost::start(settings, &directory)
    });
    all_to_all(&mut hosts, 100).await;
    let (from, to) = take_two(&mut hosts, 0, 1);
    long_and_empty(from, to).await;
}

#[tokio::test]
async fn a_host_that_is_gone_comes_back_elsewhere() {
    let directory = Directory::default();
    let (mut a, b, mut c) = (
        start("a", &directory),
        start("b", &directory),
        start("c", &directory),
    );
    a.until_heard(&mut c).await;
    drop(b);
    a.until("partly up", |state| matches!(&state.condition, bus::Condition::Partly { why } if why.contains("host b"))).await;
    a.until_heard(&mut c).await;
    let mut b = start("b", &directory);
    a.until_heard(&mut b).await;
    b.until_heard(&mut a).await;
    c.until_heard(&mut b).await;
    directory.set("b", None);
    drop(b);
    a.until_up().await;
}

#[tokio::test]
async fn a_successor_listens_on_the_same_port() {
    let directory = Directory::default();
    let mut a = start("a", &directory);
    let mut fixed = settings(config::Bus::Mesh, "b");
    let b = TestHost::start(fixed.clone(), &directory);
    b.until_up().await;
    fixed.cluster.mesh_listen = format!("tcp://{}", address(&b));
    a.until_heard(&mut { b }).await;
    for _ in 0..3 {
        let mut successor = TestHost::start(fixed.clone(), &directory);
        a.until_heard(&mut successor).await;
        successor.until_heard(&mut a).await;
    }
}

#[tokio::test]
async fn another_secret_is_refused() {
    let directory = Directory::default();
    let mut other = settings(config::Bus::Mesh, "b");
    other.cluster.secret = config::Secret("another".into());
    let a = start("a", &directory);
    let mut b = TestHost::start(other, &directory);
    let state = a
        .until("away", |state| {
            !state.is_up() && state.why().contains("secret")
        })
        .await;
    assert!(state.why().contains("host b"), "{state:?}");
    let _ = a.bus.send("b", "hello".into());
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(b.bus.try_receive(), None);
}

#[tokio::test]
async fn strangers_cost_only_their_connections() {
    let directory = Directory::default();
    let (mut a, mut b) = (start("a", &directory), start("b", &directory));
    a.until_heard(&mut b).await;
    let mut silent = Vec::new();
    for n in 0..150 {
        let mut stranger = TcpStream::connect(address(&b)).await.unwrap();
        let garbage: &[u8] = match n % 4 {
            0 => b"",
            1 => b"\xff\xff\xff\xff\x05",
            2 => b"GET / HTTP/1.1\r\n\r\n",
            _ => b"\0\0\0\x29\x01",
        };
        stranger.write_all(garbage).await.unwrap();
        silent.push(stranger);
    }
    a.until_heard(&mut b).await;
    b.until_heard(&mut a).await;
    // A new host gets in although every place is taken.
    let mut c = start("0", &directory);
    c.until_heard(&mut b).await;
    b.until_heard(&mut c).await;
    // And each of the strangers is shown out within a bound.
    for mut stranger in silent {
        let mut rest = Vec::new();
        assert!(
            tokio::time::timeout(LONG, stranger.read_to_end(&mut rest))
                .await
                .is_ok(),
            "a stranger stays"
        );
    }
}

/// A path between two hosts that can be stopped: bytes get through it no more, and nobody is told.
async fn path(to: String) -> (String, tokio::sync::watch::Sender<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (cut, is_cut) = tokio::sync::watch::channel(false);
    tokio::spawn(async move {
        while let Ok((mut one, _)) = listener.accept().await {
            let (to, mut is_cut) = (to.clone(), is_cut.clone());
            tokio::spawn(async move {
                drop(is_cut.wait_for(|cut| !cut).await);
                let mut other = TcpStream::connect(to).await.unwrap();
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut one, &mut other) => {}
                    () = async { drop(is_cut.wait_for(|cut| *cut).await) } => tokio::time::sleep(LONG).await,
                }
            });
        }
    });
    (address, cut)
}

#[tokio::test]
async fn a_path_that_is_cut_is_noticed_and_one_that_is_healed_is_used() {
    let directory = Directory::default();
    let (mut a, mut b) = (start("a", &directory), settings(config::Bus::Mesh, "b"));
    let probe = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = probe.local_addr().unwrap().port();
    drop(probe);
    let (path, cut) = path(format!("127.0.0.1:{port}")).await;
    b.cluster.mesh_listen = format!("tcp://127.0.0.1:{port}");
    b.cluster.mesh_advertise = format!("tcp://{path}");
    let mut b = TestHost::start(b, &directory);
    a.until_heard(&mut b).await;
    cut.send_replace(true);
    a.until("away", |state| !state.is_up()).await;
    b.until("away", |state| !state.is_up()).await;
    cut.send_replace(false);
    a.until_heard(&mut b).await;
    b.until_heard(&mut a).await;
    a.until_up().await;
}

#[tokio::test]
async fn one_that_does_not_read_holds_up_nobody_and_nothing_grows() {
    let directory = Directory::default();
    let (mut a, b, mut c) = (
        start("a", &directory),
        start("b", &directory),
        start("c", &directory),
    );
    a.until_up().await;
    c.until_heard(&mut a).await;
    // b takes nothing out of its bus, which then reads no more.
    let mut taken = 0;
    let payload = bytes::Bytes::from(vec![1; 200_000]);
    for _ in 0..100 {
        while a.bus.send("b", payload.clone()).is_ok() {
            taken += payload.len();
        }
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    assert!(taken < 64 * 1024 * 1024, "{taken} bytes are on their way");
    assert!(taken > 8 * 1024 * 1024);
    for n in 0..100_u32 {
        a.send("c", n.to_be_bytes().to_vec()).await;
        assert_eq!(c.hear().await.1, n.to_be_bytes().to_vec());
    }
    drop(b);
}

#[tokio::test]
async fn what_was_handed_over_leaves_before_the_end() {
    let directory = Directory::default();
    let (a, mut b) = (start("a", &directory), start("b", &directory));
    a.until_heard(&mut b).await;
    for n in 0..1000_u32 {
        a.send("b", n.to_be_bytes().to_vec()).await;
    }
    a.bus.close(Duration::from_secs(2)).await;
    for n in 0..1000_u32 {
        assert_eq!(b.hear().await.1, n.to_be_bytes().to_vec());
    }
}

#[tokio::test]
async fn settings_that_cannot_work_are_told() {
    let told = |change: &dyn Fn(&mut config::Cluster)| {
        let mut settings = settings(config::Bus::Mesh, "a");
        change(&mut settings.cluster);
        Bus::start(settings, Directory::default().watch("a"))
            .err()
            .expect("it starts")
    };
    assert!(told(&|cluster| cluster.mesh_listen = "127.0.0.1:1".into()).contains("mesh_listen"));
    assert!(
        told(&|cluster| cluster.mesh_listen = "tcp://0.0.0.0:0".into()).contains("mesh_advertise")
    );
    assert!(told(&|cluster| cluster.secret = config::Secret::default()).contains("secret"));
    assert!(
        told(&|cluster| cluster.mesh_listen = "tls://127.0.0.1:0".into()).contains("certificate")
    );
    assert!(
        told(&|cluster| cluster.tls_ca_file = "/nowhere/at/all".into()).contains("/nowhere/at/all")
    );
}
