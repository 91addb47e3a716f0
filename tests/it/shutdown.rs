//! The end: announced, flushed, closed with 1001, status 0, and nothing left.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;
use tests::{Client, Frame, RawWebSocket, Server, Settings, Transport, http};

use crate::both;

#[test]
fn everyone_is_told_gets_what_is_queued_and_is_closed_with_1001() {
    both(&Settings::new(), |server, transport| {
        let bob = Client::login(server, transport, "bob");
        let stranger = Client::open(server, transport);
        let mut ann = Client::login(server, transport, "ann");
        for count in 0..200 {
            ann.send(json!({"type": "sendto", "to": "bob", "content": count, "quiet": true}));
        }
        ann.expect_nothing();
        server.signal(Signal::SIGTERM);
        let ending = bob.expect_ending(1001);
        let messages: Vec<_> = ending
            .unread
            .iter()
            .filter(|message| message["type"] == "message")
            .map(|message| &message["content"])
            .collect();
        assert!(
            messages
                .iter()
                .zip(0..)
                .all(|(content, count)| **content == count)
                && messages.len() == 200,
            "{messages:?}"
        );
        let notices = ending
            .unread
            .iter()
            .filter(|message| message["type"] == "system")
            .count();
        assert_eq!(notices, 1, "announced once: {:?}", ending.unread);
        stranger.expect_ending(1001);
        ann.expect_ending(1001);
    });
}

/// Starts the shutdown itself, so that the server's own check at the end of the test does not signal a second time.
fn begin(server: &Server, signal: Signal) {
    server.signal(signal);
}

#[test]
fn int_in_the_foreground_is_the_same() {
    let mut server = Server::standard();
    let ann = Client::login(&server, Transport::WebSocket, "ann");
    begin(&server, Signal::SIGINT);
    ann.expect_ending(1001);
    assert!(server.ended().success());
    server.assert_nothing_left();
}

#[test]
fn a_client_that_does_not_answer_holds_it_up_for_the_drain_time_and_no_longer() {
    let mut server = Server::start(Settings::new().with("limits.drain_timeout_ms", 2_000));
    let mut deaf = RawWebSocket::login(server.websocket(), "deaf");
    let start = Instant::now();
    begin(&server, Signal::SIGTERM);
    let close = loop {
        let frame = deaf.frame().unwrap();
        if frame.opcode == 8 {
            break frame;
        }
    };
    assert_eq!(close.close_code(), Some(1001));
    // Meanwhile no new sessions: 503, or nobody listens any more.
    if let Ok(answer) = http::try_get(server.websocket(), "/healthz") {
        assert_eq!(answer.status, 503);
    }
    assert!(server.ended().success());
    let taken = start.elapsed();
    assert!(
        taken > Duration::from_millis(1_500) && taken < Duration::from_secs(10),
        "{taken:?}"
    );
    server.assert_nothing_left();
}

#[test]
fn a_second_signal_stops_at_once() {
    let mut server = Server::start(Settings::new().with("limits.drain_timeout_ms", 600_000));
    let mut deaf = RawWebSocket::login(server.websocket(), "deaf");
    begin(&server, Signal::SIGTERM);
    while deaf.frame().unwrap().opcode != 8 {}
    begin(&server, Signal::SIGTERM);
    server.ended();
    server.assert_nothing_left();
}

#[test]
fn half_done_things_do_not_hold_it_up() {
    let settings = Settings::new().with("limits.drain_timeout_ms", 2_000);
    let mut server = Server::start(settings);
    let silent = std::net::TcpStream::connect(server.websocket()).unwrap();
    let line = std::net::TcpStream::connect(server.tcp()).unwrap();
    let mut half = RawWebSocket::login(server.websocket(), "half");
    half.send(&Frame::new(1, "{\"type\":").more());
    begin(&server, Signal::SIGTERM);
    assert!(server.ended().success());
    server.assert_nothing_left();
    drop((silent, line, half));
}

#[test]
fn stop_returns_when_the_server_is_gone() {
    let mut server = Server::standard();
    let ann = Client::login(&server, Transport::Tcp, "ann");
    let pid = server.pid();
    let waiting = std::thread::spawn(move || ann.expect_ending(1001));
    let output = server.house().run(&["stop"]);
    assert!(output.status.success(), "{output:?}");
    waiting.join().unwrap();
    assert!(server.ended().success());
    assert!(!tests::processes::alive(pid));
    server.assert_nothing_left();
    let again = server.house().run(&["stop"]);
    assert!(
        !again.status.success(),
        "there is nothing to stop: {again:?}"
    );
}
