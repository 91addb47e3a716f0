//! Every way to get it wrong: the code, the field that is named, and the message that is.

use super::*;

#[test]
fn nesting_is_limited_in_content_and_harmless_elsewhere() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let sendto =
        |content: &str| format!(r#"{{"type":"sendto","to":"a","id":7,"content":{content}}}"#);
    assert!(parse(&sendto(&nested(128))).is_ok());
    let text = sendto(&nested(129));
    names(&text, "content");
    assert_eq!(bad(&text).id, Some("7"));
    names(&sendto(&nested(100_000)), "content");
    let objects = |depth: usize| format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
    assert!(parse(&sendto(&objects(128))).is_ok());
    names(&sendto(&objects(129)), "content");
    // Brackets in strings, and behind escaped quotes, are no levels.
    assert!(
        parse(&sendto(&format!(
            r#"["{}\"{}"]"#,
            "[".repeat(300),
            "[".repeat(300)
        )))
        .is_ok()
    );
    assert!(parse(&sendto(&format!("[{}[]]", "[],".repeat(300)))).is_ok());
    assert_eq!(
        good(&format!(r#"{{"type":"ping","x":{}}}"#, nested(100_000))),
        Request::Ping
    );
    names(&format!(r#"{{"type":{}}}"#, nested(100_000)), "type");
    names(
        &format!(r#"{{"type":"who","users":[{}]}}"#, nested(100_000)),
        "users",
    );
}

#[test]
fn what_is_not_json_is_bad_json() {
    for text in [
        "",
        "   ",
        "hello",
        "{",
        "{}}",
        r#"{"type":"ping"} x"#,
        r#"{"type":"ping",}"#,
        r#"{'type':'ping'}"#,
        r#"{"type":"sendto","to":"a","content":01}"#,
        "{\"type\":\"sendto\",\"to\":\"a\",\"content\":\"a\nb\"}",
        r#"{"type":"sendto","to":"a","content":"\x"}"#,
        r#"{"type":"sendto","to":"a","content":[1}"#,
        "[1",
        "{\"type\":\"ping\",\"a\nb\":1}",
        r#"{"type":"ping","\x":1}"#,
        r#"{"type":"ping",1:1}"#,
        r#"{"type":"ping",{}:1}"#,
        "nul",
    ] {
        let refusal = bad(text);
        assert_eq!(
            (refusal.code, refusal.id),
            (ErrorCode::BadJson, None),
            "{text}"
        );
    }
    assert_eq!(bad(&" ".repeat(1 << 20)).code, ErrorCode::BadJson);
}

#[test]
fn json_that_is_no_object_is_bad_request() {
    for text in ["[]", "\"x\"", "1", "null", "true", " [{\"type\":\"ping\"}]"] {
        assert_eq!(bad(text).code, ErrorCode::BadRequest, "{text}");
    }
}

#[test]
fn a_wrong_field_is_named() {
    names("{}", "type");
    names(r#"{"type":null}"#, "type");
    names(r#"{"type":5}"#, "type");
    names(r#"{"type":null,"cmd":"ping"}"#, "type");
    names(r#"{"cmd":{}}"#, "cmd");
    names(r#"{"type":"login"}"#, "userName");
    names(r#"{"type":"login","userName":null}"#, "userName");
    names(r#"{"type":"login","userName":1}"#, "userName");
    names(r#"{"type":"login","userName":""}"#, "userName");
    names(r#"{"type":"login","userName":"a\u0000"}"#, "userName");
    names(r#"{"type":"login","userName":"\ud800"}"#, "userName");
    names(r#"{"type":"login","name":[]}"#, "name");
    names(r#"{"type":"login","token":1}"#, "token");
    names(
        r#"{"type":"login","userName":"a","deviceId":7}"#,
        "deviceId",
    );
    names(
        r#"{"type":"login","userName":"a","deviceModel":""}"#,
        "deviceModel",
    );
    names(
        &format!(r#"{{"type":"login","userName":"{}"}}"#, "x".repeat(65)),
        "userName",
    );
    names(r#"{"type":"sendto","content":1}"#, "to");
    names(r#"{"type":"sendto","to":["a"],"content":1}"#, "to");
    names(r#"{"type":"sendto","to":"a"}"#, "content");
    names(
        r#"{"type":"sendto","to":"a","content":1,"quiet":1}"#,
        "quiet",
    );
    names(r#"{"type":"sendgroup","content":1}"#, "to");
    names(r#"{"type":"broadcast"}"#, "content");
    names(r#"{"type":"join"}"#, "group");
    names(r#"{"type":"leave","group":null}"#, "group");
    names(r#"{"type":"who"}"#, "users or group");
    names(r#"{"type":"who","users":"a"}"#, "users");
    names(r#"{"type":"who","users":{"a":1}}"#, "users");
    names(r#"{"type":"who","users":["a",1]}"#, "users");
    names(r#"{"type":"who","users":["a",""]}"#, "users");
    names(r#"{"type":"who","group":1}"#, "group");
}

#[test]
fn ids_of_another_kind_are_refused_where_they_matter() {
    let long = format!("\"{}\"", "x".repeat(127));
    for id in ["null", "true", "{}", "[1]", &long] {
        for kind in ["sendto", "chat", "sendgroup", "broadcast"] {
            let text = format!(r#"{{"type":"{kind}","to":"a","content":1,"id":{id}}}"#);
            names(&text, "id");
            assert_eq!(bad(&text).id, None);
        }
        assert_eq!(
            parse(&format!(r#"{{"type":"ping","id":{id}}}"#))
                .unwrap()
                .id,
            None
        );
    }
}

#[test]
fn refusals_name_the_message() {
    for text in [
        r#"{"id":"m1"}"#,
        r#"{"type":5,"id":"m1"}"#,
        r#"{"type":"nope","id":"m1"}"#,
        r#"{"id":"m1","type":"join","group":5}"#,
        r#"{"type":"sendto","id":"m1","to":""}"#,
    ] {
        assert_eq!(bad(text).id, Some("\"m1\""), "{text}");
    }
    assert_eq!(
        parse(r#"{"type":"join","group":"g","id":3}"#).unwrap().id,
        Some("3")
    );
}

#[test]
fn unknown_types_are_named_but_not_at_any_length() {
    let refusal = bad(r#"{"type":"nope"}"#);
    assert_eq!(refusal.code, ErrorCode::UnknownType);
    assert!(refusal.sentence.contains("nope"));
    let text = format!(r#"{{"type":"{}"}}"#, "é".repeat(50_000));
    assert!(bad(&text).sentence.len() < 200);
    assert_eq!(bad(r#"{"type":""}"#).code, ErrorCode::UnknownType);
    assert_eq!(
        bad(r#"{"type":"Login","userName":"a"}"#).code,
        ErrorCode::UnknownType
    );
}
