//! Random bytes at every door: connections may end, processes may not.

use std::io::Write;
use std::net::TcpStream;

use serde_json::json;
use tests::random::Random;
use tests::raw::upgrade_request;
use tests::wait::PATIENCE;
use tests::{Client, Frame, RawWebSocket, Server, Settings, Transport};

const CONNECTIONS: usize = 400;

/// Room for every connection at once: on a busy machine those that ended are let go only after the last was made.
fn roomy() -> Settings {
    Settings::new().with("table.sessions", CONNECTIONS as u64 + 100)
}

/// Everyone who served before the garbage serves after it, and well.
fn unharmed(server: &Server, before: &[i32]) {
    let mut ann = Client::login(server, Transport::WebSocket, "ann");
    let mut bob = Client::login(server, Transport::Tcp, "bob");
    assert_eq!(ann.sendto("bob", json!("still here?")), "delivered");
    assert_eq!(bob.expect("message")["content"], "still here?");
    assert_eq!(processes(server), before, "a process was replaced");
}

fn processes(server: &Server) -> Vec<i32> {
    let mut pids = tests::processes::children(server.pid());
    pids.sort_unstable();
    pids
}

/// Sends what a connection takes of these bytes.
fn throw(mut stream: &TcpStream, bytes: &[u8]) {
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let _ = stream.write_all(bytes);
}

#[test]
fn noise_at_both_ports() {
    let server = Server::start(roomy());
    let before = processes(&server);
    let mut random = Random::of_the_day();
    for number in 0..CONNECTIONS {
        let address = if number % 2 == 0 {
            server.tcp()
        } else {
            server.websocket()
        };
        let stream = TcpStream::connect(address).unwrap();
        let len = [10, 300, 5_000, 70_000][random.below(4)];
        throw(&stream, &random.bytes(len));
    }
    unharmed(&server, &before);
}

#[test]
fn noise_behind_a_good_handshake() {
    let server = Server::start(roomy().with("diagnostics.echo", true));
    let before = processes(&server);
    let mut random = Random::of_the_day();
    for number in 0..CONNECTIONS {
        let path = ["/ws", "/echo", "/"][number % 3];
        let mut socket = RawWebSocket::connect(server.websocket(), path);
        let mut bytes = Vec::new();
        for _ in 0..1 + random.below(20) {
            let len = [0, 3, 125, 126, 2_000, 66_000][random.below(6)];
            let payload = random.bytes(len);
            let mut frame = Frame::new(random.below(16) as u8, payload);
            frame.fin = random.one_in(2);
            frame.reserved = if random.one_in(8) {
                random.below(8) as u8
            } else {
                0
            };
            frame.mask = if random.one_in(10) {
                None
            } else {
                Some([7, 0, 255, 1])
            };
            bytes.extend(frame.bytes());
        }
        if random.one_in(3) {
            let at = random.below(bytes.len());
            bytes[at] ^= 1 << random.below(8);
            bytes.truncate(1 + random.below(bytes.len()));
        }
        throw(socket.stream(), &bytes);
    }
    unharmed(&server, &before);
}

#[test]
fn messages_that_are_almost_right() {
    let server = Server::start(roomy());
    let before = processes(&server);
    let mut random = Random::of_the_day();
    let good = [
        r#"{"type":"login","userName":"ann","deviceId":"d","deviceModel":"m"}"#,
        r#"{"type":"sendto","to":"bob","content":{"a":[1,2.5e3,"\u00e9\ud83e\udd80"]},"id":"x"}"#,
        r#"{"type":"join","group":"cats"}"#,
        r#"{"type":"sendgroup","to":"cats","content":"hello","quiet":true}"#,
        r#"{"type":"who","users":["ann","bob"]}"#,
        r#"{"cmd":"chat","send":"a","recv":"b","content":null}"#,
        r#"{"type":"leave","group":"cats"}"#,
    ];
    for number in 0..CONNECTIONS / 2 {
        let tcp = number % 2 == 0;
        let mut bytes = Vec::new();
        for _ in 0..30 {
            let mut text = good[random.below(good.len())].as_bytes().to_vec();
            for _ in 0..random.below(4) {
                if text.is_empty() {
                    break;
                }
                let at = random.below(text.len());
                match random.below(4) {
                    0 => text[at] = b" {}[]\",:\\0e-"[random.below(12)],
                    1 => drop(text.remove(at)),
                    2 => text.insert(at, b"{}[]\",:\\u9\x00\x7f"[random.below(12)]),
                    _ => text.truncate(at.max(1)),
                }
            }
            if tcp {
                bytes.extend(text);
                bytes.push(b'\n');
            } else {
                bytes.extend(Frame::new(1, text).bytes());
            }
        }
        if tcp {
            throw(&TcpStream::connect(server.tcp()).unwrap(), &bytes);
        } else {
            throw(
                RawWebSocket::connect(server.websocket(), "/ws").stream(),
                &bytes,
            );
        }
    }
    unharmed(&server, &before);
}

#[test]
fn requests_that_are_almost_right() {
    let server = Server::start(roomy());
    let before = processes(&server);
    let mut random = Random::of_the_day();
    let good = upgrade_request(
        server.websocket(),
        "/ws",
        "Origin: http://x\r\nSec-WebSocket-Protocol: steadfast.v1\r\n",
    );
    for _ in 0..CONNECTIONS {
        let mut bytes = good.clone().into_bytes();
        for _ in 0..1 + random.below(5) {
            let at = random.below(bytes.len());
            match random.below(3) {
                0 => bytes[at] = random.bits() as u8,
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, b"\r\n :,\0\t/"[random.below(8)]),
            }
        }
        throw(&TcpStream::connect(server.websocket()).unwrap(), &bytes);
    }
    unharmed(&server, &before);
}
