//! `sendto`: whom a private message reaches, and what its sender learns.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;
use tests::{Client, Server, Settings, Transport};

use crate::both;

#[test]
fn it_reaches_every_device_and_the_senders_other_sessions_once() {
    let server = Server::standard();
    let mut ann = Client::device(&server, Transport::WebSocket, "ann", "a1", "phone");
    let mut others = vec![
        Client::device(&server, Transport::Tcp, "ann", "a2", "desk"),
        Client::device(&server, Transport::WebSocket, "ann", "a3", "tablet"),
        Client::device(&server, Transport::WebSocket, "bob", "b1", "phone"),
        Client::device(&server, Transport::Tcp, "bob", "b2", "desk"),
        Client::device(&server, Transport::Tcp, "bob", "b2", "desk, again"),
    ];
    let mut eve = Client::login(&server, Transport::WebSocket, "eve");
    let before = UNIX_EPOCH.elapsed().unwrap().as_millis() as u64;
    ann.send(json!({"type": "sendto", "to": "bob", "content": {"text": "hi"}, "id": 7}));
    let ack = ann.expect("ack");
    assert_eq!(
        (&ack["id"], &ack["status"]),
        (&json!(7), &json!("delivered"))
    );
    for other in &mut others {
        let message = other.expect("message");
        assert_eq!(message["id"], ack["messageId"]);
        assert_eq!(
            (&message["from"], &message["to"]),
            (&json!("ann"), &json!("bob"))
        );
        assert_eq!(message["content"], json!({"text": "hi"}));
        assert_eq!(message.get("group"), None);
        let time = message["time"].as_u64().unwrap();
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_millis() as u64;
        assert!(
            (before - 1000..=now + 1000).contains(&time),
            "{time} is not between {before} and {now}"
        );
        other.expect_nothing();
    }
    ann.expect_nothing();
    eve.expect_nothing();
}

#[test]
fn an_ack_says_whether_somebody_was_there() {
    both(&Settings::new(), |server, transport| {
        let mut ann = Client::login(server, transport, "ann");
        assert_eq!(ann.sendto("bob", json!(1)), "offline");
        let mut bob = Client::login(server, transport, "bob");
        assert_eq!(ann.sendto("bob", json!(2)), "delivered");
        assert_eq!(bob.expect("message")["content"], 2);
        drop(bob);
        // The server learns of the end when it reads it; until then the message is delivered to a session nobody reads.
        tests::wait::eventually("bob is offline", || {
            (ann.sendto("bob", json!(3)) == "offline").then_some(())
        });
    });
}

#[test]
fn message_ids_are_all_different() {
    both(&Settings::new(), |server, transport| {
        let mut ann = Client::login(server, transport, "ann");
        let mut more = Client::login(server, transport, "ann");
        let mut ids = std::collections::HashSet::new();
        for _ in 0..20 {
            for client in [&mut ann, &mut more] {
                client.send(json!({"type": "sendto", "to": "nobody", "content": 0}));
            }
            for _ in 0..2 {
                ids.insert(ann.expect("message")["id"].as_str().unwrap().to_owned());
                more.expect("message");
            }
        }
        assert_eq!(ids.len(), 40);
    });
}

#[test]
fn message_ids_are_not_used_again_after_a_restart() {
    let mut server = Server::standard();
    let mut ids = std::collections::HashSet::new();
    for round in 0..3 {
        for transport in tests::client::BOTH {
            let mut ann = Client::login(&server, transport, "ann");
            ann.send(json!({"type": "sendto", "to": "bob", "content": 1, "id": 1}));
            let id = ann.expect("ack")["messageId"].as_str().unwrap().to_owned();
            assert!(ids.insert(id.clone()), "{id} was used before");
        }
        if round == 0 {
            server.stop();
        } else {
            server.kill();
        }
        server.start_again();
    }
}

#[test]
fn without_an_id_the_sender_gets_the_message_back() {
    both(&Settings::new(), |server, transport| {
        let mut ann = Client::login(server, transport, "ann");
        let mut bob = Client::login(server, transport, "bob");
        ann.send(json!({"type": "sendto", "to": "bob", "content": "hi"}));
        let message = bob.expect("message");
        assert_eq!(ann.expect("message"), message);
        ann.expect_nothing();
        bob.expect_nothing();
        // To nobody as well: a chat window shows what was written.
        ann.send(json!({"type": "sendto", "to": "carl", "content": "anyone?"}));
        assert_eq!(ann.expect("message")["content"], "anyone?");
        ann.expect_nothing();
    });
}

#[test]
fn quiet_means_neither_unless_it_failed() {
    both(&Settings::new(), |server, transport| {
        let mut ann = Client::login(server, transport, "ann");
        let mut bob = Client::login(server, transport, "bob");
        ann.send(json!({"type": "sendto", "to": "bob", "content": 1, "quiet": true, "id": "q"}));
        ann.send(json!({"type": "sendto", "to": "bob", "content": 2, "quiet": true}));
        ann.expect_nothing();
        assert_eq!(bob.expect("message")["content"], 1);
        assert_eq!(bob.expect("message")["content"], 2);
        ann.send(json!({"type": "sendto", "to": "nobody", "content": 3, "quiet": true, "id": "q"}));
        assert_eq!(ann.expect("ack")["status"], "offline");
        ann.send(json!({"type": "sendto", "to": "", "content": 3, "quiet": true, "id": "q"}));
        assert_eq!(ann.expect_error("bad_request")["id"], "q");
        ann.send(json!({"type": "sendto", "to": "bob", "content": 4, "quiet": false, "id": "q"}));
        ann.expect("ack");
        ann.send(json!({"type": "sendto", "to": "bob", "content": 5, "quiet": "yes", "id": "q"}));
        assert_eq!(ann.expect_error("bad_request")["id"], "q");
    });
}

#[test]
fn the_sender_is_who_is_logged_in() {
    both(&Settings::new(), |server, transport| {
        let mut ann = Client::login(server, transport, "ann");
        let mut bob = Client::login(server, transport, "bob");
        ann.send(json!({"type": "sendto", "from": "the king", "to": "bob", "content": 1, "userName": "king", "name": "king"}));
        assert_eq!(bob.expect("message")["from"], "ann");
        ann.send(r#"{"type":"sendto","from":5,"to":"bob","content":1}"#);
        assert_eq!(bob.expect("message")["from"], "ann");
    });
}

#[test]
fn to_oneself_is_to_each_of_ones_sessions_once() {
    both(&Settings::new(), |server, transport| {
        let mut here = Client::login(server, transport, "ann");
        let mut there = Client::login(server, transport, "ann");
        for message in [
            json!({"type": "sendto", "to": "ann", "content": "note", "quiet": true}),
            json!({"type": "sendto", "to": "ann", "content": "note"}),
        ] {
            here.send(message);
            for session in [&mut here, &mut there] {
                assert_eq!(session.expect("message")["content"], "note");
                session.expect_nothing();
            }
        }
    });
}

#[test]
fn names_are_told_apart_byte_by_byte() {
    // By default a name that only seems to be another's is none.
    let settings = Settings::new().with("limits.names", "any");
    both(&settings, |server, transport| {
        let mut ann = Client::login(server, transport, "ann");
        let mut capital = Client::login(server, transport, "Ann");
        let mut spaced = Client::login(server, transport, "ann ");
        let mut bob = Client::login(server, transport, "bob");
        // The same name, one letter of it escaped.
        bob.send(r#"{"type":"sendto","to":"\u0061nn","content":1,"quiet":true}"#);
        assert_eq!(ann.expect("message")["to"], "ann");
        bob.expect_nothing();
        capital.expect_nothing();
        spaced.expect_nothing();
    });
}
