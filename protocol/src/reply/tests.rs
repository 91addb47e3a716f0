//! Each reply against its line in protocol.md, and against a JSON parser that is not ours.

use super::*;
use serde_json::{Value, json};

fn written(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> String {
    let mut bytes = Vec::new();
    write(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

fn parsed(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Value {
    serde_json::from_str(&written(write)).unwrap()
}

#[test]
fn open_is_written_field_by_field() {
    assert_eq!(
        written(|w| open(w, "AbC-_1", "local", 10_000, u64::MAX)),
        r#"{"type":"open","session":"AbC-_1","server":"local","loginTimeoutMs":10000,"heartbeatMs":18446744073709551615}"#
    );
}

#[test]
fn welcome_greets_any_name() {
    assert_eq!(
        written(|w| welcome(w, "bob")),
        r#"{"type":"system","event":"login","content":"hello, welcome bob"}"#
    );
    let name = "\"q\" \\ \u{1f980}</script>";
    assert_eq!(
        parsed(|w| welcome(w, name))["content"],
        format!("hello, welcome {name}")
    );
}

#[test]
fn a_notice_about_a_group_names_it() {
    assert_eq!(
        written(|w| group_notice(w, "join", "team", "joined")),
        r#"{"type":"system","event":"join","group":"team","content":"joined"}"#
    );
    let group = "\"team\" \\ \u{1f980}";
    assert_eq!(
        parsed(|w| group_notice(w, "leave", group, "left"))["group"],
        group
    );
}

#[test]
fn every_character_below_space_is_escaped() {
    let all: String = (0..=0x7fu8).map(char::from).collect();
    let text = written(|w| notice(w, "e", &all));
    assert!(text.bytes().all(|byte| byte >= b' '), "{text}");
    assert_eq!(parsed(|w| notice(w, "e", &all))["content"], all);
}

/// A message in the two ways in which it is written.
fn message_text(parts: &MessageParts<'_>) -> String {
    let mut text = Vec::new();
    message(&mut text, parts).unwrap();
    let mut room = vec![0; text.len()];
    assert_eq!(message_within(&mut room, parts), Some(text.len()));
    assert_eq!(room, text);
    assert_eq!(message_within(&mut room[1..], parts), None);
    String::from_utf8(text).unwrap()
}

#[test]
fn messages_name_a_user_or_a_group_and_keep_their_content() {
    let content = r#"{"a" : 1e999999, "b":"\u0041\/"}"#;
    let parts = MessageParts {
        speaker: &Speaker::new("s", "a\"b"),
        ordinal: 1,
        to: &To::User("c"),
        content,
        time: &Moment::new(1_700_000_000_123),
    };
    assert_eq!(
        message_text(&parts),
        r#"{"type":"message","id":"s.1","from":"a\"b","to":"c","content":{"a" : 1e999999, "b":"\u0041\/"},"time":1700000000123}"#
    );
    let parts = MessageParts {
        to: &To::Group("g"),
        time: &Moment::new(0),
        ..parts
    };
    assert_eq!(
        message_text(&parts),
        r#"{"type":"message","id":"s.1","from":"a\"b","group":"g","content":{"a" : 1e999999, "b":"\u0041\/"},"time":0}"#
    );
}

#[test]
fn line_breaks_between_tokens_become_spaces() {
    let content = "{\n\"a\":\r\n[1,\n2]\n}";
    let parts = Broadcast {
        id: "s.2",
        from: "root",
        content,
        time_ms: 5,
    };
    assert_eq!(
        written(|w| broadcast(w, &parts)),
        r#"{"type":"system","event":"broadcast","id":"s.2","from":"root","content":{ "a":  [1, 2] },"time":5}"#
    );
}

#[test]
fn acks_echo_the_id_as_it_was_written() {
    assert_eq!(
        written(|w| ack(w, Some("1e2"), "s.1", Status::Delivered)),
        r#"{"type":"ack","id":1e2,"messageId":"s.1","status":"delivered"}"#
    );
    assert_eq!(
        parsed(|w| ack(w, Some(r#""x""#), "s.1", Status::Offline)),
        json!({"type":"ack","id":"x","messageId":"s.1","status":"offline"})
    );
    assert_eq!(Status::Routed.as_str(), "routed");
}

#[test]
fn errors_have_what_there_is() {
    assert_eq!(
        written(|w| error(w, ErrorCode::BadJson, "no \"x\"", None, None)),
        r#"{"type":"error","code":"bad_json","content":"no \"x\""}"#
    );
    assert_eq!(
        parsed(|w| error(
            w,
            ErrorCode::Capacity,
            "full",
            Some("7"),
            Some(CloseCode::TRY_AGAIN)
        )),
        json!({"type":"error","code":"capacity","content":"full","id":7,"closeCode":1013})
    );
}

#[test]
fn kicked_and_pong() {
    assert_eq!(
        written(|w| kicked(w, "login timeout", Some(CloseCode::LOGIN_TIMEOUT))),
        r#"{"type":"kicked","reason":"login timeout","closeCode":4001}"#
    );
    assert_eq!(
        written(|w| kicked(w, "bye", None)),
        r#"{"type":"kicked","reason":"bye"}"#
    );
    assert_eq!(written(|w| pong(w, 12)), r#"{"type":"pong","time":12}"#);
}

#[test]
fn presence_lists_users() {
    let devices = [
        Device {
            id: Some("d1"),
            model: Some("phone"),
        },
        Device {
            id: None,
            model: None,
        },
    ];
    let users = [
        PresenceUser {
            name: "a",
            online: true,
            devices: &devices,
            hosts: &["h1", "h2"],
            last_seen_ms: Some(9),
        },
        PresenceUser {
            name: "b",
            online: false,
            devices: &[],
            hosts: &[],
            last_seen_ms: None,
        },
    ];
    assert_eq!(
        written(|w| presence(w, None, users, 0, false)),
        concat!(
            r#"{"type":"presence","users":[{"name":"a","online":true,"#,
            r#""devices":[{"id":"d1","model":"phone"},{}],"hosts":["h1","h2"],"lastSeen":9},"#,
            r#"{"name":"b","online":false,"devices":[],"hosts":[],"lastSeen":null}]}"#
        )
    );
    assert_eq!(
        written(|w| presence(w, Some("g"), [], 3, true)),
        r#"{"type":"presence","group":"g","users":[],"more":3,"partial":true}"#
    );
}

#[test]
fn sentences_of_any_length_arrive_whole_and_in_order() {
    for length in 0..600 {
        let sentence: String = ('a'..='z').cycle().take(length).chain(['"']).collect();
        let expected = format!(
            r#"{{"type":"system","event":"e","content":"{}\""}}"#,
            &sentence[..length]
        );
        assert_eq!(written(|w| notice(w, "e", &sentence)), expected);
    }
}

#[test]
fn the_writers_errors_come_back() {
    let mut room = [0; 10];
    assert!(pong(&mut &mut room[..], 1).is_err());
    assert!(welcome(&mut &mut room[..], &"x".repeat(1000)).is_err());
}
