//! How connections end: close codes, and the last line on TCP.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Instant;

use serde_json::{Value, json};
use tests::frames::{BINARY, CLOSE, PING};
use tests::wait::{PATIENCE, eventually};
use tests::{Client, Frame, RawWebSocket, Server, Settings, Transport};

use crate::both;

#[test]
fn a_close_is_answered_with_its_own_code() {
    let server = Server::standard();
    for code in [
        1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999,
    ] {
        let mut socket = RawWebSocket::login(server.websocket(), "ann");
        socket.send(&Frame::close(code, "bye"));
        let answer = socket.frame().unwrap();
        assert_eq!((answer.opcode, answer.close_code()), (CLOSE, Some(code)));
        assert_eq!(socket.frame(), None);
    }
    let mut socket = RawWebSocket::login(server.websocket(), "ann");
    socket.send(&Frame::new(CLOSE, ""));
    let answer = socket.frame().unwrap();
    assert_eq!(answer.opcode, CLOSE);
    assert!(
        matches!(answer.close_code(), None | Some(1000)),
        "{answer:?}"
    );
    assert_eq!(socket.frame(), None);
}

#[test]
fn a_close_that_breaks_the_rules_is_a_protocol_error() {
    let server = Server::standard();
    for code in [
        0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535,
    ] {
        let mut socket = RawWebSocket::open(server.websocket());
        socket.send(&Frame::close(code, ""));
        socket.expect_close(1002);
    }
    let mut socket = RawWebSocket::open(server.websocket());
    socket.send(&Frame::new(CLOSE, [3]));
    socket.expect_close(1002);
    let mut socket = RawWebSocket::open(server.websocket());
    socket.send(&Frame::new(CLOSE, [0x03, 0xE8, 0xFF, 0xFE]));
    socket.expect_close(1007);
}

#[test]
fn nothing_behind_a_close_is_heard() {
    let server = Server::standard();
    let mut bob = Client::login(&server, Transport::WebSocket, "bob");
    let mut socket = RawWebSocket::login(server.websocket(), "ann");
    let late = Frame::text(json!({"type": "sendto", "to": "bob", "content": "late"}));
    socket.send_bytes(
        &[
            Frame::close(1000, "").bytes(),
            late.bytes(),
            Frame::new(PING, "x").bytes(),
        ]
        .concat(),
    );
    assert_eq!(socket.frame().unwrap().close_code(), Some(1000));
    assert_eq!(socket.frame(), None);
    bob.expect_nothing();
}

#[test]
fn binary_is_not_what_the_protocol_speaks() {
    let server = Server::standard();
    let mut socket = RawWebSocket::login(server.websocket(), "ann");
    socket.send(&Frame::new(BINARY, json!({"type": "ping"}).to_string()));
    socket.expect_close(1003);
}

#[test]
fn a_line_that_is_not_utf8_ends_the_connection() {
    let server = Server::standard();
    let client = Client::login(&server, Transport::Tcp, "ann");
    (&mut client.stream())
        .write_all(b"{\"type\":\"ping\",\"x\":\"\xFF\"}\n")
        .unwrap();
    client.expect_ending(1007);
}

#[test]
fn a_message_too_big_is_1009_and_never_heard() {
    both(
        &Settings::new().with("limits.message_bytes", 4_096),
        |server, transport| {
            let mut bob = Client::login(server, transport, "bob");
            let mut ann = Client::login(server, transport, "ann");
            let message =
                json!({"type": "sendto", "to": "bob", "content": "x".repeat(5_000)}).to_string();
            ann.try_send(&message).unwrap();
            let ending = ann.expect_ending(1009);
            if transport == Transport::Tcp {
                assert_eq!(ending.last.unwrap()["code"], "too_big");
            }
            bob.expect_nothing();
        },
    );
}

#[test]
fn an_endless_line_is_cut_off() {
    let settings = Settings::new().with("limits.message_bytes", 4_096);
    let server = Server::start(settings.with("limits.drain_timeout_ms", 500));
    let mut bob = Client::login(&server, Transport::Tcp, "bob");
    let ann = Client::login(&server, Transport::Tcp, "ann");
    let chunk = [b'x'; 4_096];
    let start = Instant::now();
    // No newline ever, and nobody who would hang up first.
    while (&mut ann.stream()).write_all(&chunk).is_ok() {
        assert!(
            start.elapsed() < PATIENCE,
            "one line without end was listened to"
        );
    }
    bob.expect_nothing();
    let arena = tests::status::sections(&server)["arena_blocks"];
    assert!(
        arena.high_water < arena.capacity / 2,
        "it was kept: {arena:?}"
    );
}

#[test]
fn half_a_line_at_the_end_is_not_a_message() {
    let server = Server::standard();
    let mut bob = Client::login(&server, Transport::Tcp, "bob");
    let ann = Client::login(&server, Transport::Tcp, "ann");
    (&mut ann.stream())
        .write_all(
            json!({"type": "sendto", "to": "bob", "content": 1})
                .to_string()
                .as_bytes(),
        )
        .unwrap();
    ann.stream().shutdown(Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    (&mut ann.stream()).read_to_end(&mut rest).unwrap();
    eventually("ann is offline", || {
        bob.send(json!({"type": "who", "users": ["ann"]}));
        (bob.expect("presence")["users"][0]["online"] == false).then_some(())
    });
    bob.expect_nothing();
}

#[test]
fn what_came_before_the_end_is_still_done() {
    both(&Settings::new(), |server, transport| {
        let mut bob = Client::login(server, transport, "bob");
        let mut ann = Client::login(server, transport, "ann");
        for count in 0..50 {
            ann.send(json!({"type": "sendto", "to": "bob", "content": count, "quiet": true}));
        }
        drop(ann);
        for count in 0..50 {
            assert_eq!(bob.expect("message")["content"], count);
        }
    });
}

#[test]
fn a_half_closed_tcp_client_still_gets_its_answers() {
    // As `printf ... | nc` does: everything is sent, then only listened to.
    let server = Server::standard();
    let stream = std::net::TcpStream::connect(server.tcp()).unwrap();
    stream
        .set_read_timeout(Some(tests::wait::PATIENCE))
        .unwrap();
    (&mut &stream)
        .write_all(b"{\"type\":\"login\",\"userName\":\"ann\"}\n{\"type\":\"ping\"}\n")
        .unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut text = String::new();
    (&mut &stream).read_to_string(&mut text).unwrap();
    let kinds: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["type"].clone())
        .collect();
    assert_eq!(
        kinds[..3],
        [json!("open"), json!("system"), json!("pong")],
        "{text}"
    );
}
