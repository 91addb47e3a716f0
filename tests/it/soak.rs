//! Thousands come, log in, talk and go at random; afterwards every row, block, node, group, membership and descriptor is back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tests::random::Random;
use tests::visitor::{Addresses, Visitor};
use tests::wait::{PATIENCE, eventually};
use tests::{Client, Server, Settings, Transport, processes, status};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Connections in all, and at one time.
const VISITS: usize = 10_000;
const AT_ONCE: usize = 2_000;
const USERS: usize = 1_500;
const GROUPS: usize = 100;

/// What visitors heard.
#[derive(Default)]
struct Tally {
    messages: usize,
    acknowledged: usize,
    refused: usize,
}

impl Tally {
    fn add(&mut self, other: &Tally) {
        self.messages += other.messages;
        self.acknowledged += other.acknowledged;
        self.refused += other.refused;
    }
}

/// Hears everything up to the answer to a ping; false: the connection is gone.
async fn catch_up(visitor: &mut Visitor, random: &mut Random, tally: &mut Tally) -> bool {
    if !visitor.say(&json!({"type": "ping"}), random).await {
        return false;
    }
    while let Some(message) = visitor.hear().await {
        match message["type"].as_str() {
            Some("pong") => return true,
            Some("message") => tally.messages += 1,
            Some("ack") => tally.acknowledged += 1,
            Some("error") => {
                tally.refused += 1;
                let code = message["code"].as_str().unwrap();
                assert!(
                    ["not_a_member", "unknown_group", "overloaded"].contains(&code),
                    "{message}"
                );
            }
            Some("system" | "presence") => {}
            _ => panic!("{message}"),
        }
    }
    false
}

/// One visit from beginning to end.
async fn visit(server: Addresses, mut random: Random) -> Tally {
    let mut tally = Tally::default();
    let mut visitor = Visitor::come(server, &mut random).await;
    if random.one_in(10) {
        visitor.go(&mut random).await;
        return tally;
    }
    assert_eq!(visitor.hear().await.expect("open")["type"], "open");
    let name = format!("u{}", random.below(USERS));
    let device = format!("d{}", random.below(3));
    visitor
        .say(
            &json!({"type": "login", "userName": name, "deviceId": device}),
            &mut random,
        )
        .await;
    assert_eq!(visitor.hear().await.expect("a welcome")["event"], "login");
    // Most of what is said to a group is said by its members.
    let mut group = format!("g{}", random.below(GROUPS));
    for _ in 0..random.below(25) {
        let size = [1, 30, 500, 6_000][random.below(4)];
        let content = "x".repeat(random.below(size));
        let request = match random.below(9) {
            0 | 1 => {
                group = format!("g{}", random.below(GROUPS));
                json!({"type": "join", "group": group})
            }
            2 if random.one_in(3) => json!({"type": "leave", "group": group}),
            3 => json!({"type": "who", "group": group}),
            4 | 5 => {
                json!({"type": "sendto", "to": format!("u{}", random.below(USERS)), "content": content, "id": 1})
            }
            _ => json!({"type": "sendgroup", "to": group, "content": content, "id": 2}),
        };
        assert!(
            visitor.say(&request, &mut random).await,
            "{name} was thrown out"
        );
        if random.one_in(2) {
            assert!(
                catch_up(&mut visitor, &mut random, &mut tally).await,
                "{name} was thrown out"
            );
            // People think before they go on, and stay together meanwhile.
            tokio::time::sleep(Duration::from_millis(random.below(400) as u64)).await;
        }
    }
    visitor.go(&mut random).await;
    tally
}

#[test]
fn thousands_come_and_go_and_leave_nothing() {
    let settings = Settings::new()
        .with("table.sessions", 4_000)
        .with("table.arena_mib", 64)
        .with("table.groups", 200)
        .with("table.memberships", 20_000)
        .with("limits.login_timeout_ms", 60_000)
        .with("limits.handshake_timeout_ms", 60_000)
        .with("limits.outbox_bytes", 8 << 20);
    let server = Server::start(settings);
    let empty = settled(&server);
    let descriptors = holders(&server);
    let mut random = Random::of_the_day();
    let start = Instant::now();

    let addresses = Addresses::of(&server);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let tally = runtime.block_on(async {
        let gate = Arc::new(Semaphore::new(AT_ONCE));
        let mut visits = Vec::new();
        for _ in 0..VISITS {
            let permit = gate.clone().acquire_owned().await.unwrap();
            let random = Random::new(random.bits());
            visits.push(tokio::spawn(async move {
                let tally = timeout(4 * PATIENCE, visit(addresses, random))
                    .await
                    .expect("a visit that never ended");
                drop(permit);
                tally
            }));
        }
        let mut sum = Tally::default();
        for visit in visits {
            sum.add(&visit.await.unwrap());
        }
        sum
    });
    drop(runtime);
    println!(
        "{VISITS} visits in {:?}: {} messages heard, {} acknowledged, {} refused",
        start.elapsed(),
        tally.messages,
        tally.acknowledged,
        tally.refused
    );
    assert!(
        tally.messages > VISITS && tally.acknowledged > VISITS / 2,
        "too little was said to prove anything"
    );

    eventually(
        "every row, block, node, group and membership is back",
        || (status::fill(&server) == empty).then_some(()),
    );
    eventually("every descriptor is back", || {
        (holders(&server) <= descriptors).then_some(())
    });
    let high_water = status::sections(&server)["sessions"].high_water;
    assert!(
        high_water > AT_ONCE as u64 / 2,
        "only {high_water} at one time"
    );
    Client::login(&server, Transport::WebSocket, "last").expect_nothing();
}

/// What is in use when nobody is there.
fn settled(server: &Server) -> std::collections::BTreeMap<String, u64> {
    eventually("the start's health check has left", || {
        Some(status::fill(server)).filter(|fill| fill["sessions"] == 0)
    })
}

/// The descriptors of the master and of each of its children.
fn holders(server: &Server) -> usize {
    let ended = Instant::now() + Duration::from_secs(1);
    let mut least = usize::MAX;
    // A command's connection to the control socket may still be open.
    while Instant::now() < ended {
        least = least.min(
            processes::children(server.pid())
                .into_iter()
                .chain([server.pid()])
                .map(processes::descriptors)
                .sum(),
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    least
}
