//! Groups: who is in one, and whom a message to one reaches.

use serde_json::json;
use tests::{Client, Server, Settings, Transport};

use crate::both;

#[test]
fn a_message_reaches_every_other_session_in_the_group() {
    let server = Server::standard();
    let mut ann = Client::login(&server, Transport::WebSocket, "ann");
    ann.join("cats");
    let mut members = vec![
        Client::login(&server, Transport::Tcp, "ann"),
        Client::login(&server, Transport::WebSocket, "bob"),
        Client::login(&server, Transport::Tcp, "bob"),
        Client::login(&server, Transport::Tcp, "carl"),
    ];
    members.iter_mut().for_each(|member| member.join("cats"));
    // Another session of a member is not in the group because the member's other one is.
    let mut outside = Client::login(&server, Transport::WebSocket, "carl");
    outside.join("dogs");
    ann.send(json!({"type": "sendgroup", "to": "cats", "content": "meow", "id": "g1"}));
    let ack = ann.expect("ack");
    assert_eq!(
        (&ack["id"], &ack["status"]),
        (&json!("g1"), &json!("delivered"))
    );
    for member in &mut members {
        let message = member.expect("message");
        assert_eq!(
            (&message["from"], &message["group"]),
            (&json!("ann"), &json!("cats"))
        );
        assert_eq!(
            (&message["content"], message.get("to")),
            (&json!("meow"), None)
        );
        assert_eq!(message["id"], ack["messageId"]);
        member.expect_nothing();
    }
    outside.expect_nothing();
    ann.expect_nothing();
}

#[test]
fn without_an_id_the_sender_sees_it_and_quiet_means_not() {
    both(&Settings::new(), |server, transport| {
        let mut ann = Client::login(server, transport, "ann");
        let mut bob = Client::login(server, transport, "bob");
        ann.join("cats");
        bob.join("cats");
        ann.send(json!({"type": "sendgroup", "to": "cats", "content": 1}));
        let message = bob.expect("message");
        assert_eq!(ann.expect("message"), message);
        ann.send(json!({"type": "sendgroup", "to": "cats", "content": 2, "quiet": true, "id": 5}));
        assert_eq!(bob.expect("message")["content"], 2);
        ann.expect_nothing();
    });
}

#[test]
fn only_members_may_speak_and_only_groups_that_exist_can_be_spoken_to() {
    both(&Settings::new(), |server, transport| {
        let mut ann = Client::login(server, transport, "ann");
        let mut bob = Client::login(server, transport, "bob");
        bob.join("cats");
        for (request, code) in [
            (
                json!({"type": "sendgroup", "to": "cats", "content": 1, "id": 1}),
                "not_a_member",
            ),
            (
                json!({"type": "sendgroup", "to": "dogs", "content": 1, "id": 2}),
                "unknown_group",
            ),
            (
                json!({"type": "sendgroup", "to": "cats", "content": 1, "id": 3, "quiet": true}),
                "not_a_member",
            ),
            (
                json!({"type": "leave", "group": "cats", "id": 4}),
                "not_a_member",
            ),
            (
                json!({"type": "leave", "group": "dogs", "id": 5}),
                "unknown_group",
            ),
            (
                json!({"type": "who", "group": "dogs", "id": 6}),
                "unknown_group",
            ),
        ] {
            ann.send(&request);
            assert_eq!(ann.expect_error(code)["id"], request["id"], "{request}");
        }
        bob.expect_nothing();
    });
}

#[test]
fn who_leaves_hears_no_more_and_the_last_one_closes_the_group() {
    both(&Settings::new(), |server, transport| {
        let mut ann = Client::login(server, transport, "ann");
        let mut bob = Client::login(server, transport, "bob");
        ann.join("cats");
        bob.join("cats");
        bob.send(json!({"type": "leave", "group": "cats"}));
        bob.send(json!({"type": "sendgroup", "to": "cats", "content": 0, "id": 1}));
        while bob.json()["code"] != "not_a_member" {}
        ann.send(json!({"type": "sendgroup", "to": "cats", "content": 1, "id": 2}));
        assert_eq!(ann.expect("ack")["status"], "offline");
        bob.expect_nothing();
        ann.send(json!({"type": "leave", "group": "cats"}));
        ann.send(json!({"type": "sendgroup", "to": "cats", "content": 0, "id": 3}));
        while ann.json()["code"] != "unknown_group" {}
    });
}

#[test]
fn joining_twice_is_being_in_it_once() {
    both(&Settings::new(), |server, transport| {
        let mut ann = Client::login(server, transport, "ann");
        let mut bob = Client::login(server, transport, "bob");
        ann.join("cats");
        bob.join("cats");
        bob.join("cats");
        ann.send(json!({"type": "sendgroup", "to": "cats", "content": 1, "quiet": true}));
        bob.expect("message");
        bob.expect_nothing();
        bob.send(json!({"type": "leave", "group": "cats"}));
        bob.send(json!({"type": "leave", "group": "cats", "id": "again"}));
        while bob.json()["id"] != "again" {}
    });
}

#[test]
fn a_connection_that_ends_leaves_its_groups() {
    both(&Settings::new(), |server, transport| {
        let mut ann = Client::login(server, transport, "ann");
        ann.join("cats");
        let mut bob = Client::login(server, transport, "bob");
        bob.join("cats");
        bob.join("dogs");
        bob.logout();
        ann.send(json!({"type": "who", "group": "cats"}));
        let users = ann.expect("presence")["users"].clone();
        assert_eq!(users.as_array().map(Vec::len), Some(1), "{users}");
        ann.send(json!({"type": "who", "group": "dogs"}));
        ann.expect_error("unknown_group");
    });
}

#[test]
fn groups_and_users_may_share_a_name() {
    both(&Settings::new(), |server, transport| {
        let mut ann = Client::login(server, transport, "ann");
        let mut cats = Client::login(server, transport, "cats");
        let mut bob = Client::login(server, transport, "bob");
        bob.join("cats");
        ann.send(json!({"type": "sendto", "to": "cats", "content": "user", "quiet": true}));
        assert_eq!(cats.expect("message")["content"], "user");
        ann.join("cats");
        ann.send(json!({"type": "sendgroup", "to": "cats", "content": "group", "quiet": true}));
        assert_eq!(bob.expect("message")["content"], "group");
        cats.expect_nothing();
    });
}

#[test]
fn joining_and_leaving_are_answered() {
    both(&Settings::new(), |server, transport| {
        let mut ann = Client::login(server, transport, "ann");
        for event in ["join", "join", "leave"] {
            ann.send(json!({"type": event, "group": "cats"}));
            let answer = ann.expect("system");
            assert_eq!(
                (&answer["event"], &answer["group"]),
                (&json!(event), &json!("cats")),
                "{answer}"
            );
        }
        ann.expect_nothing();
    });
}
