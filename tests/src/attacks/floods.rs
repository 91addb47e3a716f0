//! Floods of frames and lines: input that is no message, or none that is understood.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::crowd::{Crowd, Script, Then};
use super::list::*;
use super::speech::{opening, said};
use crate::Transport;
use crate::frames::{BINARY, CONTINUATION, Frame, PING, PONG, TEXT};
use crate::random::Random;

/// Connections that say this as fast as it is read, and read what comes.
pub fn flood(target: &Target, variant: Variant, more: Vec<Value>, unit: Vec<u8>) -> Vec<Crowd> {
    vec![crowd(target, variant, more, Then::Repeat(unit))]
}

/// Connections on the first host that log in as the variant has it and then do that.
pub fn crowd(target: &Target, variant: Variant, more: Vec<Value>, then: Then) -> Crowd {
    Crowd {
        connections: variant.connections,
        address: target.hosts[0].on(variant.transport),
        delay: Duration::ZERO,
        opening: opening(target, variant, 0, more),
        then,
        reads: true,
    }
}

fn frames(target: &Target, variant: Variant, frame: Frame) -> Vec<Crowd> {
    flood(target, variant, vec![], frame.bytes())
}

/// The opening and these bytes behind it.
fn opening_and(target: &Target, variant: Variant, bytes: Vec<u8>) -> Script {
    let opening = opening(target, variant, 0, vec![]);
    Arc::new(move |life| [&opening(life)[..], &bytes].concat())
}

fn empty_fragments(target: &Target, variant: Variant) -> Vec<Crowd> {
    let first = Frame::new(TEXT, "").more().bytes();
    let then = Then::Repeat(Frame::new(CONTINUATION, "").more().bytes());
    vec![Crowd {
        opening: opening_and(target, variant, first),
        ..crowd(target, variant, vec![], then)
    }]
}

fn tiny_fragments(target: &Target, variant: Variant) -> Vec<Crowd> {
    let text = br#"{"type":"ping"}"#;
    let mut bytes = Frame::new(TEXT, &text[..1]).more().bytes();
    for at in 1..text.len() - 1 {
        bytes.extend(Frame::new(CONTINUATION, &text[at..=at]).more().bytes());
    }
    bytes.extend(Frame::new(CONTINUATION, &text[text.len() - 1..]).bytes());
    flood(target, variant, vec![], bytes)
}

fn text(target: &Target, variant: Variant, text: &str) -> Vec<Crowd> {
    flood(target, variant, vec![], said(variant.transport, text))
}

fn deep(levels: usize) -> String {
    let content = "[".repeat(levels) + &"]".repeat(levels);
    format!(r#"{{"type":"sendto","to":"nobody","content":{content}}}"#)
}

fn garbage(target: &Target, variant: Variant) -> Vec<Crowd> {
    let seed = target.seed;
    let then = Then::Make(Arc::new(move |life, number| {
        let mut random =
            Random::new(seed ^ life.connection as u64 ^ life.number << 20 ^ number << 40);
        random.bytes(4_096)
    }));
    vec![crowd(target, variant, vec![], then)]
}

/// All of them.
pub fn all() -> Vec<Attack> {
    let here = Attack::here;
    vec![
        here(
            "pings",
            "empty WebSocket pings; the pongs are read",
            &[WS_NOBODY, WS_ONE, WS_STRANGERS, WS_HUNDRED, WS_USERS],
            |t, v| frames(t, v, Frame::new(PING, "")),
        ),
        here("full-pings", "pings of 125 bytes", &[WS_HUNDRED], |t, v| {
            frames(t, v, Frame::new(PING, vec![b'p'; 125]))
        }),
        here(
            "pongs",
            "pongs that nobody asked for",
            &[WS_ONE, WS_STRANGERS],
            |t, v| frames(t, v, Frame::new(PONG, "")),
        ),
        here(
            "empty-lines",
            "nothing but line ends",
            &[TCP_NOBODY, TCP_ONE, TCP_USERS],
            |t, v| flood(t, v, vec![], b"\n".to_vec()),
        ),
        here(
            "empty-fragments",
            "a message of empty fragments that never ends",
            &[WS_NOBODY, WS_ONE, WS_USERS],
            empty_fragments,
        ),
        here(
            "tiny-fragments",
            "requests in fragments of one byte",
            &[WS_ONE, WS_HUNDRED],
            tiny_fragments,
        ),
        here(
            "empty-frames",
            "text messages of no bytes",
            &[WS_ONE, WS_STRANGERS],
            |t, v| frames(t, v, Frame::new(TEXT, "")),
        ),
        here(
            "binary",
            "binary messages, for which it is closed",
            &[WS_ONE, WS_STRANGERS],
            |t, v| frames(t, v, Frame::new(BINARY, vec![0; 64])),
        ),
        here(
            "bad-json",
            "what is no JSON; each is answered",
            &[WS_NOBODY, TCP_ONE, TCP_STRANGERS],
            |t, v| text(t, v, "{"),
        ),
        here(
            "deep-json",
            "JSON of 30,000 levels",
            &[WS_ONE, TCP_HUNDRED],
            |t, v| text(t, v, &deep(30_000)),
        ),
        here(
            "huge-numbers",
            "a number of 60,000 digits to oneself",
            &[WS_ONE, TCP_HUNDRED],
            |t, v| {
                let digits = "9".repeat(60_000);
                text(
                    t,
                    v,
                    &format!(
                        r#"{{"type":"sendto","to":"mallory","content":{digits},"quiet":true}}"#
                    ),
                )
            },
        ),
        here(
            "escapes",
            "a name and a content of nothing but escapes",
            &[TCP_HUNDRED],
            |t, v| {
                let escapes = r"\u0041".repeat(9_000);
                text(
                    t,
                    v,
                    &format!(r#"{{"type":"sendto","to":"{escapes}","content":"{escapes}"}}"#),
                )
            },
        ),
        here(
            "not-utf8",
            "text that is no UTF-8, for which it is closed",
            &[WS_STRANGERS, TCP_STRANGERS],
            |t, v| {
                let bytes = vec![0xC0; 1_000];
                let unit = match v.transport {
                    Transport::WebSocket => Frame::new(TEXT, bytes).bytes(),
                    Transport::Tcp => [&bytes[..], b"\n"].concat(),
                };
                flood(t, v, vec![], unit)
            },
        ),
        here(
            "unknown-types",
            "requests of a type that is none",
            &[WS_NOBODY, TCP_ONE],
            |t, v| text(t, v, r#"{"type":"dance"}"#),
        ),
        here(
            "garbage",
            "random bytes behind a login",
            &[WS_HUNDRED, TCP_STRANGERS],
            garbage,
        ),
    ]
}
