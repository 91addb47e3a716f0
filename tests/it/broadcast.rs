//! `broadcast`: a system message to everyone, from those who may.

use serde_json::{Value, json};
use tests::{Client, Settings, Transport};

use crate::both;

#[test]
fn an_administrator_reaches_everyone() {
    let settings = Settings::new().with("auth.admins", json!(["root", "op"]));
    both(&settings, |server, transport| {
        let mut everyone = vec![
            Client::login(server, Transport::WebSocket, "ann"),
            Client::login(server, Transport::Tcp, "ann"),
            Client::login(server, Transport::Tcp, "bob"),
        ];
        let mut stranger = Client::open(server, transport);
        let mut op = Client::login(server, transport, "op");
        op.send(r#"{"type":"broadcast","content":{"text" : "soon"},"id":"b"}"#);
        for client in &mut everyone {
            let text = client.text();
            assert!(text.contains(r#""content":{"text" : "soon"}"#), "{text}");
            let message: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(
                (&message["type"], &message["event"]),
                (&json!("system"), &json!("broadcast"))
            );
            assert_eq!(message["from"], "op", "{message}");
            assert!(
                message["id"].is_string() && message["time"].is_u64(),
                "{message}"
            );
            client.expect_nothing();
        }
        stranger.send(json!({"type": "login", "userName": "late"}));
        assert_eq!(
            stranger.expect("system")["event"],
            "login",
            "a broadcast is for those who are logged in"
        );
    });
}

#[test]
fn nobody_else_may() {
    both(
        &Settings::new().with("auth.admins", json!(["op"])),
        |server, transport| {
            let mut ann = Client::login(server, transport, "ann");
            let mut bob = Client::login(server, transport, "bob");
            ann.send(json!({"type": "broadcast", "content": "ha", "id": 1}));
            assert_eq!(ann.expect_error("forbidden")["id"], 1);
            bob.expect_nothing();
        },
    );
}
