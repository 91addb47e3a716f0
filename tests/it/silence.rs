//! One message alone, or the last one of a burst, with silence behind it: it arrives within its bound with nobody else doing anything.

use std::sync::Arc;
use std::thread::scope;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::client::BOTH;
use tests::delays::Delays;
use tests::waits::Waits;
use tests::{Client, Server, Settings, Transport, posts, processes, status};

/// What is done to a server, after each of which it must be as if nothing had been.
const ACTS: [&str; 6] = ["nothing", "reload", "upgrade", "audit", "worker", "timer"];

fn waits(server: &Server) -> Arc<Waits> {
    Arc::new(Waits::new(Delays::of(server.pid())))
}

/// Does it to all processes that it concerns; the last of them may still be replaced when this returns.
fn act(server: &Server, what: &str, waits: &Waits) {
    match what {
        "nothing" => {}
        "worker" | "timer" => {
            for pid in server.processes(what) {
                posts::filled(server);
                // Nobody here is old: the second of two that die young waits for 100 ms, the next one 200.
                waits.killed(Duration::from_millis(200));
                posts::signal(pid, Signal::SIGKILL);
            }
        }
        command => {
            let output = server.house().run(&[command]);
            assert!(output.status.success(), "{command}: {output:?}");
        }
    }
}

/// One message from the one to the other, and how long it took is noted.
fn one_message(from: &mut Client, to: &mut Client, number: usize, waits: &Waits) {
    let sent = Instant::now();
    from.send(
        json!({"type": "sendto", "to": to.name(), "content": number, "id": number, "quiet": true}),
    );
    loop {
        let message = to.expect("message");
        // After a crash the one before may come again.
        if message["content"] == number {
            break;
        }
        assert_eq!(message["content"], number - 1);
    }
    waits.ended(sent, || format!("message {number} to {}", to.name()));
}

fn judge(waits: &Waits) {
    let faults = waits.judge();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// A connection whose worker is that one, or is not.
fn client_at(server: &Server, name: &str, worker: i32, there: bool) -> Client {
    // The worker with the fewest connections gets the next one: those that are with another stay until one is found.
    let mut elsewhere = Vec::new();
    for transport in BOTH.into_iter().cycle().take(40) {
        let client = Client::login(server, transport, name);
        if (worker_of(server, &client) == worker) == there {
            elsewhere.into_iter().for_each(Client::logout);
            return client;
        }
        elsewhere.push(client);
    }
    panic!(
        "no connection came to a worker that is{} {worker}",
        if there { "" } else { " not" }
    );
}

fn worker_of(server: &Server, client: &Client) -> i32 {
    let stream = client.stream();
    let (near, far) = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
    processes::holder(&server.workers(), near, far).expect("some worker has the connection")
}

#[test]
fn one_message_alone_after_each_act() {
    let server = Server::standard();
    let waits = waits(&server);
    let mut clients: Vec<Client> = (0..6)
        .map(|number| Client::login(&server, BOTH[number % 2], &format!("u{number}")))
        .collect();
    let mut number = 0;
    for what in ACTS {
        println!("after {what}");
        for _ in 0..3 {
            act(&server, what, &waits);
            for first in 0..clients.len() - 1 {
                let (from, to) = clients.split_at_mut(first + 1);
                number += 1;
                one_message(&mut from[first], &mut to[0], number, &waits);
            }
        }
        posts::filled(&server);
        judge(&waits);
    }
    posts::audit(&server).unwrap();
}

#[test]
fn one_message_at_a_time_while_its_worker_is_replaced() {
    let server = Server::standard();
    let waits = waits(&server);
    let mut bob = Client::login(&server, Transport::Tcp, "bob");
    let mut ann = Client::login(&server, Transport::WebSocket, "ann");
    let mut number = 0;
    for what in ["reload", "upgrade", "worker", "reload", "worker"] {
        println!("during {what}");
        scope(|scope| {
            let acting = scope.spawn(|| {
                act(&server, what, &waits);
                posts::filled(&server);
            });
            while !acting.is_finished() {
                number += 1;
                one_message(&mut ann, &mut bob, number, &waits);
            }
        });
        judge(&waits);
    }
}

/// Sent behind the death of the receiver's worker, before anybody can have made up for it; then nobody says a word.
#[test]
fn one_message_to_who_has_no_worker_at_the_moment() {
    let server = Server::standard();
    let waits = waits(&server);
    let mut bob = Client::login(&server, Transport::WebSocket, "bob");
    for number in 1..5 {
        let victim = worker_of(&server, &bob);
        let mut ann = client_at(&server, "ann", victim, false);
        waits.killed(Duration::from_millis(800));
        assert!(posts::signal(victim, Signal::SIGKILL));
        one_message(&mut ann, &mut bob, number, &waits);
        posts::filled(&server);
        judge(&waits);
        ann.logout();
    }
}

/// The server's end comes in the middle of a burst: what was acknowledged before is delivered before the close.
#[test]
fn what_was_acknowledged_before_the_end_is_delivered_before_it() {
    const PAIRS: usize = 20;
    const BURST: u64 = 200;
    for round in 0..4 {
        let mut server = Server::start(Settings::new().with("limits.drain_timeout_ms", 20_000));
        let login = |kind: &str, number: usize| {
            let transport = BOTH[(number + round) % 2];
            Client::login(&server, transport, &format!("{kind}{number}"))
        };
        let mut senders: Vec<Client> = (0..PAIRS).map(|number| login("s", number)).collect();
        let readers: Vec<Client> = (0..PAIRS).map(|number| login("r", number)).collect();
        for number in 0..BURST {
            for (at, sender) in senders.iter_mut().enumerate() {
                let to = format!("r{at}");
                sender.send(json!({"type": "sendto", "to": to, "content": number, "id": number}));
            }
            if number == BURST / 2 {
                // The last thing that happens, or one of the things that happen at the end.
                for sender in &mut senders[..if round % 2 == 0 { 1 } else { PAIRS }] {
                    while sender.expect("ack")["id"] != number {}
                }
                server.signal(Signal::SIGTERM);
                if round < 2 {
                    break;
                }
            }
        }
        let of_kind = |unread: &[Value], kind: &str, field: &str| -> Vec<u64> {
            let numbers = unread.iter().filter(|message| message["type"] == kind);
            numbers
                .map(|message| message[field].as_u64().unwrap())
                .collect()
        };
        let mut closed = Vec::new();
        for client in senders.into_iter().chain(readers) {
            closed.push(std::thread::spawn(move || {
                client.expect_ending(1001).unread
            }));
        }
        let closed: Vec<Vec<Value>> = closed
            .into_iter()
            .map(|reading| reading.join().unwrap())
            .collect();
        for (at, (sent, read)) in closed[..PAIRS].iter().zip(&closed[PAIRS..]).enumerate() {
            let heard = of_kind(read, "message", "content");
            assert!(heard.iter().copied().eq(0..heard.len() as u64), "{heard:?}");
            // Whoever writes behind the end of a reader is told so: "offline".
            let delivered = |message: &&Value| message["status"] == "delivered";
            let taken: Vec<Value> = sent.iter().filter(delivered).cloned().collect();
            let acknowledged = of_kind(&taken, "ack", "id").last().copied();
            assert!(
                acknowledged.is_none_or(|last| last < heard.len() as u64),
                "round {round}, pair {at}: {acknowledged:?} was acknowledged, {} were delivered",
                heard.len()
            );
        }
        assert!(server.ended().success());
        server.assert_nothing_left();
    }
}

/// Ann is faster than bob's worker, which stands still, so her socket is left unread. Whatever becomes of either worker, she is read
/// again, though nobody else says a word.
#[test]
fn a_sender_that_is_slowed_goes_on_whatever_becomes_of_the_workers() {
    /// Three times what his outbox may hold, of which she may fill a little more than half.
    const LETTERS: u64 = 150;
    let settings = Settings::new().with("limits.outbox_bytes", 100_000);
    for what in [
        "goes on",
        "dies",
        "is reloaded",
        "is upgraded",
        "ann's dies",
        "both die",
    ] {
        println!("bob's worker {what}");
        let server = Server::start(settings.clone());
        let waits = waits(&server);
        let mut bob = Client::login(&server, Transport::Tcp, "bob");
        let slow = worker_of(&server, &bob);
        let mut ann = client_at(&server, "ann", slow, false);
        let fast = worker_of(&server, &ann);
        let mut bell = client_at(&server, "bell", fast, true);
        assert!(posts::signal(slow, Signal::SIGSTOP));
        let content = "z".repeat(2_000);
        for number in 0..LETTERS {
            // Nothing comes back to her: her own output being written has her read again as well.
            ann.send(
                json!({"type": "sendto", "to": "bob", "content": [number, content], "quiet": true}),
            );
        }
        ann.send(json!({"type": "ping"}));
        for _ in 0..3 {
            bell.expect_nothing();
        }
        let waiting = status::fill(&server)["outbox_entries"];
        assert!(
            (20..LETTERS / 2).contains(&waiting),
            "ann was not slowed: {waiting} messages wait"
        );
        let sent = Instant::now();
        scope(|scope| {
            match what {
                "goes on" => {}
                "is reloaded" | "is upgraded" => {
                    let command = match what {
                        "is reloaded" => "reload",
                        _ => "upgrade",
                    };
                    scope.spawn(|| act(&server, command, &waits));
                    // The successor of one of them is there, at the latest when the stopped one is asked to leave.
                }
                _ => {
                    waits.killed(Duration::from_millis(200));
                    for victim in [slow, fast] {
                        if what == "both die" || (victim == slow) == (what == "dies") {
                            posts::signal(victim, Signal::SIGKILL);
                        }
                    }
                }
            }
            posts::signal(slow, Signal::SIGCONT);
            let answered = scope.spawn(|| {
                ann.expect("pong");
                waits.ended(sent, || "the answer behind the last letter".into());
            });
            let mut next = 0;
            while next < LETTERS {
                let message = bob.expect("message");
                let number = message["content"][0].as_u64().unwrap();
                // After a crash the last one may come again.
                assert!(
                    number == next || number + 1 == next,
                    "{number} after {next}"
                );
                next = next.max(number + 1);
            }
            waits.ended(sent, || "the last letter".into());
            answered.join().unwrap();
        });
        posts::filled(&server);
        judge(&waits);
        posts::audit(&server).unwrap();
    }
}
