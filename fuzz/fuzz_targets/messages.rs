//! Messages: whatever the text, the verdict on JSON is serde_json's; `content` and `id` are the
//! client's own bytes, and stand in the reply as they came, on one line.
#![no_main]

use std::borrow::Cow;
use std::collections::HashMap;

use libfuzzer_sys::fuzz_target;
use protocol::code::ErrorCode;
use protocol::reply::{self, MessageParts, Moment, Speaker, Status, To};
use protocol::request::{self, ID_BYTES_MAX, Request, Rules};
use protocol::{name, text};
use serde_json::Value;
use serde_json::value::RawValue;

/// The fields by a way of its own. `None` also where a name has half a surrogate pair in it: that is
/// JSON, and such a field is unknown, but a map of text cannot hold it.
fn fields(text: &str) -> Option<HashMap<Cow<'_, str>, &RawValue>> {
    serde_json::from_str(text).ok()
}

fn written(write: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>) -> String {
    let mut bytes = Vec::new();
    write(&mut bytes).expect("a Vec takes all");
    let text = String::from_utf8(bytes).expect("a reply is text");
    assert!(!text.contains(['\n', '\r']));
    text
}

fn check_sent(text: &str, to: To<'_>, content: &str, rules: Rules) {
    let name = match to {
        To::User(name) | To::Group(name) => name,
    };
    assert!(name::check(name).is_ok());
    if rules == Rules::STRICT {
        // It is a name as it stands, and a strict program reads all of the content.
        assert_eq!(name::read(Cow::Borrowed(name), rules.names).as_deref(), Ok(name));
        assert!(serde_json::from_str::<Value>(content).is_ok());
    }
    if let Some(fields) = fields(text) {
        assert_eq!(fields["content"].get(), content);
    }
    let parts = MessageParts {
        speaker: &Speaker::new("s", name),
        ordinal: 1,
        to: &to,
        content,
        time: &Moment::new(7),
    };
    let reply = written(|w| reply::message(w, &parts));
    let reply = self::fields(&reply).expect("a reply is JSON");
    assert_eq!(reply["content"].get(), content.replace(['\n', '\r'], " "));
    assert_eq!(
        serde_json::from_str::<String>(reply["from"].get())
            .ok()
            .as_deref(),
        Some(name)
    );
}

fn check_id(text: &str, id: Option<&str>) {
    let Some(id) = id else { return };
    assert!(id.len() <= ID_BYTES_MAX);
    if let Some(fields) = fields(text) {
        assert_eq!(fields["id"].get(), id);
    }
    let ack = written(|w| reply::ack(w, Some(id), "s.1", Status::Delivered));
    assert_eq!(fields(&ack).expect("a reply is JSON")["id"].get(), id);
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = text(data) else {
        assert!(std::str::from_utf8(data).is_err());
        return;
    };
    let is_json = serde_json::from_str::<&RawValue>(text).is_ok();
    let rules = [Rules::ANY, Rules::STRICT][data.len() % 2];
    match request::parse(text, rules) {
        Ok(message) => {
            assert!(is_json);
            check_id(text, message.id);
            match message.request {
                Request::SendTo(send) => check_sent(text, To::User(&send.to), send.content, rules),
                Request::SendGroup(send) => check_sent(text, To::Group(&send.to), send.content, rules),
                Request::Broadcast { content } => check_sent(text, To::User("all"), content, rules),
                Request::Join(name) | Request::Leave(name) | Request::WhoGroup(name) => {
                    assert!(name::check(&name).is_ok());
                }
                Request::WhoUsers(names) => {
                    assert!(names.iter().all(|name| name::check(name).is_ok()));
                }
                Request::Login(login) => {
                    assert!(login.user_name.is_some() || login.token.is_some());
                    if let Some(name) = login.user_name {
                        let welcome = written(|w| reply::welcome(w, &name));
                        let welcome: Value = serde_json::from_str(&welcome).expect("JSON");
                        assert_eq!(welcome["content"], format!("hello, welcome {name}"));
                    }
                }
                Request::Ping | Request::Logout => {}
            }
        }
        Err(refusal) => {
            assert_eq!(refusal.code == ErrorCode::BadJson, !is_json, "{refusal:?}");
            check_id(text, refusal.id);
            let error =
                written(|w| reply::error(w, refusal.code, &refusal.sentence, refusal.id, None));
            assert!(fields(&error).is_some());
            assert!(refusal.sentence.len() < 500);
        }
    }
});
