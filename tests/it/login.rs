//! The first words: `open`, `login`, the welcome, and who may be called what.

use serde_json::json;
use tests::{Client, Server, Settings, Transport};

use crate::both;

#[test]
fn open_comes_first_and_says_what_a_client_needs() {
    let settings = Settings::new()
        .with("limits.login_timeout_ms", 12_345)
        .with("limits.heartbeat_timeout_ms", 54_321);
    both(&settings, |server, transport| {
        let open = Client::connect(server, transport).expect("open");
        assert!(
            open["session"]
                .as_str()
                .is_some_and(|session| !session.is_empty()),
            "{open}"
        );
        assert_eq!(open["server"], "test");
        assert_eq!(open["loginTimeoutMs"], 12_345);
        assert_eq!(open["heartbeatMs"], 54_321);
        let other = Client::connect(server, transport).expect("open");
        assert_ne!(open["session"], other["session"]);
    });
}

#[test]
fn a_login_is_welcomed_by_name() {
    both(&Settings::new(), |server, transport| {
        let mut client = Client::open(server, transport);
        client.send(json!({"type": "login", "userName": "Ann \"the\" Ünique"}));
        assert_eq!(
            client.json(),
            json!({"type": "system", "event": "login", "content": "hello, welcome Ann \"the\" Ünique"})
        );
    });
}

#[test]
fn older_clients_are_understood() {
    both(&Settings::new(), |server, transport| {
        let mut ann =
            Client::open(server, transport).logged_in(json!({"cmd": "login", "name": "ann"}));
        let mut bob =
            Client::open(server, transport).logged_in(json!({"type": "login", "name": "bob"}));
        ann.send(json!({"cmd": "chat", "send": "somebody else", "recv": "bob", "content": "hi"}));
        let message = bob.expect("message");
        assert_eq!(
            (&message["from"], &message["to"], &message["content"]),
            (&json!("ann"), &json!("bob"), &json!("hi"))
        );
        assert_eq!(
            ann.expect("message"),
            message,
            "without an id the sender sees it too"
        );
        bob.send(json!({"cmd": "ping"}));
        bob.expect("pong");
    });
}

#[test]
fn typed_by_hand_with_carriage_returns() {
    let server = Server::standard();
    let mut client = Client::open(&server, Transport::Tcp);
    client.send("{\"type\":\"login\",\"userName\":\"ann\"}\r");
    assert_eq!(client.expect("system")["content"], "hello, welcome ann");
}

#[test]
fn names_are_1_to_64_bytes_without_control_characters() {
    both(&Settings::new(), |server, transport| {
        let mut client = Client::open(server, transport);
        let long = "x".repeat(65);
        let wide = "ü".repeat(32) + "x";
        for bad in ["", "a\u{0}b", "a\nb", "\u{7f}", "\u{85}", &long, &wide] {
            client.send(json!({"type": "login", "userName": bad, "id": 1}));
            assert_eq!(client.expect_error("bad_request")["id"], 1, "{bad:?}");
            client.send(json!({"type": "login", "userName": "ann", "deviceId": bad}));
            client.expect_error("bad_request");
        }
        for wrong in [
            json!({}),
            json!({"userName": 5}),
            json!({"userName": ["ann"]}),
            json!({"userName": null}),
        ] {
            let mut login = wrong;
            login["type"] = "login".into();
            client.send(login);
            client.expect_error("bad_request");
        }
        let name = "ü".repeat(32);
        client.send(json!({"type": "login", "userName": name, "deviceId": "d".repeat(64), "deviceModel": "m".repeat(64)}));
        assert_eq!(
            client.expect("system")["content"],
            format!("hello, welcome {name}")
        );
    });
}

#[test]
fn nothing_but_login_before_login_and_only_once() {
    both(&Settings::new(), |server, transport| {
        let mut client = Client::open(server, transport);
        let requests = [
            json!({"type": "sendto", "to": "ann", "content": 1, "id": "n"}),
            json!({"type": "sendgroup", "to": "all", "content": 1, "id": "n"}),
            json!({"type": "join", "group": "all", "id": "n"}),
            json!({"type": "leave", "group": "all", "id": "n"}),
            json!({"type": "broadcast", "content": 1, "id": "n"}),
            json!({"type": "who", "users": ["ann"], "id": "n"}),
        ];
        for request in requests {
            client.send(&request);
            assert_eq!(client.expect_error("not_logged_in")["id"], "n", "{request}");
        }
        let mut client = client.logged_in(json!({"type": "login", "userName": "ann"}));
        client.send(json!({"type": "login", "userName": "bob"}));
        client.expect_error("already_logged_in");
        client.send(json!({"type": "who", "users": ["ann", "bob"]}));
        let users = client.expect("presence")["users"].clone();
        assert_eq!(
            (&users[0]["online"], &users[1]["online"]),
            (&json!(true), &json!(false))
        );
    });
}

#[test]
fn a_token_is_no_login_where_no_tokens_are_configured() {
    both(&Settings::new(), |server, transport| {
        let mut client = Client::open(server, transport);
        client.send(json!({"type": "login", "token": "x.y.z", "id": "t"}));
        let ending = client.expect_ending(4003);
        let last = ending.last.unwrap();
        assert_eq!(
            (&last["type"], &last["code"]),
            (&json!("error"), &json!("auth_failed"))
        );
    });
}

#[test]
fn unknown_fields_are_ignored() {
    both(&Settings::new(), |server, transport| {
        let login = json!({"type": "login", "userName": "ann", "colour": {"deep": [1, {"r": 2}]}, "to": 5, "content": null});
        let mut client = Client::open(server, transport).logged_in(login);
        client.send(r#"{"zzz":1e400,"type":"ping","":"","users":{}}"#);
        client.expect("pong");
    });
}

#[test]
fn logout_closes_normally() {
    both(&Settings::new(), |server, transport| {
        let ann = Client::login(server, transport, "ann");
        let mut bob = Client::login(server, transport, "bob");
        ann.logout();
        assert_eq!(bob.sendto("ann", json!("gone?")), "offline");
    });
}

#[test]
fn names_are_the_same_however_they_are_written() {
    both(&Settings::new(), |server, transport| {
        let mut jose = Client::open(server, transport);
        jose.send(json!({"type": "login", "userName": "Jose\u{301}"}));
        assert_eq!(jose.expect("system")["content"], "hello, welcome José");
        let mut ann = Client::login(server, transport, "ann");
        for to in ["José", "Jose\u{301}"] {
            assert_eq!(ann.sendto(to, json!(1)), "delivered", "{to}");
            assert_eq!(jose.expect("message")["to"], "José");
        }
        ann.join("cafe\u{301}s");
        jose.join("cafés");
        ann.send(json!({"type": "sendgroup", "to": "cafe\u{301}s", "content": 2, "quiet": true}));
        assert_eq!(jose.expect("message")["group"], "cafés");
    });
}

#[test]
fn names_that_cannot_be_seen_whole_are_refused_with_the_character_unless_any_is_allowed() {
    let odd = [
        ("ann\u{200b}", "U+200B"),
        ("\u{202e}nna", "U+202E"),
        ("a\u{e0061}nn", "U+E0061"),
        ("\u{e000}", "U+E000"),
        ("a\u{a0}b", "U+00A0"),
        (" ", "space"),
        ("ann ", "space"),
    ];
    both(&Settings::new(), |server, transport| {
        let mut client = Client::open(server, transport);
        for (name, why) in odd {
            client.send(json!({"type": "login", "userName": name, "id": 1}));
            let refused = client.expect_error("bad_request");
            assert!(refused["content"].to_string().contains(why), "{refused}");
        }
        client.send(json!({"type": "login", "userName": "👩\u{200d}🚀"}));
        client.expect("system");
        for (name, _) in odd {
            for kind in ["join", "leave", "who"] {
                client.send(json!({"type": kind, "group": name}));
                client.expect_error("bad_request");
            }
            client.send(json!({"type": "who", "users": [name]}));
            client.expect_error("bad_request");
            client.send(json!({"type": "sendto", "to": name, "content": 1}));
            client.expect_error("bad_request");
        }
    });
    both(
        &Settings::new().with("limits.names", "any"),
        |server, transport| {
            for (name, _) in odd {
                let mut client = Client::open(server, transport);
                client.send(json!({"type": "login", "userName": name}));
                assert_eq!(
                    client.expect("system")["content"],
                    format!("hello, welcome {name}")
                );
            }
        },
    );
}
