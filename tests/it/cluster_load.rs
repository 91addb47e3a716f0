//! Hosts under load: numbered private, group and broadcast messages between everyone, checked by everyone; and the same while processes
//! are replaced.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::Transport::{Tcp, WebSocket};
use tests::cluster::{ALL_BUSES, Bus, Cluster};
use tests::{Client, Settings};

/// What one client sends and hears in a load.
struct Report {
    name: String,
    /// Of each sender and kind: the numbers heard, in order.
    heard: BTreeMap<(String, String), Vec<u64>>,
    /// Number and status of what was sent, by kind.
    told: BTreeMap<String, Vec<(u64, String)>>,
    repeated: usize,
}

/// Rounds of messages at the least, and at the most while something else goes on.
const ROUNDS: u64 = 60;
const ROUNDS_MAX: u64 = 3_000;

/// How long messages may be on their way to other hosts after their senders were told that somebody has them.
const LATE: Duration = Duration::from_secs(1);

/// How far everyone is.
#[derive(Default)]
struct Progress {
    /// What goes on beside the load is over.
    over: AtomicBool,
    /// Clients that have all their answers.
    answered: AtomicUsize,
}

/// Sends to every other client, to the group and (if it may) to everyone, and hears until all that is answered.
fn work(mut client: Client, others: &[String], progress: &Progress) -> Report {
    let name = client.name().to_owned();
    let mut report = Report {
        name: name.clone(),
        heard: BTreeMap::new(),
        told: BTreeMap::new(),
        repeated: 0,
    };
    let mut ids = HashSet::new();
    let mut awaited = 0;
    for number in 1..=ROUNDS_MAX {
        if number > ROUNDS && progress.over.load(Ordering::Acquire) {
            break;
        }
        let text = "p".repeat((number as usize * 37) % 900);
        for other in others.iter().filter(|other| **other != name) {
            let content = json!({"n": number, "kind": "private", "text": text});
            client.send(json!({"type": "sendto", "to": other, "content": content,
                "id": format!("private:{other}:{number}")}));
            awaited += 1;
        }
        let content = json!({"n": number, "kind": "group"});
        client.send(json!({"type": "sendgroup", "to": "all", "content": content,
            "id": format!("group::{number}")}));
        awaited += 1;
        if name == "u0" && number % 10 == 0 {
            let content = json!({"n": number, "kind": "broadcast"});
            client.send(json!({"type": "broadcast", "content": content,
                "id": format!("broadcast::{number}")}));
            awaited += 1;
        }
        while awaited > 40 {
            awaited -= usize::from(hear(&mut client, &mut report, &mut ids));
        }
    }
    while awaited > 0 {
        awaited -= usize::from(hear(&mut client, &mut report, &mut ids));
    }
    // Somebody else may still be sending: everyone hears until all are done, and then what was on its way.
    progress.answered.fetch_add(1, Ordering::AcqRel);
    let mut end = None;
    while end.is_none_or(|end| Instant::now() < end) {
        client.send(json!({"type": "ping"}));
        while !pong(&mut client, &mut report, &mut ids) {}
        thread::sleep(Duration::from_millis(20));
        if end.is_none() && progress.answered.load(Ordering::Acquire) == others.len() {
            end = Some(Instant::now() + LATE);
        }
    }
    client.send(json!({"type": "ping"}));
    while !pong(&mut client, &mut report, &mut ids) {}
    report
}

fn pong(client: &mut Client, report: &mut Report, ids: &mut HashSet<String>) -> bool {
    let message = client.json();
    take(&message, report, ids);
    message["type"] == "pong"
}

fn hear(client: &mut Client, report: &mut Report, ids: &mut HashSet<String>) -> bool {
    let message = client.json();
    take(&message, report, ids)
}

/// Takes one message in; true if it is the answer to one that was sent.
fn take(message: &Value, report: &mut Report, ids: &mut HashSet<String>) -> bool {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    match message["type"].as_str() {
        Some("ack" | "error") => {
            let id = text(&message["id"]);
            let (kind, number) = id.rsplit_once(':').unwrap();
            let said = message["status"].as_str().or(message["code"].as_str());
            let told = (number.parse().unwrap(), said.unwrap().to_owned());
            report.told.entry(kind.to_owned()).or_default().push(told);
            true
        }
        Some("message" | "system") => {
            let content = &message["content"];
            if content["kind"] == "private" {
                let number = content["n"].as_u64().unwrap() as usize;
                assert_eq!(text(&content["text"]).len(), (number * 37) % 900);
            }
            if !ids.insert(text(&message["id"])) {
                report.repeated += 1;
            } else if let Some(number) = content["n"].as_u64() {
                let key = (text(&message["from"]), text(&content["kind"]));
                report.heard.entry(key).or_default().push(number);
            }
            false
        }
        _ => false,
    }
}

/// Lets six users on the hosts work, does `meanwhile` beside them, and checks all that was said and heard.
fn load(cluster: &Cluster, hosts: usize, meanwhile: impl FnOnce()) -> usize {
    let names: Vec<String> = (0..6).map(|n| format!("u{n}")).collect();
    let clients: Vec<Client> = names
        .iter()
        .enumerate()
        .map(|(n, name)| {
            let transport = if n % 2 == 0 { Tcp } else { WebSocket };
            let mut client = cluster.login(n % hosts, transport, name);
            client.join("all");
            client
        })
        .collect();
    let on: Vec<(&str, [usize; 1])> = names
        .iter()
        .enumerate()
        .map(|(n, name)| (name.as_str(), [n % hosts]))
        .collect();
    let on: Vec<(&str, &[usize])> = on.iter().map(|(name, host)| (*name, &host[..])).collect();
    cluster.expect_users(&on);
    let all: Vec<usize> = (0..hosts).collect();
    cluster.expect_groups(&[("all", &all)]);
    // Hints about the group's other hosts follow the entries.
    thread::sleep(Duration::from_millis(300));

    let progress = Progress::default();
    let reports: Vec<Report> = thread::scope(|scope| {
        let working: Vec<_> = clients
            .into_iter()
            .map(|client| scope.spawn(|| work(client, &names, &progress)))
            .collect();
        meanwhile();
        progress.over.store(true, Ordering::Release);
        working.into_iter().map(|w| w.join().unwrap()).collect()
    });
    check(&reports)
}

fn check(reports: &[Report]) -> usize {
    let mut repeated = 0;
    for report in reports {
        repeated += report.repeated;
        for ((from, kind), numbers) in &report.heard {
            assert!(
                numbers.is_sorted_by(|a, b| a < b),
                "{} heard {from}'s {kind} messages as {numbers:?}",
                report.name
            );
        }
        for (kind, told) in &report.told {
            let (kind, to) = kind.split_once(':').unwrap();
            for (number, status) in told {
                assert!(
                    status == "delivered" || status == "routed",
                    "{} was told {status} of {kind} message {number} to {to:?}",
                    report.name
                );
                let key = (report.name.clone(), kind.to_owned());
                let has = |other: &&Report| {
                    let heard = other.heard.get(&key);
                    heard.is_some_and(|numbers| numbers.binary_search(number).is_ok())
                };
                let recipients = reports.iter().filter(|other| match kind {
                    "private" => other.name == to,
                    "group" => other.name != report.name,
                    _ => true,
                });
                let without: Vec<&str> = recipients
                    .filter(|other| !has(other))
                    .map(|other| other.name.as_str())
                    .collect();
                assert!(
                    without.is_empty(),
                    "{kind} message {number} of {} has not come to {without:?}",
                    report.name
                );
            }
        }
    }
    repeated
}

fn admins() -> Settings {
    Settings::new().with("auth.admins", vec!["u0"])
}

fn quiet(bus: Bus, hosts: usize) {
    let cluster = Cluster::with(bus, hosts, admins());
    assert_eq!(load(&cluster, hosts, || {}), 0, "nothing comes twice");
}

#[test]
fn two_hosts_on_every_bus() {
    for bus in ALL_BUSES {
        println!("over {bus:?}");
        quiet(bus, 2);
    }
}

#[test]
fn three_hosts_on_every_bus() {
    for bus in ALL_BUSES {
        println!("over {bus:?}");
        quiet(bus, 3);
    }
}

#[test]
fn reloads_of_both_hosts_lose_and_repeat_nothing() {
    let cluster = Cluster::with(Bus::Redis, 2, admins());
    let repeated = load(&cluster, 2, || {
        for host in [0, 1, 0, 1] {
            let output = cluster.host(host).house().run(&["reload"]);
            assert!(output.status.success(), "{output:?}");
        }
    });
    assert_eq!(repeated, 0, "nothing comes twice");
}

#[test]
fn dying_links_lose_nothing() {
    for bus in [Bus::Redis, Bus::Mesh] {
        let cluster = Cluster::with(bus, 2, admins());
        let repeated = load(&cluster, 2, || {
            for host in [0, 1] {
                // One that dies younger has a successor only after a pause.
                thread::sleep(Duration::from_millis(1200));
                cluster.kill_link(host);
            }
        });
        assert!(repeated <= 24, "{repeated} came twice over two deaths");
    }
}
