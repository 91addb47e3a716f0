//! Unusual configurations, and several limits met at once.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tests::wait::eventually;
use tests::{Client, House, Server, Settings, Transport, http, processes, status};

use crate::both;

/// Fills as much of the arena as a reader who does not read may have, with what he does not read.
fn fill_the_arena(server: &Server, ann: &mut Client) {
    let content = "z".repeat(16_000);
    for number in 0..20_000 {
        if number % 4 == 0 && status::fill(server)["arena_blocks"] > 400 {
            return;
        }
        ann.send(json!({"type": "sendto", "to": "bob", "content": content, "id": number}));
        assert_eq!(ann.json()["status"], "delivered");
    }
    panic!("the arena never filled");
}

fn tight() -> Settings {
    Settings::new()
        .with("table.arena_mib", 1)
        .with("limits.message_bytes", 32_768)
        .with("limits.outbox_bytes", 64 << 20)
}

#[test]
fn one_worker_and_many() {
    for workers in [1, 8] {
        let server = Server::start(Settings::new().with("server.workers", workers));
        assert_eq!(server.workers().len(), workers);
        let mut clients: Vec<Client> = (0..16)
            .map(|number| {
                let transport = if number % 2 == 0 {
                    Transport::Tcp
                } else {
                    Transport::WebSocket
                };
                let mut client = Client::login(&server, transport, "ann");
                client.join("all");
                client
            })
            .collect();
        clients[0].send(json!({"type": "sendgroup", "to": "all", "content": 1, "quiet": true}));
        for client in &mut clients[1..] {
            assert_eq!(client.expect("message")["content"], 1);
        }
    }
}

#[test]
fn only_websocket_and_only_tcp() {
    let settings = Settings::new().with("server.tcp", json!([]));
    let server = Server::start(settings);
    Client::login(&server, Transport::WebSocket, "ann").expect_nothing();
    drop(server);
    let house = House::new(Settings::new().with("server.websocket", json!([])));
    let output = house.run(&["--daemon"]);
    assert!(output.status.success(), "{output:?}");
    let mut client = Client::connect_to(house.address("server.tcp"), Transport::Tcp);
    client.expect("open");
    drop(client);
    assert!(house.run(&["stop"]).status.success());
}

#[test]
fn work_goes_on_as_another_user() {
    // Only the superuser can become somebody else.
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    // The temporary folder's run/ must be writable by that user for its files to go at the end.
    let server = Server::start(Settings::new().with("server.user", "nobody"));
    for pid in processes::children(server.pid())
        .into_iter()
        .chain([server.pid()])
    {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let uids = status
            .lines()
            .find(|line| line.starts_with("Uid:"))
            .unwrap();
        assert!(
            !uids.split_whitespace().skip(1).any(|uid| uid == "0"),
            "{pid}: {uids}"
        );
    }
    Client::login(&server, Transport::WebSocket, "ann").expect_nothing();
}

#[test]
fn a_stop_with_much_unread_is_still_a_stop() {
    both(&tight(), |server, transport| {
        let bob = Client::login(server, transport, "bob");
        let mut ann = Client::login(server, Transport::WebSocket, "ann");
        fill_the_arena(server, &mut ann);
        server.signal(Signal::SIGTERM);
        ann.expect_ending(1001);
        drop(bob);
    });
}

#[test]
fn a_worker_killed_with_much_unread_gives_it_back() {
    let server = Server::start(tight());
    let bob = Client::login(&server, Transport::Tcp, "bob");
    let mut ann = Client::login(&server, Transport::WebSocket, "ann");
    fill_the_arena(&server, &mut ann);
    for pid in server.workers() {
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    }
    drop((ann, bob));
    eventually("every block is back", || {
        let fill = status::fill(&server);
        (fill["arena_blocks"] == 0 && fill["outbox_entries"] == 0 && fill["sessions"] == 0)
            .then_some(())
    });
    let mut ann = Client::login(&server, Transport::WebSocket, "ann");
    let mut bob = Client::login(&server, Transport::Tcp, "bob");
    assert_eq!(ann.sendto("bob", json!("z".repeat(16_000))), "delivered");
    bob.expect("message");
}

#[test]
fn refusals_at_the_door_do_not_wait_for_each_other() {
    // Nobody may be told: everyone is closed at once, and that is quick too.
    let server = Server::start(
        Settings::new()
            .with("table.sessions", 1)
            .with("limits.refusals", 0),
    );
    let mut only = eventually("the one row", || Client::try_open(&server, Transport::Tcp));
    let start = Instant::now();
    for _ in 0..500 {
        assert!(http::try_get(server.websocket(), "/healthz").is_err());
    }
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "{:?}",
        start.elapsed()
    );
    only.send(json!({"type": "login", "userName": "only"}));
    only.expect("system");
}

#[test]
fn silent_newcomers_cannot_keep_the_table_full() {
    let settings = Settings::new()
        .with("table.sessions", 20)
        .with("limits.handshake_timeout_ms", 500)
        .with("limits.login_timeout_ms", 500);
    let server = Server::start(settings);
    let silent: Vec<_> = (0..40)
        .map(|number| {
            let address = if number % 2 == 0 {
                server.tcp()
            } else {
                server.websocket()
            };
            std::net::TcpStream::connect(address).unwrap()
        })
        .collect();
    // They never hang up; the rows come back all the same.
    let mut clients: Vec<Client> = (0..20)
        .map(|_| {
            eventually("a row", || Client::try_open(&server, Transport::WebSocket))
                .logged_in(json!({"type": "login", "userName": "ann"}))
        })
        .collect();
    clients.iter_mut().for_each(Client::expect_nothing);
    drop(silent);
}

#[test]
fn a_group_of_everyone_and_a_user_on_every_row() {
    let server = Server::standard();
    let mut clients: Vec<Client> = (0..150)
        .map(|number| {
            let transport = if number % 2 == 0 {
                Transport::Tcp
            } else {
                Transport::WebSocket
            };
            let mut client = Client::login(&server, transport, "ann");
            client.join("all");
            client
        })
        .collect();
    let mut bob = Client::login(&server, Transport::Tcp, "bob");
    bob.join("all");
    for round in 0..20 {
        bob.send(json!({"type": "sendto", "to": "ann", "content": round, "quiet": true}));
        bob.send(json!({"type": "sendgroup", "to": "all", "content": round, "quiet": true}));
        for client in &mut clients {
            assert_eq!(client.expect("message")["to"], "ann");
            assert_eq!(client.expect("message")["group"], "all");
        }
    }
    clients.iter_mut().for_each(Client::expect_nothing);
    bob.expect_nothing();
}

#[test]
fn names_that_come_and_go_do_not_fill_the_table() {
    // Who was here is remembered as long as there is room, and no longer.
    let server = Server::start(Settings::new().with("table.sessions", 10));
    let mut watcher = Client::login(&server, Transport::Tcp, "watcher");
    for number in 0..500 {
        let mut client = eventually("a row", || Client::try_open(&server, Transport::Tcp));
        client.send(json!({"type": "login", "userName": format!("visitor {number}")}));
        assert_eq!(client.expect("system")["event"], "login");
        client.logout();
    }
    watcher.expect_nothing();
}
