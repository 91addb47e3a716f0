//! The messages of one sender session to one recipient session arrive in the order they were sent.

use serde_json::json;
use tests::{Client, Server, Transport};

/// Enough to pass through many turns of the workers.
const MESSAGES: u64 = 3_000;

#[test]
fn order_is_kept_between_every_two_sessions() {
    let server = Server::standard();
    let transports = [Transport::WebSocket, Transport::Tcp];
    // Several of each, so that pairs within a worker and across workers occur.
    let mut recipients: Vec<Client> = (0..6)
        .map(|number| Client::login(&server, transports[number % 2], "bob"))
        .collect();
    recipients
        .iter_mut()
        .for_each(|recipient| recipient.join("all"));
    std::thread::scope(|scope| {
        for number in 0..4 {
            let mut sender = Client::login(&server, transports[number % 2], &format!("s{number}"));
            sender.join("all");
            scope.spawn(move || {
                for count in 0..MESSAGES {
                    let kind = if count % 3 == 0 {
                        "sendgroup"
                    } else {
                        "sendto"
                    };
                    let to = if count % 3 == 0 { "all" } else { "bob" };
                    sender.send(json!({"type": kind, "to": to, "content": count, "quiet": true}));
                    // Not so fast that a recipient counts as slow; what comes here is the others' group messages.
                    if count % 100 == 99 {
                        sender.send(json!({"type": "ping"}));
                        while sender.json()["type"] != "pong" {}
                    }
                }
                sender.send(json!({"type": "ping"}));
                while sender.json()["type"] != "pong" {}
            });
        }
        for mut recipient in recipients {
            scope.spawn(move || {
                let mut next = [0; 4];
                while next.iter().any(|next| *next < MESSAGES) {
                    let message = recipient.expect("message");
                    let sender: usize = message["from"].as_str().unwrap()[1..].parse().unwrap();
                    assert_eq!(message["content"], next[sender], "from s{sender}");
                    next[sender] += 1;
                }
                recipient.expect_nothing();
            });
        }
    });
}
