//! A flood from one session: refused by name, then ended; others are not slowed.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;
use tests::{Client, Settings};

use crate::both;

#[test]
fn first_rate_limited_then_4029() {
    let settings = Settings::new()
        .with("limits.messages_per_second", 5)
        .with("limits.message_burst", 10)
        .with("limits.rate_limit_strikes", 8);
    both(&settings, |server, transport| {
        let mut bob = Client::login(server, transport, "bob");
        let mut ann = Client::login(server, transport, "ann");
        for number in 0..40 {
            let request = json!({"type": "sendto", "to": "bob", "content": number, "id": number});
            if ann.try_send(&request.to_string()).is_err() {
                break;
            }
        }
        let ending = ann.expect_ending(4029);
        let acks = ending
            .unread
            .iter()
            .filter(|message| message["type"] == "ack")
            .count();
        let refused: Vec<_> = ending
            .unread
            .iter()
            .filter(|message| message["code"] == "rate_limited")
            .collect();
        assert!((5..=14).contains(&acks), "{acks} passed a burst of 10");
        assert!(refused.len() >= 5, "{:?}", ending.unread);
        // Each refusal names its message; the last word is about the session.
        assert!(
            refused[..5].iter().all(|error| error["id"].is_number()),
            "{refused:?}"
        );
        for _ in 0..acks {
            bob.expect("message");
        }
        bob.expect_nothing();
    });
}

#[test]
fn within_the_limit_nobody_is_refused() {
    let settings = Settings::new()
        .with("limits.messages_per_second", 20)
        .with("limits.message_burst", 20);
    both(&settings, |server, transport| {
        let mut ann = Client::login(server, transport, "ann");
        for _ in 0..15 {
            ann.send(json!({"type": "ping"}));
        }
        for _ in 0..15 {
            ann.expect("pong");
        }
    });
}

#[test]
fn whoever_is_gone_in_the_midst_of_a_flood_leaves_nothing_behind() {
    let settings = Settings::new().with("server.workers", 1);
    let server = tests::Server::start(settings);
    for _ in 0..3 {
        let mut sessions: Vec<TcpStream> = (0..8)
            .map(|_| {
                let mut stream = TcpStream::connect(server.tcp()).unwrap();
                stream
                    .write_all(b"{\"type\":\"login\",\"userName\":\"ann\"}\n")
                    .unwrap();
                stream.set_nonblocking(true).unwrap();
                stream
            })
            .collect();
        // Each message goes to the seven others, so that all are read only now and then, with much behind what was handled.
        let requests =
            b"{\"type\":\"sendto\",\"to\":\"ann\",\"content\":\"to all\"}\n".repeat(1_500);
        let mut answers = [0; 65_536];
        let until = Instant::now() + Duration::from_millis(500);
        let mut at = vec![0; sessions.len()];
        while Instant::now() < until {
            for (session, at) in sessions.iter_mut().zip(&mut at) {
                let written = session.write(&requests[*at..]).unwrap_or_default();
                *at = (*at + written) % requests.len();
                let _ = session.read(&mut answers);
            }
        }
        drop(sessions);
        tests::posts::audit(&server).unwrap();
    }
}
