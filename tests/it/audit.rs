//! `master audit`: all books compared, on a server at rest and on a busy one.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use tests::client::BOTH;
use tests::{Client, RawWebSocket, Server, Settings, posts};

#[test]
fn it_finds_nothing_whatever_state_connections_are_in() {
    let server = Server::start(Settings::new().with("diagnostics.echo", true));
    posts::audit(&server).unwrap();
    let mut half = RawWebSocket::silent(server.websocket());
    half.send_bytes(b"GET /ws HT");
    let mut cut = RawWebSocket::login(server.websocket(), "cut");
    cut.send_bytes(&[0x01, 0xFE, 0x40]);
    let mut echo = RawWebSocket::connect(server.websocket(), "/echo");
    echo.send_bytes(&[0x02, 0x85, 1, 2, 3, 4, 9]);
    let mut clients: Vec<Client> = (0..10)
        .map(|number| Client::login(&server, BOTH[number % 2], &format!("u{number}")))
        .collect();
    clients.iter_mut().for_each(|client| client.join("all"));
    let _strangers = BOTH.map(|transport| Client::open(&server, transport));
    posts::audit(&server).unwrap();
    posts::kill_each(&server, "worker");
    posts::audit(&server).unwrap();
}

#[test]
fn it_finds_nothing_on_a_busy_server_and_stops_nobody() {
    let settings = Settings::new()
        .with("table.arena_mib", 64)
        .with("limits.outbox_bytes", 8 << 20);
    let server = Server::start(settings);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for pair in 0..8 {
            let mut ann = Client::login(&server, BOTH[pair % 2], &format!("ann{pair}"));
            let mut bob = Client::login(&server, BOTH[pair / 2 % 2], &format!("bob{pair}"));
            let over = &over;
            scope.spawn(move || {
                let filler = "z".repeat(pair * 900);
                while !over.load(Ordering::SeqCst) {
                    for number in 0..20 {
                        ann.send(json!({"type": "sendto", "to": bob.name(), "content": [number, filler], "quiet": true}));
                    }
                    for number in 0..20 {
                        assert_eq!(bob.expect("message")["content"][0], number);
                    }
                }
                ann.expect_nothing();
            });
        }
        let findings: Vec<_> = (0..10).map(|_| posts::audit(&server)).collect();
        over.store(true, Ordering::SeqCst);
        findings.into_iter().for_each(|found| found.unwrap());
    });
}
