//! `content` and `id` arrive as they were written, byte for byte.

use serde_json::json;
use tests::{Client, Server, Settings, Transport};

use crate::both;

/// JSON that any reader and writer in between would change.
const ODD: [&str; 24] = [
    r#""""#,
    r#""plain""#,
    r#""\u0041\/\b\f\n\r\t\"\\""#,
    r#""é \u00e9 \u00E9""#,
    r#""🦀\ud83e\udd80""#,
    r#""\u0000\u001f""#,
    r#""</script><!--&amp;""#,
    "0",
    "-0",
    "-0.0",
    "1.0",
    "1E+2",
    "1e-0",
    "1e999999",
    "123456789012345678901234567890123456789012345678901234567890",
    "0.1000000000000000055511151231257827021181583404541015625",
    "true",
    "null",
    "[]",
    "{}",
    r#"{"b":1,"a":2,"b":3}"#,
    "[ 1 ,2,  3\t]",
    r#"{  "a"  :  [ { } , [ ] ]  }"#,
    r#"{"type":"login","content":"\"content\":"}"#,
];

/// Takes what other programs may not be able to read.
fn lenient() -> Settings {
    Settings::new().with("limits.strict_content", false)
}

#[test]
fn content_is_passed_on_byte_for_byte() {
    both(&lenient(), |server, transport| {
        let mut ann = Client::login(server, transport, "ann");
        let mut near = Client::login(server, transport, "bob");
        let far = if transport == Transport::Tcp {
            Transport::WebSocket
        } else {
            Transport::Tcp
        };
        let mut far = Client::login(server, far, "bob");
        for content in ODD {
            ann.send(format!(
                r#"{{"type":"sendto","to":"bob","content":  {content}  ,"quiet":true}}"#
            ));
            for bob in [&mut near, &mut far] {
                let text = bob.text();
                assert!(
                    text.contains(&format!(r#""content":{content},"#)),
                    "{content} became {text}"
                );
            }
        }
    });
}

#[test]
fn content_may_stand_anywhere_in_the_message() {
    both(&Settings::new(), |server, transport| {
        let mut ann = Client::login(server, transport, "ann");
        let mut bob = Client::login(server, transport, "bob");
        ann.send(
            r#"{"content":[1, 2],"x":"\"content\":3","to":"bob","quiet":true,"type":"sendto"}"#,
        );
        assert!(bob.text().contains(r#""content":[1, 2],"#));
    });
}

#[test]
fn a_line_break_between_tokens_becomes_a_space() {
    let server = Server::standard();
    let mut ann = Client::login(&server, Transport::WebSocket, "ann");
    let mut line = Client::login(&server, Transport::Tcp, "bob");
    let mut frame = Client::login(&server, Transport::WebSocket, "bob");
    ann.send("{\"type\":\"sendto\",\n\"to\":\"bob\",\"content\":{\n\"a\" :\n[1,\n2] ,\"b\":\"x\\ny\"\n},\n\"quiet\":true}\n");
    for bob in [&mut line, &mut frame] {
        let text = bob.text();
        assert!(
            text.contains(r#""content":{ "a" : [1, 2] ,"b":"x\ny" },"#),
            "{text}"
        );
    }
    ann.send("{\"type\":\"sendto\",\"to\":\"bob\",\"content\":[1,\r\n2],\"quiet\":true}");
    for bob in [&mut line, &mut frame] {
        let text = bob.text();
        assert!(!text.contains(['\r', '\n']), "{text:?}");
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&text).unwrap()["content"],
            json!([1, 2])
        );
    }
}

#[test]
fn an_id_comes_back_as_it_was_given() {
    both(&Settings::new(), |server, transport| {
        let mut ann = Client::login(server, transport, "ann");
        let long = format!("\"{}\"", "i".repeat(126));
        for id in [
            "1",
            "-1.50e+3",
            "123456789012345678901234567890",
            r#""""#,
            r#""a\u0062\/""#,
            r#""ü""#,
            &long,
        ] {
            ann.send(format!(
                r#"{{"type":"sendto","to":"bob","content":1,"id":{id}}}"#
            ));
            let text = ann.text();
            assert!(
                text.contains(&format!(r#""id":{id},"#)),
                "{id} became {text}"
            );
            ann.send(format!(
                r#"{{"type":"sendto","to":7,"content":1,"id":{id}}}"#
            ));
            let text = ann.text();
            assert!(
                text.contains("bad_request") && text.contains(&format!(r#""id":{id}"#)),
                "{id} became {text}"
            );
        }
        let too_long = format!("\"{}\"", "i".repeat(127));
        for id in ["{}", "[1]", "true", &too_long] {
            ann.send(format!(
                r#"{{"type":"sendto","to":"bob","content":1,"id":{id}}}"#
            ));
            ann.expect_error("bad_request");
        }
    });
}

#[test]
fn large_content_up_to_the_limit() {
    both(
        &Settings::new().with("limits.message_bytes", 65_536),
        |server, transport| {
            let mut ann = Client::login(server, transport, "ann");
            let mut bob = Client::login(server, transport, "bob");
            let frame = r#"{"type":"sendto","to":"bob","quiet":true,"content":""}"#.len();
            for len in [1_000, 30_000, 65_536 - frame] {
                let content = "x".repeat(len);
                ann.send(format!(
                    r#"{{"type":"sendto","to":"bob","quiet":true,"content":"{content}"}}"#
                ));
                assert_eq!(
                    bob.expect("message")["content"].as_str(),
                    Some(content.as_str())
                );
            }
        },
    );
}

#[test]
fn content_may_nest_63_levels_or_128_where_it_may_be_anything() {
    for (settings, most) in [(Settings::new(), 63), (lenient(), 128)] {
        both(&settings, |server, transport| {
            let mut ann = Client::login(server, transport, "ann");
            let mut bob = Client::login(server, transport, "bob");
            let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
            ann.send(format!(
                r#"{{"type":"sendto","to":"bob","quiet":true,"content":{}}}"#,
                nested(most)
            ));
            assert!(bob.text().contains(&nested(most)));
            for depth in [most + 1, 1_000, 20_000] {
                ann.send(format!(
                    r#"{{"type":"sendto","to":"bob","id":1,"content":{}}}"#,
                    nested(depth)
                ));
                assert_eq!(ann.expect_error("bad_request")["id"], 1, "{depth}");
            }
            ann.expect_nothing();
            bob.expect_nothing();
        });
    }
}

#[test]
fn what_some_programs_cannot_read_is_refused_in_every_message_that_others_get() {
    let many = "9".repeat(401);
    both(&Settings::new(), |server, transport| {
        let mut ann = Client::login(server, transport, "ann");
        let mut bob = Client::login(server, transport, "bob");
        ann.join("g");
        bob.join("g");
        for content in [
            many.as_str(),
            "1e400",
            "[0,-1e1000]",
            r#""\ud800""#,
            r#"{"\udfff":1}"#,
        ] {
            for to in [
                r#""type":"sendto","to":"bob""#,
                r#""type":"sendgroup","to":"g""#,
            ] {
                ann.send(format!(r#"{{{to},"id":7,"content":{content}}}"#));
                let refused = ann.expect_error("bad_request");
                assert_eq!(refused["id"], 7, "{content}");
                assert!(
                    refused["content"].to_string().contains("content has"),
                    "{refused}"
                );
            }
        }
        for content in [
            &many[..300],
            "1e308",
            r#""\ud83e\udd80""#,
            r#""1e999 \\ud800""#,
        ] {
            ann.send(format!(
                r#"{{"type":"sendto","to":"bob","quiet":true,"content":{content}}}"#
            ));
            let text = bob.text();
            assert!(text.contains(&format!(r#""content":{content},"#)), "{text}");
            // As strict a reader as there is.
            serde_json::from_str::<serde_json::Value>(&text).unwrap();
        }
        bob.expect_nothing();
    });
}

#[test]
fn of_a_field_given_twice_the_last_one_counts_and_null_is_absent() {
    both(&Settings::new(), |server, transport| {
        let login = r#"{"type":"login","userName":"eve","userName":"ann","deviceId":null,"deviceModel":null}"#;
        let mut ann = Client::open(server, transport);
        ann.send(login);
        assert_eq!(ann.expect("system")["content"], "hello, welcome ann");
        let mut bob = Client::login(server, transport, "bob");
        ann.send(r#"{"type":"ping","to":"eve","content":1,"to":"bob","content":2,"quiet":null,"type":"sendto","id":5}"#);
        assert_eq!(bob.expect("message")["content"], 2);
        assert_eq!(ann.expect("ack")["id"], 5);
    });
}
