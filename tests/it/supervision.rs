//! Processes that die or hang are replaced; what they held comes back; others go on.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tests::wait::eventually;
use tests::{Client, Server, Settings, Transport, processes, status};

fn logged_in(server: &Server, count: usize) -> Vec<Client> {
    (0..count)
        .map(|number| {
            let transport = if number % 2 == 0 {
                Transport::WebSocket
            } else {
                Transport::Tcp
            };
            let mut client = Client::login(server, transport, &format!("u{number}"));
            client.join("all");
            client
        })
        .collect()
}

/// Divides clients into those still connected and how many are not.
fn survivors(clients: Vec<Client>) -> (Vec<Client>, usize) {
    let before = clients.len();
    let alive: Vec<Client> = clients
        .into_iter()
        .filter_map(|mut client| {
            let asked = client
                .try_send(&json!({"type": "ping"}).to_string())
                .is_ok();
            (asked && client.survives()).then_some(client)
        })
        .collect();
    let lost = before - alive.len();
    (alive, lost)
}

#[test]
fn a_killed_worker_is_replaced_and_its_rows_come_back() {
    let server = Server::standard();
    let clients = logged_in(&server, 20);
    let workers = server.workers();
    assert_eq!(workers.len(), 2);
    kill(Pid::from_raw(workers[0]), Signal::SIGKILL).unwrap();
    let replaced = eventually("a new worker", || {
        Some(server.workers()).filter(|now| now.len() == 2 && !now.contains(&workers[0]))
    });
    assert!(
        replaced.contains(&workers[1]),
        "the other worker was replaced as well"
    );
    let (mut clients, lost) = survivors(clients);
    println!("{lost} connections were lost with their worker");
    assert!(
        lost > 0 && lost < 20,
        "{lost} of 20 connections were lost with one of two workers"
    );
    // Those who stayed still hear each other.
    let (first, rest) = clients.split_first_mut().unwrap();
    first.send(json!({"type": "sendgroup", "to": "all", "content": "still here?", "quiet": true}));
    for client in rest.iter_mut() {
        assert_eq!(client.expect("message")["content"], "still here?");
    }
    let count = clients.len() as u64;
    eventually("the lost rows, memberships and blocks are back", || {
        let sections = status::sections(&server);
        let fill = |name: &str| sections[name].used;
        (fill("sessions") == count && fill("memberships") == count && fill("users") <= 20)
            .then_some(())
    });
    // The new one serves.
    let mut more = logged_in(&server, 10);
    more.iter_mut().for_each(Client::expect_nothing);
}

#[test]
fn workers_killed_again_and_again_while_people_talk() {
    let server = Server::standard();
    let mut clients = logged_in(&server, 16);
    for round in 0..6 {
        let workers = server.workers();
        for client in &mut clients {
            // Some of these are being handled when their worker dies.
            let _ = client.try_send(
                &json!({"type": "sendgroup", "to": "all", "content": round, "quiet": true})
                    .to_string(),
            );
        }
        let victim = workers[round % workers.len()];
        kill(Pid::from_raw(victim), Signal::SIGKILL).unwrap();
        eventually("a new worker", || {
            Some(server.workers()).filter(|now| now.len() == 2 && !now.contains(&victim))
        });
        drop(clients);
        clients = logged_in(&server, 16);
    }
    drop(clients);
    eventually("everything is back", || {
        let sections = status::sections(&server);
        let empty = [
            "sessions",
            "groups",
            "memberships",
            "arena_blocks",
            "outbox_entries",
        ]
        .iter()
        .all(|name| sections[*name].used == 0);
        empty.then_some(())
    });
}

#[test]
fn a_wedged_worker_is_killed_and_replaced() {
    let server = Server::start(Settings::new().with("server.watchdog_ms", 1_000));
    let workers = server.workers();
    kill(Pid::from_raw(workers[1]), Signal::SIGSTOP).unwrap();
    eventually("the wedged worker is gone", || {
        (!processes::alive(workers[1])).then_some(())
    });
    eventually("a new worker", || {
        Some(server.workers()).filter(|now| now.len() == 2)
    });
    let mut clients = logged_in(&server, 6);
    clients.iter_mut().for_each(Client::expect_nothing);
}

#[test]
fn a_killed_timer_is_replaced_and_deadlines_are_kept() {
    let server = Server::start(Settings::new().with("limits.login_timeout_ms", 1_000));
    let timer = server.processes("timer");
    assert_eq!(timer.len(), 1);
    let mut ann = Client::login(&server, Transport::Tcp, "ann");
    let late = Client::open(&server, Transport::WebSocket);
    kill(Pid::from_raw(timer[0]), Signal::SIGKILL).unwrap();
    eventually("a new timer", || {
        Some(server.processes("timer")).filter(|now| now.len() == 1 && *now != timer)
    });
    late.expect_ending(4001);
    Client::open(&server, Transport::WebSocket).expect_ending(4001);
    ann.expect_nothing();
}
