//! What a malformed message gets: an error that names it, and the connection stays.

use serde_json::{Value, json};
use tests::{Client, Settings, Transport};

use crate::both;

#[test]
fn a_malformed_message_is_answered_and_the_connection_stays() {
    both(&Settings::new(), |server, transport| {
        let mut ann = Client::login(server, transport, "ann");
        let bad_json = [
            "{",
            "}",
            "nonsense",
            r#"{"type":"ping"} x"#,
            r#"{"type":"ping",}"#,
            r#"{'type':'ping'}"#,
            "{\"a\":01}",
            "\u{feff}{}",
            "{\"a\":\"\t\"}",
            "NaN",
            "\"\\x\"",
        ];
        for text in bad_json {
            ann.send(text);
            ann.expect_error("bad_json");
        }
        let bad_request = [
            "[]",
            "5",
            "null",
            "\"ping\"",
            "{}",
            r#"{"type":5}"#,
            r#"{"type":null}"#,
            r#"{"cmd":["ping"]}"#,
            r#"[{"type":"ping"}]"#,
        ];
        for text in bad_request {
            ann.send(text);
            ann.expect_error("bad_request");
        }
        for kind in ["", "Ping", "ping ", "kick", "message", "pong", "welcome"] {
            ann.send(json!({"type": kind, "id": "u"}));
            assert_eq!(ann.expect_error("unknown_type")["id"], "u", "{kind:?}");
        }
        ann.expect_nothing();
    });
}

#[test]
fn wrong_fields_are_named() {
    both(&Settings::new(), |server, transport| {
        let mut ann = Client::login(server, transport, "ann");
        let wrong: [(Value, &str); 12] = [
            (json!({"type": "sendto", "content": 1}), "to"),
            (json!({"type": "sendto", "to": 5, "content": 1}), "to"),
            (json!({"type": "sendto", "to": "", "content": 1}), "to"),
            (
                json!({"type": "sendto", "to": "a\u{1}", "content": 1}),
                "to",
            ),
            (json!({"type": "sendto", "to": "bob"}), "content"),
            (json!({"type": "sendgroup", "content": 1}), "to"),
            (json!({"type": "sendgroup", "to": "cats"}), "content"),
            (json!({"type": "join"}), "group"),
            (json!({"type": "join", "group": "x".repeat(65)}), "group"),
            (json!({"type": "leave", "group": {}}), "group"),
            (json!({"type": "broadcast"}), "content"),
            (
                json!({"type": "sendto", "to": "bob", "content": 1, "quiet": 1}),
                "quiet",
            ),
        ];
        for (mut request, field) in wrong {
            request["id"] = json!(9);
            ann.send(&request);
            let error = ann.expect_error("bad_request");
            assert_eq!(error["id"], 9, "{request}");
            assert!(
                error["content"].as_str().unwrap().contains(field),
                "{request} got {error}"
            );
        }
        ann.expect_nothing();
    });
}

#[test]
fn deep_nesting_is_an_answer_and_not_the_end() {
    let settings = Settings::new()
        .with("limits.message_bytes", 1_500_000)
        .with("limits.outbox_bytes", 4 << 20);
    both(&settings, |server, transport| {
        let mut ann = Client::login(server, transport, "ann");
        for text in [
            "[".repeat(1_000_000),
            "[".repeat(500_000) + &"]".repeat(500_000),
            r#"{"a":"#.repeat(200_000),
        ] {
            ann.send(text);
            let error = ann.expect("error");
            assert!(
                error["code"] == "bad_json" || error["code"] == "bad_request",
                "{error}"
            );
        }
        let nested = "[".repeat(300_000) + "1" + &"]".repeat(300_000);
        ann.send(format!(r#"{{"type":"ping","ignored":{nested}}}"#));
        ann.expect("pong");
        ann.expect_nothing();
    });
}

#[test]
fn a_megabyte_of_spaces_and_numbers_beyond_all_measure() {
    let settings = Settings::new()
        .with("limits.message_bytes", 1_500_000)
        .with("limits.outbox_bytes", 4 << 20);
    both(&settings, |server, transport| {
        let mut ann = Client::login(server, transport, "ann");
        let spaces = " ".repeat(1_000_000);
        ann.send(&spaces);
        ann.expect_error("bad_json");
        ann.send(format!(r#"{{{spaces}"type":"ping"}}"#));
        ann.expect("pong");
        let digits = "9".repeat(1_000_000);
        ann.send(format!(
            r#"{{"type":"sendto","to":"bob","content":1,"id":{digits}}}"#
        ));
        ann.expect_error("bad_request");
        ann.send(format!(r#"{{"type":"ping","ignored":{digits}}}"#));
        ann.expect("pong");
    });
}

#[test]
fn an_empty_message_is_no_json_and_an_empty_line_is_somebody_pressing_enter() {
    both(&Settings::new(), |server, transport| {
        let mut ann = Client::login(server, transport, "ann");
        for empty in ["", "  ", "\t"] {
            ann.send(empty);
            if transport == Transport::WebSocket {
                ann.expect_error("bad_json");
            }
        }
        ann.send("");
        ann.send("");
        ann.send(json!({"type": "ping"}));
        ann.survives().then_some(()).unwrap();
    });
}
