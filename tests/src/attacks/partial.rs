//! Messages, requests and frames that never end.

use std::sync::Arc;
use std::time::Duration;

use super::crowd::{Crowd, Then};
use super::floods::crowd;
use super::list::*;
use super::speech::opening;
use crate::Transport;
use crate::frames::{Frame, Length, PING, TEXT};

/// The opening, these bytes, and then.
fn begun(target: &Target, variant: Variant, bytes: Vec<u8>, then: Then) -> Vec<Crowd> {
    let opening = opening(target, variant, 0, vec![]);
    vec![Crowd {
        opening: Arc::new(move |life| [&opening(life)[..], &bytes].concat()),
        ..crowd(target, variant, vec![], then)
    }]
}

/// These bytes and nothing before them.
fn bare(target: &Target, variant: Variant, bytes: Vec<u8>, then: Then) -> Vec<Crowd> {
    vec![Crowd {
        opening: Arc::new(move |_| bytes.clone()),
        ..crowd(target, variant, vec![], then)
    }]
}

/// Nearly a whole message of the largest size, and signs of life.
fn messages(target: &Target, variant: Variant) -> Vec<Crowd> {
    let text = vec![b'x'; 65_000];
    let (bytes, sign) = match variant.transport {
        // In a fragment of its own, so that pings may follow.
        Transport::WebSocket => (
            Frame::new(TEXT, text).more().bytes(),
            Frame::new(PING, "").bytes(),
        ),
        Transport::Tcp => (text, b"x".to_vec()),
    };
    let then = Then::Trickle(sign, Duration::from_millis(500));
    begun(target, variant, bytes, then)
}

/// A head that has no end, a byte at a time.
fn heads(target: &Target, variant: Variant) -> Vec<Crowd> {
    let head = format!(
        "GET /ws HTTP/1.1\r\nHost: {}\r\nX-Filler: {}",
        target.hosts[0].websocket,
        "x".repeat(7_000)
    );
    let then = Then::Trickle(b"x".to_vec(), Duration::from_millis(50));
    bare(target, variant, head.into_bytes(), then)
}

/// A request a byte at a time: each costs a read.
fn bytewise(target: &Target, variant: Variant) -> Vec<Crowd> {
    let byte = match variant.transport {
        Transport::WebSocket => b"G".to_vec(),
        Transport::Tcp => b" ".to_vec(),
    };
    bare(
        target,
        variant,
        byte.clone(),
        Then::Trickle(byte, Duration::from_millis(5)),
    )
}

/// A frame that claims to be enormous.
fn claims(target: &Target, variant: Variant) -> Vec<Crowd> {
    let claim = Frame::new(TEXT, vec![b'x'; 1_000]).length(Length::Claimed(u64::MAX >> 1));
    begun(target, variant, claim.bytes(), Then::Stay)
}

fn proxies(target: &Target, variant: Variant) -> Vec<Crowd> {
    let header = "PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\nPROXY UNKNOWN ".repeat(20);
    let leave = Then::Leave {
        reset: false,
        after: Duration::from_millis(2),
    };
    bare(target, variant, header.into_bytes(), leave)
}

/// All of them.
pub fn all() -> Vec<Attack> {
    let here = Attack::here;
    vec![
        here(
            "partial-messages",
            "65,000 bytes of a message that never ends, and a sign of life now and then",
            &[WS_MANY, TCP_MANY, TCP_MANY_STRANGERS],
            messages,
        ),
        here(
            "partial-heads",
            "7,000 bytes of a request that never ends, a byte now and then",
            &[WS_MANY_STRANGERS],
            heads,
        ),
        here(
            "bytewise",
            "a byte every 5 ms",
            &[WS_MANY_STRANGERS, TCP_MANY],
            bytewise,
        ),
        here(
            "claims",
            "frames that claim to be enormous",
            &[WS_STRANGERS],
            claims,
        ),
        here(
            "proxy-headers",
            "PROXY headers from who is no proxy",
            &[WS_STRANGERS, TCP_STRANGERS],
            proxies,
        ),
    ]
}
