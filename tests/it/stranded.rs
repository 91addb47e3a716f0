//! A worker's slot that cannot be filled: its connections go on with the other workers, and nobody waits for ever.
//!
//! `diagnostics.fail_slot` makes a slot such a one: every process that is to follow the first one there fails.

use std::io::Write;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::client::BOTH;
use tests::wait::eventually;
use tests::{Client, Server, Settings, Transport, http, posts, processes, status};

/// The slots of the first two workers. With as many connections each, the next newcomer goes to the first.
const FIRST: u64 = 4;
const SECOND: u64 = 5;

/// How many connect. Of each two that follow each other the second is the second worker's.
const CLIENTS: usize = 8;

/// Longer than any test: what is not to happen in it.
const NEVER_MS: u32 = 600_000;

fn settings(slot: u64) -> Settings {
    Settings::new()
        .with("diagnostics.fail_slot", slot)
        .with("server.handover_ms", 400)
        .with("server.abandon_ms", NEVER_MS)
}

/// The process in a slot, as `status` shows it.
fn process(server: &Server, slot: u64) -> Value {
    let status = status::whole(server);
    let processes = status["processes"].as_array().unwrap();
    let found = processes.iter().find(|process| process["slot"] == slot);
    found
        .unwrap_or_else(|| panic!("no slot {slot} in {status}"))
        .clone()
}

fn sessions(server: &Server, slot: u64) -> u64 {
    process(server, slot)["sessions"].as_u64().unwrap()
}

/// Kills the process in a slot; it is gone then, and has no successor yet.
fn kill(server: &Server, slot: u64) {
    let pid = process(server, slot)["pid"].as_i64().unwrap() as i32;
    assert!(posts::signal(pid, Signal::SIGKILL));
    eventually("it is gone", || (!processes::alive(pid)).then_some(()));
}

/// Waits until a process has failed in a slot. The next one is waited for.
fn deserted(server: &Server, slot: u64) {
    eventually("the slot cannot be filled", || {
        let process = process(server, slot);
        // Longer than after the death of one that was at work.
        (process["state"] == "waiting" && process["again_in_ms"].as_u64() > Some(1_000))
            .then_some(())
    });
}

/// Waits until the other worker has every connection.
fn handed_over(server: &Server, all: u64) {
    eventually("the first worker has them all", || {
        (sessions(server, FIRST) == all && sessions(server, SECOND) == 0).then_some(())
    });
}

/// A server of whose start no connection is left, so that it is known whose the next one will be.
fn start(settings: Settings) -> Server {
    let server = Server::start(settings);
    eventually("nobody is connected", || {
        (status::fill(&server)["sessions"] == 0).then_some(())
    });
    server
}

fn crowd(server: &Server) -> Vec<Client> {
    let clients = (0..CLIENTS).map(|number| {
        // Both transports on each worker.
        let transport = BOTH[number / 2 % 2];
        let mut client = Client::login(server, transport, &format!("u{number}"));
        client.join("all");
        client
    });
    let clients = clients.collect();
    let half = CLIENTS as u64 / 2;
    assert_eq!(
        (sessions(server, FIRST), sessions(server, SECOND)),
        (half, half)
    );
    clients
}

/// With the cause gone, a reload fills every slot, and all is as it was.
fn heal(server: &mut Server, settings: Settings) {
    server.rewrite(settings.with("diagnostics.fail_slot", 0));
    let output = server.house().run(&["reload"]);
    assert!(output.status.success(), "{output:?}");
    posts::filled(server);
    posts::audit(server).unwrap();
}

fn say(content: impl Into<Value>) -> Value {
    json!({"type": "sendgroup", "to": "all", "content": content.into(), "quiet": true})
}

#[test]
fn its_connections_go_on_with_the_other_workers_at_the_very_byte() {
    const SAID: usize = 60;
    let settings = settings(SECOND);
    let mut server = start(settings.clone());
    let mut clients = crowd(&server);
    // Half a line, which the second worker has read when it dies: the answer to the ping says so.
    for (number, client) in clients.iter_mut().enumerate() {
        if number / 2 % 2 == 1 {
            let line =
                format!("{{\"type\":\"ping\"}}\n{{\"type\":\"sendto\",\"to\":\"u{number}\",");
            client.stream().write_all(line.as_bytes()).unwrap();
            client.expect("pong");
        }
    }
    kill(&server, SECOND);
    // Queued for those whom nobody serves, and said by them.
    for said in 0..SAID {
        clients[0].send(say(said));
    }
    clients[0].expect_nothing();
    for client in &mut clients[1..] {
        for said in 0..SAID {
            assert_eq!(client.expect("message")["content"], said);
        }
    }
    for (number, client) in clients.iter_mut().enumerate() {
        if number / 2 % 2 == 1 {
            let rest = b"\"content\":\"whole\",\"id\":7}\n";
            client.stream().write_all(rest).unwrap();
            let said = client.expect("message");
            assert_eq!(said["content"], "whole");
            assert_eq!(client.expect("ack")["status"], "delivered");
        }
        client.expect_nothing();
    }
    handed_over(&server, CLIENTS as u64);
    deserted(&server, SECOND);
    posts::audit(&server).unwrap();
    assert_eq!(http::get(server.websocket(), "/healthz").status, 503);
    // Newcomers are seated where somebody is.
    let mut late = Client::login(&server, Transport::Tcp, "late");
    late.expect_nothing();
    heal(&mut server, settings);
    assert_eq!(http::get(server.websocket(), "/healthz").status, 200);
    // And at the slot again once it is filled, as it has the fewest.
    let mut next = Client::login(&server, Transport::WebSocket, "next");
    assert_eq!(sessions(&server, SECOND), 1);
    next.send(json!({"type": "sendto", "to": "u1", "content": "welcome back", "id": 1}));
    assert_eq!(next.expect("ack")["status"], "delivered");
    assert_eq!(clients[1].expect("message")["content"], "welcome back");
    clients.iter_mut().for_each(Client::expect_nothing);
}

#[test]
fn a_message_over_which_two_slots_died_costs_its_session_and_no_other() {
    let settings = settings(SECOND).with("diagnostics.crash_word", "abracadabra");
    let server = start(settings);
    let mut clients = crowd(&server);
    // One read: what stands before it is handled, what stands behind it is not.
    let victim = clients.remove(3);
    let line = |content: &str| {
        let message = json!({"type": "sendto", "to": "u0", "content": content, "quiet": true});
        format!("{message}\n")
    };
    let lines = [line("before"), line("abracadabra"), line("behind")].concat();
    victim.stream().write_all(lines.as_bytes()).unwrap();
    victim.expect_ending(1011);
    assert_eq!(clients[0].expect("message")["content"], "before");
    clients.iter_mut().for_each(Client::expect_nothing);
    handed_over(&server, CLIENTS as u64 - 1);
    posts::audit(&server).unwrap();
}

#[test]
fn whoever_dies_while_it_takes_over_loses_nothing() {
    const ROUNDS: usize = 4;
    let server = start(settings(SECOND));
    let mut clients = crowd(&server);
    for round in 0..ROUNDS {
        clients[0].send(say(round));
        if round == 0 {
            kill(&server, SECOND);
        } else {
            // It has just been given them, or is about to be.
            kill(&server, FIRST);
            eventually("it has a successor", || {
                (process(&server, FIRST)["state"] == "running").then_some(())
            });
        }
    }
    for client in &mut clients[1..] {
        let mut heard: Vec<(Value, Value)> = Vec::new();
        while heard.len() < ROUNDS {
            let message = client.expect("message");
            let this = (message["id"].clone(), message["content"].clone());
            // Again only what was being handled, and with its id.
            if !heard.contains(&this) {
                assert_eq!(this.1, heard.len());
                heard.push(this);
            }
        }
    }
    handed_over(&server, CLIENTS as u64);
    posts::audit(&server).unwrap();
}

#[test]
fn without_a_worker_an_outbox_has_a_limit_and_its_senders_go_on() {
    // 10 KiB each; four times the limit may wait where it is not the reader's fault.
    const SAID: usize = 200;
    let stranded = settings(SECOND)
        .with("server.handover_ms", NEVER_MS)
        .with("limits.outbox_bytes", 200_000);
    let mut server = start(stranded.clone());
    let mut clients = crowd(&server);
    kill(&server, SECOND);
    deserted(&server, SECOND);
    let content = "z".repeat(10_000);
    let message = |to: &str, number: usize| json!({"type": "sendto", "to": to, "content": [number, content], "quiet": true, "id": number});
    let mut taken = Vec::new();
    for number in 0..SAID {
        clients[0].send(message("u1", number));
        clients[0].send(json!({"type": "ping"}));
        match clients[0].json() {
            answer if answer["type"] == "pong" => taken.push(number),
            answer => {
                assert_eq!(
                    (&answer["code"], &answer["id"]),
                    (&"overloaded".into(), &number.into())
                );
                clients[0].expect("pong");
            }
        }
    }
    assert!(
        (70..=80).contains(&taken.len()),
        "{} of {SAID}",
        taken.len()
    );
    assert!(taken.is_sorted_by(|one, next| next - one == 1), "{taken:?}");
    // The others have the arena for themselves.
    for number in 0..SAID {
        clients[0].send(message("u2", number));
        assert_eq!(clients[2].expect("message")["content"][0], number);
    }
    clients[0].expect_nothing();
    heal(&mut server, stranded);
    for number in taken {
        assert_eq!(clients[1].expect("message")["content"][0], number);
    }
    clients.iter_mut().for_each(Client::expect_nothing);
}

#[test]
fn whoever_misses_what_others_have_is_told() {
    let stranded = settings(SECOND)
        .with("server.handover_ms", NEVER_MS)
        .with("limits.outbox_bytes", 200_000);
    let mut server = start(stranded.clone());
    let mut clients = crowd(&server);
    kill(&server, SECOND);
    deserted(&server, SECOND);
    let content = "z".repeat(10_000);
    let (mut taken, mut refused) = (0, 0);
    for number in 0..120 {
        let message = json!({"type": "sendgroup", "to": "all", "content": [number, content], "quiet": true, "id": number});
        clients[0].send(message);
        clients[0].send(json!({"type": "ping"}));
        match clients[0].json() {
            answer if answer["type"] == "pong" => {
                for client in [2, 4, 6] {
                    assert_eq!(clients[client].expect("message")["content"][0], number);
                }
                taken += 1;
            }
            answer => {
                assert_eq!(answer["code"], "overloaded", "{answer}");
                clients[0].expect("pong");
                refused += 1;
            }
        }
    }
    println!("{taken} taken, {refused} refused");
    heal(&mut server, stranded);
    for (number, mut client) in clients.into_iter().enumerate() {
        if number % 2 == 0 {
            client.expect_nothing();
        } else if taken > 80 {
            let ending = client.expect_ending(1013);
            let heard = ending.unread.iter().filter(|it| it["type"] == "message");
            assert!(heard.count() >= 70, "what was accepted for it comes first");
        } else {
            (0..taken).for_each(|_| drop(client.expect("message")));
            client.expect_nothing();
        }
    }
}

#[test]
fn deadlines_hold_where_nobody_fills_the_slot() {
    let settings = settings(SECOND).with("limits.login_timeout_ms", 1_500);
    let server = start(settings);
    let _first = Client::login(&server, Transport::Tcp, "first");
    let silent = Client::open(&server, Transport::Tcp);
    assert_eq!(sessions(&server, SECOND), 1);
    kill(&server, SECOND);
    silent.expect_ending(4001);
}

#[test]
fn with_one_worker_they_end_within_the_bound_and_newcomers_are_refused() {
    let alone = settings(FIRST)
        .with("server.workers", 1)
        .with("server.abandon_ms", 1_500);
    let mut server = start(alone.clone());
    let mut clients: Vec<Client> = (0..6)
        .map(|number| Client::login(&server, BOTH[number % 2], &format!("u{number}")))
        .collect();
    clients.iter_mut().for_each(|client| client.join("all"));
    clients.push(Client::open(&server, Transport::Tcp));
    clients.push(Client::open(&server, Transport::WebSocket));
    let begun = Instant::now();
    kill(&server, FIRST);
    for client in clients {
        let ending = client.expect_ending(1013);
        let last = ending.last.expect("they are told");
        assert_eq!(last["type"], "kicked", "{last}");
        assert!(
            last["reason"]
                .as_str()
                .is_some_and(|why| why.contains("serve")),
            "{last}"
        );
    }
    let took = begun.elapsed();
    assert!(took > Duration::from_millis(1_000), "after {took:?}");
    assert!(took < Duration::from_secs(8), "after {took:?}");
    // No worker for longer than server.handover_ms.
    assert_eq!(http::get(server.websocket(), "/healthz").status, 503);
    let refused = Client::connect(&server, Transport::Tcp).ending();
    let last = refused.last.expect("refused with a word");
    assert_eq!(
        (&last["code"], &last["closeCode"]),
        (&"capacity".into(), &1013.into())
    );
    posts::audit(&server).unwrap();
    assert_eq!(status::fill(&server)["sessions"], 0);
    heal(&mut server, alone);
    let mut back = Client::login(&server, Transport::WebSocket, "u0");
    back.join("all");
    back.expect_nothing();
}

#[test]
fn a_reload_replaces_the_others_where_the_slot_still_cannot_be_filled() {
    let server = start(settings(SECOND));
    let mut clients = crowd(&server);
    kill(&server, SECOND);
    deserted(&server, SECOND);
    let before = process(&server, FIRST)["pid"].clone();
    let output = server.house().run(&["reload"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    assert!(said.contains("worker 5 still cannot be filled"), "{said}");
    assert_ne!(process(&server, FIRST)["pid"], before);
    clients.iter_mut().for_each(Client::expect_nothing);
    handed_over(&server, CLIENTS as u64);
    posts::audit(&server).unwrap();
}

#[test]
fn an_upgrade_in_between_changes_nothing_of_that() {
    let settings = settings(SECOND).with("server.handover_ms", 2_000);
    let server = start(settings);
    let mut clients = crowd(&server);
    clients[0].send(say("before"));
    clients[0].expect_nothing();
    kill(&server, SECOND);
    clients[0].send(say("between"));
    let output = server.house().run(&["upgrade"]);
    assert!(output.status.success(), "{output:?}");
    clients[0].send(say("after"));
    for client in &mut clients[1..] {
        for content in ["before", "between", "after"] {
            assert_eq!(client.expect("message")["content"], content);
        }
    }
    handed_over(&server, CLIENTS as u64);
    let output = server.house().run(&["upgrade"]);
    assert!(output.status.success(), "{output:?}");
    clients.iter_mut().for_each(Client::expect_nothing);
    posts::audit(&server).unwrap();
}

#[test]
fn a_stop_tells_them_too() {
    let server = start(settings(SECOND).with("server.handover_ms", NEVER_MS));
    let clients = crowd(&server);
    kill(&server, SECOND);
    deserted(&server, SECOND);
    let begun = Instant::now();
    server.signal(Signal::SIGTERM);
    for client in clients {
        let ending = client.ending();
        // On TCP the notice of the end comes before the line with the code.
        assert_eq!(ending.code, Some(1001), "{ending:?}");
    }
    assert!(
        begun.elapsed() < Duration::from_secs(15),
        "{:?}",
        begun.elapsed()
    );
}
