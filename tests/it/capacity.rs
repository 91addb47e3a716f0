//! Sections of the table at their limit: an error that names the message, and nothing accepted is lost.

use serde_json::json;
use tests::wait::eventually;
use tests::{Client, Server, Settings, Transport};

use crate::both;

fn refused(client: &mut Client, request: serde_json::Value) {
    client.send(&request);
    let error = client.expect("error");
    assert!(
        error["code"] == "capacity" || error["code"] == "overloaded",
        "{error}"
    );
    assert_eq!(error["id"], request["id"], "{error}");
}

#[test]
fn groups_at_their_limit() {
    both(
        &Settings::new().with("table.groups", 3),
        |server, transport| {
            let mut ann = Client::login(server, transport, "ann");
            let mut bob = Client::login(server, transport, "bob");
            ["g1", "g2", "g3"].iter().for_each(|group| ann.join(group));
            refused(&mut bob, json!({"type": "join", "group": "g4", "id": "j"}));
            bob.join("g1");
            ann.send(json!({"type": "sendgroup", "to": "g1", "content": 1, "quiet": true}));
            bob.expect("message");
            ann.send(json!({"type": "leave", "group": "g3"}));
            ann.send(json!({"type": "sendgroup", "to": "g3", "content": 0, "id": 1}));
            while ann.json()["code"] != "unknown_group" {}
            bob.join("g4");
        },
    );
}

#[test]
fn memberships_at_their_limit() {
    both(
        &Settings::new().with("table.memberships", 4),
        |server, transport| {
            let mut clients: Vec<Client> = (0..5)
                .map(|number| Client::login(server, transport, &format!("u{number}")))
                .collect();
            clients[..4]
                .iter_mut()
                .for_each(|client| client.join("all"));
            refused(
                &mut clients[4],
                json!({"type": "join", "group": "all", "id": "m"}),
            );
            refused(
                &mut clients[4],
                json!({"type": "join", "group": "other", "id": "n"}),
            );
            clients[0].send(json!({"type": "who", "group": "all"}));
            assert_eq!(
                clients[0].expect("presence")["users"]
                    .as_array()
                    .map(Vec::len),
                Some(4)
            );
            clients.remove(1).logout();
            clients[3].join("all");
        },
    );
}

#[test]
fn groups_of_one_session_at_their_limit() {
    both(
        &Settings::new().with("limits.groups_per_session", 2),
        |server, transport| {
            let mut ann = Client::login(server, transport, "ann");
            let mut bob = Client::login(server, transport, "bob");
            ann.join("g1");
            ann.join("g2");
            refused(&mut ann, json!({"type": "join", "group": "g3", "id": "p"}));
            bob.join("g3");
            ann.send(json!({"type": "leave", "group": "g1"}));
            ann.join("g3");
        },
    );
}

#[test]
fn a_reader_who_would_fill_the_arena_is_let_go_and_nobody_is_refused() {
    let settings = Settings::new()
        .with("table.arena_mib", 1)
        .with("limits.message_bytes", 32_768)
        .with("limits.outbox_bytes", 64 << 20)
        .with("limits.drain_timeout_ms", 20_000);
    both(&settings, |server, transport| {
        let bob = Client::login(server, transport, "bob");
        let mut ann = Client::login(server, Transport::WebSocket, "ann");
        let mut carl = Client::login(server, transport, "carl");
        let content = "z".repeat(16_000);
        let is_let_go = (0..20_000).any(|number| {
            let mut say = |to| {
                let message =
                    json!({"type": "sendto", "to": to, "content": [number, content], "id": number});
                ann.send(message);
                let answer = ann.json();
                assert_eq!(answer["id"], number, "{answer}");
                assert_eq!(answer["type"], "ack", "{answer}");
                answer["status"] == "delivered"
            };
            // Bob does not read, carl does.
            assert!(say("carl"));
            assert_eq!(carl.expect("message")["content"][0], number);
            !say("bob")
        });
        assert!(is_let_go, "the arena never filled");
        let ending = bob.expect_ending(4008);
        println!("{} messages before that", ending.unread.len());
    });
}

#[test]
fn memory_of_large_unfinished_messages_is_bounded_by_the_arena() {
    use tests::frames::TEXT;
    use tests::{Frame, RawWebSocket};
    let settings = Settings::new()
        .with("table.arena_mib", 1)
        .with("limits.message_bytes", 100_000);
    let server = Server::start(settings);
    let mut bystander = Client::login(&server, Transport::Tcp, "bystander");
    // Forty times 90 KB of messages that never end: more than the arena has.
    let mut sockets: Vec<RawWebSocket> = (0..40)
        .map(|_| RawWebSocket::open(server.websocket()))
        .collect();
    for socket in &mut sockets {
        socket.send(&Frame::new(TEXT, vec![b' '; 90_000]).more());
    }
    bystander.expect_nothing();
    drop(sockets);
    eventually("the arena is free again", || {
        let mut ann = RawWebSocket::login(server.websocket(), "ann");
        ann.send(&Frame::text(
            json!({"type": "sendto", "to": "bystander", "content": "x".repeat(50_000), "id": 1}),
        ));
        (ann.json()["status"] == "delivered").then_some(())
    });
    assert_eq!(
        bystander.expect("message")["content"]
            .as_str()
            .map(str::len),
        Some(50_000)
    );
}
