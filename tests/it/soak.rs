//! Thousands come, log in, talk and go at random; afterwards every row, block, node, group, membership and descriptor is back.
//!
//! Once with processes that are left in peace, and once with processes that are killed and stopped all the while; nobody may lose a
//! connection either time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tests::random::Random;
use tests::visitor::Visitor;
use tests::wait::{PATIENCE, eventually};
use tests::wire::Addresses;
use tests::{Server, Settings, posts, processes, status};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::back::{everything_is_back, holders, settled};

const USERS: usize = 1_500;
const GROUPS: usize = 100;

/// What visitors heard.
#[derive(Debug, Default)]
struct Tally {
    messages: usize,
    acknowledged: usize,
    refused: usize,
    /// Visits that ended because the server ended them.
    thrown_out: usize,
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

/// One visit from beginning to end; `None` when the server ended it.
async fn visit(server: Addresses, random: &mut Random, tally: &mut Tally) -> Option<()> {
    let mut visitor = Visitor::come(server, random).await?;
    if random.one_in(10) {
        visitor.go(random).await;
        return Some(());
    }
    assert_eq!(visitor.hear().await?["type"], "open");
    let name = format!("u{}", random.below(USERS));
    let device = format!("d{}", random.below(3));
    let login = json!({"type": "login", "userName": name, "deviceId": device});
    visitor.say(&login, random).await.then_some(())?;
    assert_eq!(visitor.hear().await?["event"], "login");
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
        visitor.say(&request, random).await.then_some(())?;
        if random.one_in(2) {
            catch_up(&mut visitor, random, tally).await.then_some(())?;
            // People think before they go on, and stay together meanwhile.
            tokio::time::sleep(Duration::from_millis(random.below(400) as u64)).await;
        }
    }
    visitor.go(random).await;
    Some(())
}

/// So many visits in all, and so many at one time.
fn crowd(server: Addresses, visits: usize, at_once: usize, random: &mut Random) -> Tally {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let start = Instant::now();
    let sum = runtime.block_on(async {
        let gate = Arc::new(Semaphore::new(at_once));
        let mut under_way = Vec::new();
        for _ in 0..visits {
            let permit = gate.clone().acquire_owned().await.unwrap();
            let mut random = Random::new(random.bits());
            under_way.push(tokio::spawn(async move {
                let mut tally = Tally::default();
                let visit = timeout(4 * PATIENCE, visit(server, &mut random, &mut tally));
                let stayed = visit.await.expect("a visit that never ended");
                tally.thrown_out = usize::from(stayed.is_none());
                drop(permit);
                tally
            }));
        }
        let mut sum = Tally::default();
        for visit in under_way {
            let tally = visit.await.unwrap();
            sum.messages += tally.messages;
            sum.acknowledged += tally.acknowledged;
            sum.refused += tally.refused;
            sum.thrown_out += tally.thrown_out;
        }
        sum
    });
    println!("{visits} visits in {:?}: {sum:?}", start.elapsed());
    sum
}

fn settings() -> Settings {
    Settings::new()
        .with("table.sessions", 4_000)
        .with("table.arena_mib", 64)
        .with("table.groups", 200)
        .with("table.memberships", 20_000)
        .with("limits.login_timeout_ms", 60_000)
        .with("limits.handshake_timeout_ms", 60_000)
        .with("limits.outbox_bytes", 8 << 20)
}

#[test]
fn thousands_come_and_go_and_leave_nothing() {
    const VISITS: usize = 10_000;
    const AT_ONCE: usize = 2_000;
    let server = Server::start(settings());
    let empty = settled(&server);
    let descriptors = holders(&server);
    let tally = crowd(
        Addresses::of(&server),
        VISITS,
        AT_ONCE,
        &mut Random::of_the_day(),
    );
    assert!(
        tally.messages > VISITS && tally.acknowledged > VISITS / 2,
        "too little was said to prove anything"
    );
    assert_eq!(tally.thrown_out, 0, "connections were lost");
    everything_is_back(&server, &empty, descriptors);
    let high_water = status::sections(&server)["sessions"].high_water;
    assert!(
        high_water > AT_ONCE as u64 / 2,
        "only {high_water} at one time"
    );
}

#[test]
fn the_same_while_processes_are_killed() {
    const KILLINGS: usize = 25;
    const VISITS: usize = 1_000;
    const AT_ONCE: usize = 500;
    let server = Server::start(
        settings()
            .with("server.workers", 3)
            .with("server.watchdog_ms", 1_000),
    );
    let empty = settled(&server);
    let descriptors = holders(&server);
    let mut random = Random::of_the_day();
    let mut killings = Random::new(random.bits());
    let over = AtomicBool::new(false);
    let (mut messages, mut thrown_out) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..KILLINGS {
                // The pace of the killings is their own; nothing waits for it.
                std::thread::sleep(Duration::from_millis(100 + killings.below(900) as u64));
                let victims = eventually("somebody to kill", || {
                    Some(processes::children(server.pid())).filter(|children| !children.is_empty())
                });
                let victim = Pid::from_raw(victims[killings.below(victims.len())]);
                let signal = if killings.one_in(5) {
                    Signal::SIGSTOP
                } else {
                    Signal::SIGKILL
                };
                // It may have died of the last one meanwhile.
                let _ = kill(victim, signal);
            }
            over.store(true, Ordering::SeqCst);
        });
        while !over.load(Ordering::SeqCst) {
            let tally = crowd(Addresses::of(&server), VISITS, AT_ONCE, &mut random);
            messages += tally.messages;
            thrown_out += tally.thrown_out;
        }
    });
    assert!(
        messages > VISITS,
        "too little happened to prove anything: {messages} messages heard"
    );
    assert_eq!(thrown_out, 0, "connections were lost");
    posts::filled(&server);
    posts::audit(&server).unwrap();
    everything_is_back(&server, &empty, descriptors);
}
