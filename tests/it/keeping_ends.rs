//! Ends that have begun when a worker dies come to their end with its successor, and every row comes back.

use std::io::Write;
use std::net::Shutdown;

use nix::sys::signal::Signal;
use serde_json::json;
use tests::wait::eventually;
use tests::{Bells, Client, Frame, RawWebSocket, Server, Settings, Transport, posts, status};

fn all_rows_are_back(server: &Server, but: u64) {
    eventually("every row is back", || {
        (status::fill(server)["sessions"] == but).then_some(())
    });
    posts::audit(server).unwrap();
}

#[test]
fn a_close_that_waits_for_its_answer() {
    let server = Server::start(Settings::new().with("limits.drain_timeout_ms", 30_000));
    let mut sockets: Vec<RawWebSocket> = (0..6)
        .map(|number| RawWebSocket::login(server.websocket(), &format!("u{number}")))
        .collect();
    for socket in &mut sockets {
        socket.send(&Frame::new(3, "reserved"));
        assert_eq!(socket.frame().unwrap().close_code(), Some(1002));
    }
    posts::kill_each(&server, "worker");
    for socket in &mut sockets {
        socket.send(&Frame::close(1002, ""));
        assert_eq!(socket.frame(), None, "after the close");
    }
    all_rows_are_back(&server, 0);
}

#[test]
fn a_close_that_stands_behind_what_nobody_reads() {
    let settings = Settings::new()
        .with("table.arena_mib", 64)
        .with("limits.outbox_bytes", 16 << 20)
        .with("limits.drain_timeout_ms", 30_000);
    crate::both(&settings, |server, transport| {
        let mut reader = Client::login(server, transport, "reader");
        let mut ann = Client::login(server, Transport::Tcp, "ann");
        let content = "z".repeat(10_000);
        for number in 0..600 {
            ann.send(json!({"type": "sendto", "to": "reader", "content": [number, content], "quiet": true}));
        }
        ann.expect_nothing();
        reader.send(json!({"type": "logout"}));
        Bells::hang(server).ring();
        posts::kill_each(server, "worker");
        let ending = reader.expect_ending(1000);
        let letters: Vec<_> = ending
            .unread
            .iter()
            .filter(|said| said["type"] == "message")
            .collect();
        assert_eq!(letters.len(), 600);
        assert!(
            letters
                .iter()
                .zip(0..)
                .all(|(letter, number)| letter["content"][0] == number)
        );
        ann.expect_nothing();
        ann.logout();
        all_rows_are_back(server, 0);
    });
}

#[test]
fn a_client_that_goes_while_nobody_is_at_work() {
    let server = Server::standard();
    let mut stays = Client::login(&server, Transport::Tcp, "stays");
    let goers: Vec<Client> = (0..12)
        .map(|number| {
            Client::login(
                &server,
                tests::client::BOTH[number % 2],
                &format!("u{number}"),
            )
        })
        .collect();
    for worker in server.workers() {
        assert!(posts::signal(worker, Signal::SIGKILL));
    }
    for (number, client) in goers.into_iter().enumerate() {
        match number % 3 {
            0 => drop(client),
            1 => client.stream().shutdown(Shutdown::Write).unwrap(),
            _ => {
                let _ = client.stream().write_all(b"\xFF\xFF\xFF\n");
            }
        }
    }
    posts::filled(&server);
    stays.expect_nothing();
    all_rows_are_back(&server, 1);
}

#[test]
fn a_stop_announces_and_flushes_although_workers_die() {
    let mut server = Server::start(Settings::new().with("limits.drain_timeout_ms", 20_000));
    let mut deaf: Vec<RawWebSocket> = (0..6)
        .map(|number| RawWebSocket::login(server.websocket(), &format!("deaf{number}")))
        .collect();
    let clients: Vec<Client> = (0..6)
        .map(|number| {
            Client::login(
                &server,
                tests::client::BOTH[number % 2],
                &format!("u{number}"),
            )
        })
        .collect();
    server.signal(Signal::SIGTERM);
    for client in clients {
        client.expect_ending(1001);
    }
    // Those who do not answer their close hold the stop up; meanwhile their workers die.
    for socket in &mut deaf {
        while socket.frame().unwrap().close_code() != Some(1001) {}
    }
    for worker in server.workers() {
        assert!(posts::signal(worker, Signal::SIGKILL));
    }
    for socket in &mut deaf {
        socket.send(&Frame::close(1001, ""));
    }
    for socket in &mut deaf {
        assert_eq!(socket.frame(), None, "after the close");
    }
    assert!(server.ended().success());
    server.assert_nothing_left();
}
