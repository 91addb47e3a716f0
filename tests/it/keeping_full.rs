//! What is under way when a worker dies, in either direction, arrives whole: once, in order, and not one byte changed.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use nix::sys::socket::{MsgFlags, send};
use serde_json::{Value, json};
use tests::wait::{PATIENCE, eventually};
use tests::{Bells, Client, RawWebSocket, Server, Settings, Transport, posts};

use crate::both;

fn roomy() -> Settings {
    Settings::new()
        .with("table.arena_mib", 128)
        .with("limits.outbox_bytes", 32 << 20)
}

#[test]
fn a_reader_whose_socket_is_full_gets_everything_once_it_reads() {
    const LETTERS: u64 = 800;
    both(&roomy(), |server, transport| {
        let mut readers: Vec<Client> = (0..4)
            .map(|number| Client::login(server, transport, &format!("reader{number}")))
            .collect();
        let mut ann = Client::login(server, Transport::Tcp, "ann");
        let content = "z".repeat(10_000);
        for number in 0..LETTERS {
            for reader in 0..readers.len() {
                let to = format!("reader{reader}");
                ann.send(json!({"type": "sendto", "to": to, "content": [number, content], "quiet": true}));
            }
            if number % (LETTERS / 4) == LETTERS / 8 {
                ann.expect_nothing();
                posts::kill_each(server, "worker");
            }
        }
        ann.expect_nothing();
        posts::kill_each(server, "worker");
        for number in 0..LETTERS {
            for reader in &mut readers {
                let message = reader.expect("message");
                assert_eq!(message["content"], json!([number, content]));
            }
            if number == LETTERS / 2 {
                posts::kill_each(server, "worker");
            }
        }
        readers.iter_mut().for_each(Client::expect_nothing);
    });
}

#[test]
fn a_client_that_reads_no_answers_gets_every_one() {
    const REQUESTS: usize = 3_000;
    both(&roomy(), |server, transport| {
        let names: Vec<String> = (0..200).map(|number| format!("nobody {number}")).collect();
        let request = json!({"type": "who", "users": names}).to_string();
        let mut ann = Client::login(server, transport, "ann");
        let mut bells = Bells::hang(server);
        for number in 0..REQUESTS {
            ann.send(&request);
            if number % 1_000 == 500 {
                bells.ring();
                posts::kill_each(server, "worker");
            }
        }
        ann.send(json!({"type": "ping"}));
        let mut answers = 0;
        loop {
            let answer = ann.json();
            if answer["type"] == "pong" {
                break;
            }
            assert_eq!(answer["users"].as_array().map(Vec::len), Some(200));
            answers += 1;
        }
        // An answer has no id; each worker may have died over one.
        assert!(
            (REQUESTS..REQUESTS + 7).contains(&answers),
            "{answers} answers"
        );
    });
}

#[test]
fn senders_who_are_slowed_go_on() {
    const SENDERS: usize = 6;
    const LETTERS: u64 = 600;
    /// What all have on the way at one time is more than half of bob's outbox, which slows them, and less than all of it: were
    /// it more, a reader whom the machine gives no time would rightly be called slow.
    const AT_ONCE: u64 = 13;
    let settings = roomy().with("limits.outbox_bytes", 200_000);
    let server = Server::start(settings);
    let mut bob = Client::login(&server, Transport::Tcp, "bob");
    let heard: [AtomicU64; SENDERS] = Default::default();
    std::thread::scope(|scope| {
        for (sender, heard) in heard.iter().enumerate() {
            let mut client = Client::login(
                &server,
                tests::client::BOTH[sender % 2],
                &format!("s{sender}"),
            );
            scope.spawn(move || {
                let content = "z".repeat(2_000);
                for number in 0..LETTERS {
                    if number % AT_ONCE == 0 {
                        eventually("bob hears what was sent", || {
                            (heard.load(SeqCst) == number).then_some(())
                        });
                    }
                    client.send(json!({"type": "sendto", "to": "bob", "content": [number, content], "quiet": true}));
                }
                client.expect_nothing();
            });
        }
        let (server, bob, heard) = (&server, &mut bob, &heard);
        scope.spawn(move || {
            let mut last = vec![Value::Null; SENDERS];
            while heard.iter().any(|heard| heard.load(SeqCst) < LETTERS) {
                let message = bob.expect("message");
                let sender: usize = message["from"].as_str().unwrap()[1..].parse().unwrap();
                let number = message["content"][0].as_u64().unwrap();
                let next = heard[sender].load(SeqCst);
                if number + 1 == next && message["id"] == last[sender] {
                    continue;
                }
                assert_eq!(number, next, "from s{sender}");
                last[sender] = message["id"].clone();
                heard[sender].store(next + 1, SeqCst);
            }
        });
        for _ in 0..3 {
            posts::kill_each(server, "worker");
        }
    });
    bob.expect_nothing();
}

/// TCP's urgent data is part of the stream, and is counted as such.
#[test]
fn urgent_bytes_are_bytes_like_others() {
    let urgently = |stream: &TcpStream, bytes: &[u8]| {
        let sent = send(stream.as_raw_fd(), bytes, MsgFlags::MSG_OOB).unwrap();
        assert_eq!(sent, bytes.len());
    };
    let server = Server::standard();
    let mut bells = Bells::hang(&server);
    let mut ann = Client::login(&server, Transport::Tcp, "ann");
    let mut socket = RawWebSocket::login(server.websocket(), "bob");
    let frame = tests::Frame::text(json!({"type": "ping"})).bytes();
    for _ in 0..3 {
        urgently(ann.stream(), b"{\"type\":\"pi");
        urgently(socket.stream(), &frame[..1]);
        bells.ring();
        ann.stream().write_all(b"n").unwrap();
        socket.send_bytes(&frame[1..9]);
        posts::kill_each(&server, "worker");
        urgently(ann.stream(), b"g\"}\n");
        urgently(socket.stream(), &frame[9..]);
        ann.expect("pong");
        assert_eq!(socket.json()["type"], "pong");
    }
    posts::audit(&server).unwrap();
}

/// The bytes themselves: what a blocked reader gets is what the lines before and behind it promise.
#[test]
fn not_one_byte_is_lost_or_repeated_in_a_full_socket() {
    let server = Server::start(roomy());
    let mut bob = Client::login(&server, Transport::Tcp, "bob");
    let mut ann = Client::login(&server, Transport::WebSocket, "ann");
    for number in 0..600 {
        let content = format!("{number:06}").repeat(2_000);
        ann.send(json!({"type": "sendto", "to": "bob", "content": content, "quiet": true}));
    }
    ann.expect_nothing();
    bob.stream()
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    let mut stream = bob.stream();
    let (mut heard, mut bytes) = (Vec::new(), vec![0; 100_000]);
    // A little is read, so that the socket takes some more, and the worker dies; over and over.
    for _ in 0..8 {
        let count = stream.read(&mut bytes).unwrap();
        heard.extend_from_slice(&bytes[..count]);
        posts::kill_each(&server, "worker");
    }
    let end = std::time::Instant::now() + PATIENCE;
    while heard.iter().filter(|byte| **byte == b'\n').count() < 600 {
        match stream.read(&mut bytes) {
            Ok(count) => heard.extend_from_slice(&bytes[..count]),
            Err(error)
                if error.kind() == ErrorKind::WouldBlock && std::time::Instant::now() < end => {}
            other => panic!("{other:?} after {} bytes", heard.len()),
        }
    }
    let lines: Vec<&[u8]> = heard.split(|byte| *byte == b'\n').collect();
    assert_eq!((lines.len(), lines[600]), (601, &b""[..]));
    for (number, line) in lines[..600].iter().enumerate() {
        let message: Value = serde_json::from_slice(line).unwrap();
        assert_eq!(message["content"], format!("{number:06}").repeat(2_000));
    }
    bob.stream().set_read_timeout(Some(PATIENCE)).unwrap();
    bob.expect_nothing();
}
