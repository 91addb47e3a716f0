//! Each line of protocol.md's "From the client", and the older dialects.

use super::*;

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
    // Half a surrogate pair makes a name that is no text, but JSON still.
    assert_eq!(
        good(r#"{"type":"ping","\ud800":1,"\udc00\ud800x":[]}"#),
        Request::Ping
    );
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
