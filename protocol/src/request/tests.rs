//! Messages understood, messages refused, and messages of any kind.

mod any;
mod refused;
mod understood;

use super::*;

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

/// By no rules but those that always hold.
fn parse(text: &str) -> Result<Message<'_>, Refusal<'_>> {
    super::parse(text, Rules::ANY)
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
