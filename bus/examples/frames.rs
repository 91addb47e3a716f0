//! What a frame costs: two hosts in this process, 200 bytes, 64 frames in flight, for some seconds on each bus that is asked for.
//!
//! `cargo run --release -p bus --example frames -- mesh redis=redis://127.0.0.1:6379 rabbitmq=amqp://127.0.0.1 forwarder=tcp://127.0.0.1:9510`
//!
//! Processor time is that of both hosts together, without the broker's. The forwarder must have the secret "frames" and the namespace "frames".
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a measurement that cannot be made says where it stopped"
)]

use bus::{Bus, Settings};
use bytes::Bytes;
use directory::Host;
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::watch;

const TIME: Duration = Duration::from_secs(5);
const IN_FLIGHT: u64 = 64;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    for argument in std::env::args().skip(1) {
        let (kind, address) = argument.split_once('=').unwrap_or((&argument, ""));
        runtime.block_on(measure(kind, address));
    }
}

async fn measure(name: &str, address: &str) {
    let kind = match name {
        "mesh" => config::Bus::Mesh,
        "redis" => config::Bus::Redis,
        "rabbitmq" => config::Bus::Rabbitmq,
        "forwarder" => config::Bus::Forwarder,
        other => panic!("there is no bus {other}"),
    };
    let (directory, hosts) = watch::channel(Arc::new(BTreeMap::new()));
    let start = |node: &str, hosts| {
        let cluster = config::Cluster {
            bus: kind,
            namespace: "frames".into(),
            secret: config::Secret("frames".into()),
            mesh_listen: "tcp://127.0.0.1:0".into(),
            redis: address.into(),
            rabbitmq: address.into(),
            forwarder: vec![address.into()],
            ..config::Config::default().cluster
        };
        Bus::start(
            Settings {
                kind,
                cluster,
                node: node.into(),
                boot: "00000000000000aa".into(),
                life: 1,
            },
            hosts,
        )
        .unwrap()
    };
    let to_a = watch::channel(Arc::new(BTreeMap::new()));
    let (a, mut b) = (start("a", hosts), start("b", to_a.1));
    if kind == config::Bus::Mesh {
        let mut mesh = b.mesh_address();
        let mesh = mesh.wait_for(Option::is_some).await.unwrap().clone();
        let host = Host {
            boot: "00000000000000aa".into(),
            mesh,
            since_ms: 0,
        };
        directory.send_replace(Arc::new([("b".to_owned(), host)].into()));
    }
    let payload = Bytes::from(vec![b'x'; 200]);
    let hello = Bytes::from_static(b"hello");
    while tokio::time::timeout(Duration::from_millis(200), b.receive())
        .await
        .is_err()
    {
        let _ = a.send("b", hello.clone());
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    while b.try_receive().is_some() {}

    let (begin, used, mut sent, mut heard) = (Instant::now(), processor_time(), 0, 0_u64);
    while begin.elapsed() < TIME {
        while sent < heard + IN_FLIGHT && a.send("b", payload.clone()).is_ok() {
            sent += 1;
        }
        b.receive().await;
        heard += 1;
        while b.try_receive().is_some() {
            heard += 1;
        }
    }
    let (seconds, used) = (
        begin.elapsed().as_secs_f64(),
        (processor_time() - used).as_secs_f64(),
    );
    let heard_f = u32::try_from(heard).map_or(f64::MAX, f64::from);
    println!(
        "{name:>10}: {:>8.0} frames a second, {:>5.2} µs of processor time each (both hosts)",
        heard_f / seconds,
        used * 1e6 / heard_f
    );
}

/// Of this process, in ticks of 10 ms.
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = text
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}
