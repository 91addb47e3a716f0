//! Messages between two hosts, over each bus in turn: how long one takes, how many there can be, and what they cost.
//!
//! Both hosts, the servers between them and the clients share this machine, so the numbers say how the buses compare and what
//! the link costs, not what two machines can do.

use std::time::{Duration, Instant};

use serde_json::json;
use tests::cluster::{ALL_BUSES, Bus, Cluster};
use tests::{Server, Settings, Transport, processes};
use tokio::task::JoinSet;

use crate::light::Light;

/// Messages of the measurement of time: one under way.
const ROUNDS: usize = 4_000;
/// Pairs of users, one on each host, of the measurement of number.
const PAIRS: usize = 8;
/// Messages that each pair has under way.
const WINDOW: usize = 32;
/// How often each pair passes its messages on.
const PASSES: usize = 600;
/// Passes before it counts.
const WARM_UP: usize = 60;

/// Measures every bus and prints a table.
pub fn measure() {
    println!(
        "| bus | median µs | 99 % µs | longest ms | messages/s | link, µs of processor a message | all processes of both hosts |"
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    for bus in ALL_BUSES {
        let settings = Settings::new()
            .with("server.workers", 1)
            .with("table.arena_mib", 64)
            .with("limits.outbox_bytes", 8 << 20)
            .with("limits.heartbeat_timeout_ms", 3_600_000);
        let cluster = Cluster::with(bus, 2, settings);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(one_bus(bus, &cluster));
    }
}

async fn one_bus(bus: Bus, cluster: &Cluster) {
    let mut pairs: Vec<[Light; 2]> = (0..PAIRS)
        .map(|pair| {
            [0, 1].map(|host| {
                let name = format!("u{pair}-{host}");
                Light::login(cluster.host(host), Transport::Tcp, &name, None)
            })
        })
        .collect();
    // The first messages go to users whom the other host has not read yet.
    std::thread::sleep(Duration::from_millis(500));
    let mut times = Vec::with_capacity(ROUNDS);
    let first = &mut pairs[0];
    for round in 0..ROUNDS + ROUNDS / 10 {
        let (from, to) = (round % 2, 1 - round % 2);
        let letter = first[from].prepared(&letter(0, to));
        let began = Instant::now();
        first[from].send(&letter).await;
        let mut heard = 0;
        while heard == 0 {
            first[to].hear(|_| heard += 1).await;
        }
        if round >= ROUNDS / 10 {
            times.push(began.elapsed());
        }
    }
    times.sort_unstable();

    pairs = pass(pairs, WARM_UP).await;
    let (links, all) = (spent(cluster, link), spent(cluster, everyone));
    let began = Instant::now();
    pairs = pass(pairs, PASSES).await;
    let wall = began.elapsed();
    let (links, all) = (spent(cluster, link) - links, spent(cluster, everyone) - all);
    drop(pairs);
    let messages = (PAIRS * WINDOW * PASSES) as f64;
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    println!(
        "| {bus:?} | {:.0} | {:.0} | {:.1} | {:.0} | {:.2} | {:.2} |",
        micros(times[ROUNDS / 2]),
        micros(times[ROUNDS * 99 / 100]),
        micros(times[ROUNDS - 1]) / 1e3,
        messages / wall.as_secs_f64(),
        micros(links) / messages,
        micros(all) / messages,
    );
}

fn letter(pair: usize, to: usize) -> serde_json::Value {
    let to = format!("u{pair}-{to}");
    json!({"type": "sendto", "to": to, "content": "x".repeat(100), "quiet": true})
}

/// Each pair passes its messages to and fro so often.
async fn pass(pairs: Vec<[Light; 2]>, passes: usize) -> Vec<[Light; 2]> {
    let mut under_way = JoinSet::new();
    for (number, mut pair) in pairs.into_iter().enumerate() {
        let letters = [0, 1].map(|host: usize| {
            pair[host]
                .prepared(&letter(number, 1 - host))
                .repeat(WINDOW)
        });
        under_way.spawn(async move {
            for pass in 0..passes {
                let (from, to) = (pass % 2, 1 - pass % 2);
                pair[from].send(&letters[from]).await;
                let mut heard = 0;
                while heard < WINDOW {
                    pair[to].hear(|_| heard += 1).await;
                }
                assert_eq!(heard, WINDOW, "more came than was sent");
            }
            (number, pair)
        });
    }
    let mut all = under_way.join_all().await;
    all.sort_by_key(|(number, _)| *number);
    all.into_iter().map(|(_, pair)| pair).collect()
}

fn spent(cluster: &Cluster, of: fn(&Server) -> Vec<i32>) -> Duration {
    let pids = cluster.hosts().flat_map(of);
    pids.map(processes::cpu_time).sum()
}

fn link(host: &Server) -> Vec<i32> {
    host.processes("link")
}

fn everyone(host: &Server) -> Vec<i32> {
    let mut pids = processes::children(host.pid());
    pids.push(host.pid());
    pids
}
