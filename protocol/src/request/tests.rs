//! Each line of protocol.md's "From the client", the older dialects, and every way to get it wrong.

use super::*;
use proptest::prelude::*;

fn good(text: &str) -> Request<'_> {
    parse(text)
        .unwrap_or_else(|refusal| panic!("{text}: {refusal:?}"))
        .request
}

fn bad(text: &str) -> Refusal<'_> {
    match parse(text) {
        Ok(message) => panic!("{text}: {message:?}"),
        Err(refusal) => refusal,
    }
}

#[track_caller]
fn names(text: &str, field: &str) {
    let refusal = bad(text);
    assert_eq!(refusal.code, ErrorCode::BadRequest, "{text}");
    assert!(
        refusal.sentence.starts_with(field),
        "{text}: {}",
        refusal.sentence
    );
}

fn login(user_name: &str) -> Login<'_> {
    Login {
        user_name: Some(Cow::Borrowed(user_name)),
        token: None,
        device_id: None,
        device_model: None,
    }
}

fn send<'a>(to: &'a str, content: &'a str) -> Send<'a> {
    Send {
        to: Cow::Borrowed(to),
        content,
        quiet: false,
    }
}

#[test]
fn every_type_is_understood() {
    assert_eq!(
        good(r#"{"type":"login","userName":"bob"}"#),
        Request::Login(login("bob"))
    );
    assert_eq!(
        good(
            r#"{"type":"login","userName":"bob","token":"","deviceId":"d","deviceModel":"m","x":1}"#
        ),
        Request::Login(Login {
            user_name: Some("bob".into()),
            token: Some("".into()),
            device_id: Some("d".into()),
            device_model: Some("m".into()),
        })
    );
    assert_eq!(
        good(r#"{"type":"sendto","to":"a","content":"hi"}"#),
        Request::SendTo(send("a", "\"hi\""))
    );
    assert_eq!(
        good(r#"{"type":"sendgroup","to":"a","content":null,"quiet":true}"#),
        Request::SendGroup(Send {
            quiet: true,
            ..send("a", "null")
        })
    );
    assert_eq!(
        good(r#"{"type":"join","group":"g"}"#),
        Request::Join("g".into())
    );
    assert_eq!(
        good(r#"{"type":"leave","group":"g"}"#),
        Request::Leave("g".into())
    );
    assert_eq!(
        good(r#"{"type":"broadcast","content":[1]}"#),
        Request::Broadcast { content: "[1]" }
    );
    assert_eq!(
        good(r#"{"type":"who","users":["a","b\u0041"]}"#),
        Request::WhoUsers(vec!["a".into(), "bA".into()])
    );
    assert_eq!(
        good(r#"{"type":"who","users":[]}"#),
        Request::WhoUsers(vec![])
    );
    assert_eq!(
        good(r#"{"type":"who","group":"g"}"#),
        Request::WhoGroup("g".into())
    );
    assert_eq!(good(r#" {"type":"ping"} "#), Request::Ping);
    assert_eq!(good(r#"{"type":"logout"}"#), Request::Logout);
}

#[test]
fn older_dialects_are_understood() {
    assert_eq!(
        good(r#"{"cmd":"login","name":"bob"}"#),
        Request::Login(login("bob"))
    );
    assert_eq!(
        good(r#"{"type":"login","name":"x","userName":"bob"}"#),
        Request::Login(login("bob"))
    );
    assert_eq!(
        good(r#"{"cmd":"chat","send":"a","recv":"b","content":"hi"}"#),
        Request::SendTo(send("b", "\"hi\""))
    );
    assert_eq!(
        good(r#"{"cmd":"chat","to":"b","content":1}"#),
        Request::SendTo(send("b", "1"))
    );
    assert_eq!(
        good(r#"{"cmd":"sendto","to":"b","content":1}"#),
        Request::SendTo(send("b", "1"))
    );
    assert_eq!(good(r#"{"cmd":"login","type":"ping"}"#), Request::Ping);
    names(
        r#"{"cmd":"chat","send":"a","recv":5,"content":"hi"}"#,
        "recv",
    );
}

#[test]
fn what_needs_no_copy_is_borrowed() {
    let text = r#"{"type":"sendto","to":"аня","content":"hi","id":"m1"}"#;
    match good(text) {
        Request::SendTo(Send {
            to: Cow::Borrowed("аня"),
            ..
        }) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn content_is_the_bytes_the_client_wrote() {
    for content in [
        "1e999999",
        "-0.000",
        r#""\u0041\/\ud800""#,
        "{ \"a\" :\n[1 ,2 ],\t\"a\":{}}",
        "123456789012345678901234567890",
        "\"🦀\"",
        "true",
    ] {
        let text = format!("{{\"type\":\"sendto\",\"to\":\"a\",\"content\" : {content} }}");
        assert_eq!(good(&text), Request::SendTo(send("a", content)));
    }
}

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
fn optional_fields_may_be_null() {
    assert_eq!(
        good(
            r#"{"type":"login","userName":"bob","token":null,"deviceId":null,"deviceModel":null}"#
        ),
        Request::Login(login("bob"))
    );
    assert_eq!(
        good(r#"{"type":"sendto","to":"a","content":1,"quiet":null}"#),
        Request::SendTo(send("a", "1"))
    );
    assert_eq!(
        good(r#"{"type":"who","users":null,"group":"g"}"#),
        Request::WhoGroup("g".into())
    );
}

#[test]
fn fields_of_other_types_are_not_looked_at() {
    assert_eq!(
        good(r#"{"type":"ping","to":5,"id":{},"users":1,"content":[[]],"from":"x"}"#),
        Request::Ping
    );
}

#[test]
fn the_last_of_equal_names_counts() {
    assert_eq!(good(r#"{"type":5,"type":"ping"}"#), Request::Ping);
    assert_eq!(
        good(r#"{"type":"sendto","to":"a","content":1,"to":"b","content":2}"#),
        Request::SendTo(send("b", "2"))
    );
}

#[test]
fn an_escaped_field_name_is_the_same_name() {
    assert_eq!(good(r#"{"\u0074ype":"\u0070ing"}"#), Request::Ping);
}

#[test]
fn ids_are_kept_as_written() {
    let long = format!("\"{}\"", "x".repeat(126));
    for id in [
        "1",
        "-1.50e+3",
        "1e999999",
        "\"\"",
        "\"m-1\"",
        r#""\ud800""#,
        &long,
    ] {
        let text = format!(r#"{{"type":"sendto","to":"a","content":1,"id":{id}}}"#);
        assert_eq!(parse(&text).unwrap().id, Some(id));
    }
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

/// Any JSON value, written with space in places.
fn json() -> impl Strategy<Value = String> {
    let scalar = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>()
            .prop_filter("JSON has no such numbers", |n| n.is_finite())
            .prop_map(|n| n.to_string()),
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
    ];
    scalar.prop_recursive(4, 24, 4, |inner| {
        let list = proptest::collection::vec(inner.clone(), 0..4);
        let object = proptest::collection::vec((any::<String>(), inner), 0..4);
        prop_oneof![
            list.prop_map(|items| format!("[{}]", items.join(" ,\n"))),
            object.prop_map(|items| {
                let field = |(name, value): &(String, String)| {
                    format!("{}: {value}", serde_json::to_string(name).unwrap())
                };
                format!(
                    "{{{}}}",
                    items.iter().map(field).collect::<Vec<_>>().join(",\r\n")
                )
            }),
        ]
    })
}

proptest! {
    #[test]
    fn any_content_comes_out_as_it_went_in(content in json(), to in "[a-z \"\\\\é]{1,20}") {
        let to_json = serde_json::to_string(&to).unwrap();
        let text = format!("{{\"content\":{content},\"to\":{to_json},\"type\":\"sendto\"}}");
        prop_assert_eq!(good(&text), Request::SendTo(send(&to, &content)));
    }

    #[test]
    fn nothing_makes_it_panic(text in any::<String>(), object in json()) {
        let _ = parse(&text);
        let _ = parse(&object);
    }
}
