//! Processes that die or hang are replaced, and nobody else notices; what dies at every start is started more and more rarely, and says so.

use nix::sys::signal::Signal;
use serde_json::json;
use tests::wait::eventually;
use tests::{Client, Server, Settings, Transport, http, posts, processes, status};

use crate::both;

#[test]
fn only_the_dead_one_is_replaced() {
    let server = Server::standard();
    let before = posts::filled(&server);
    let victim = server.workers()[0];
    posts::kill(&server, victim);
    let after = posts::filled(&server);
    let stayed = before.iter().filter(|pid| after.contains(pid)).count();
    assert_eq!((before.len(), after.len(), stayed), (3, 3, 2));
}

#[test]
fn a_wedged_worker_is_killed_and_its_connections_are_kept() {
    let server = Server::start(Settings::new().with("server.watchdog_ms", 1_000));
    let mut clients: Vec<Client> = (0..8)
        .map(|number| {
            Client::login(
                &server,
                tests::client::BOTH[number % 2],
                &format!("u{number}"),
            )
        })
        .collect();
    for wedged in server.workers() {
        assert!(posts::signal(wedged, Signal::SIGSTOP));
        // What comes meanwhile is answered by its successor.
        for client in &mut clients {
            client.send(json!({"type": "ping"}));
        }
        for client in &mut clients {
            client.expect("pong");
        }
        assert!(!processes::alive(wedged), "{wedged} is still there");
    }
    clients.iter_mut().for_each(Client::expect_nothing);
    let log = server.house().log();
    assert!(log.contains("watchdog_ms"), "the log does not say why");
}

#[test]
fn a_wedged_timer_is_killed_and_deadlines_are_kept() {
    let settings = Settings::new()
        .with("server.watchdog_ms", 1_000)
        .with("limits.login_timeout_ms", 1_000);
    both(&settings, |server, transport| {
        let timer = server.processes("timer");
        assert!(posts::signal(timer[0], Signal::SIGSTOP));
        Client::open(server, transport).expect_ending(4001);
        assert!(!processes::alive(timer[0]));
    });
}

#[test]
fn a_timer_that_dies_again_and_again_still_kicks() {
    let settings = Settings::new().with("limits.login_timeout_ms", 1_000);
    both(&settings, |server, transport| {
        let mut ann = Client::login(server, transport, "ann");
        let late: Vec<Client> = (0..4).map(|_| Client::open(server, transport)).collect();
        for _ in 0..5 {
            posts::kill_each(server, "timer");
        }
        for client in late {
            client.expect_ending(4001);
        }
        Client::open(server, transport).expect_ending(4001);
        ann.expect_nothing();
    });
}

/// Kills whoever comes to that post as soon as it is there, until the post waits.
fn discourage(server: &Server, role: &str, others: &[i32]) {
    eventually("the post waits", || {
        for pid in server.processes(role) {
            if !others.contains(&pid) {
                posts::signal(pid, Signal::SIGKILL);
            }
        }
        // A pause that is long enough to be looked at.
        let status = status::whole(server);
        let posts = status["processes"].as_array().unwrap();
        posts
            .iter()
            .any(|post| post["state"] == "waiting" && post["again_in_ms"].as_u64() > Some(700))
            .then_some(())
    });
}

#[test]
fn a_worker_that_dies_at_every_start_is_waited_for_and_that_is_said() {
    let server = Server::standard();
    let mut clients: Vec<Client> = (0..8)
        .map(|number| {
            Client::login(
                &server,
                tests::client::BOTH[number % 2],
                &format!("u{number}"),
            )
        })
        .collect();
    let others = [server.workers()[1]];
    discourage(&server, "worker", &others);
    let answer = http::get(server.websocket(), "/healthz");
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.text().contains("worker"), "{}", answer.text());
    let text = server.house().run(&["status"]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("waiting"), "{text}");
    // In peace it comes back, and has its connections.
    posts::filled(&server);
    clients.iter_mut().for_each(Client::expect_nothing);
    assert_eq!(http::get(server.websocket(), "/healthz").status, 200);
}

#[test]
fn a_timer_that_dies_at_every_start_is_waited_for_and_that_is_said() {
    let server = Server::standard();
    let mut ann = Client::login(&server, Transport::WebSocket, "ann");
    discourage(&server, "timer", &[]);
    let answer = http::get(server.websocket(), "/healthz");
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.text().contains("timer"), "{}", answer.text());
    posts::filled(&server);
    assert_eq!(http::get(server.websocket(), "/healthz").status, 200);
    ann.expect_nothing();
}
