//! Connections that come and go, say nothing, or speak HTTP.

use std::sync::Arc;
use std::time::Duration;

use super::crowd::{Crowd, Then};
use super::floods::crowd;
use super::list::*;
use crate::raw::upgrade_request;

fn bare(target: &Target, variant: Variant, bytes: Vec<u8>, then: Then) -> Vec<Crowd> {
    vec![Crowd {
        opening: Arc::new(move |_| bytes.clone()),
        ..crowd(target, variant, vec![], then)
    }]
}

fn leave(reset: bool, after_ms: u64) -> Then {
    Then::Leave {
        reset,
        after: Duration::from_millis(after_ms),
    }
}

/// Asks for this and goes, or is closed, when the answer has come.
fn asks(target: &Target, variant: Variant, request: &str) -> Vec<Crowd> {
    bare(target, variant, request.into(), leave(false, 200))
}

fn get(target: &Target, path: &str, more: &str) -> String {
    let address = target.hosts[0].websocket;
    format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{more}Connection: close\r\n\r\n")
}

/// All of them.
pub fn all() -> Vec<Attack> {
    let here = Attack::here;
    vec![
        here(
            "connect-close",
            "connects and closes",
            &[WS_STRANGERS, TCP_STRANGERS],
            |t, v| bare(t, v, vec![], leave(false, 0)),
        ),
        here(
            "connect-reset",
            "connects and resets",
            &[WS_STRANGERS, TCP_STRANGERS],
            |t, v| bare(t, v, vec![], leave(true, 1)),
        ),
        here(
            "silent",
            "connects and says nothing, more than there are rows",
            &[WS_ALL_STRANGERS, TCP_ALL_STRANGERS],
            |t, v| bare(t, v, vec![], Then::Stay),
        ),
        here(
            "hoard",
            "logs in and stays, more than there are rows",
            &[TCP_ALL_ONE, TCP_ALL_USERS],
            |t, v| vec![crowd(t, v, vec![], Then::Stay)],
        ),
        here(
            "half-handshakes",
            "begins the handshake and goes",
            &[WS_STRANGERS],
            |t, v| bare(t, v, b"GET /ws HTTP/1.1\r\nUpgr".to_vec(), leave(false, 1)),
        ),
        here(
            "handshakes",
            "upgrades and goes",
            &[WS_STRANGERS],
            |t, v| {
                let request = upgrade_request(t.hosts[0].websocket, "/ws", "");
                bare(t, v, request.into_bytes(), leave(false, 5))
            },
        ),
        here(
            "full-heads",
            "upgrades with as many header fields as there may be",
            &[WS_STRANGERS],
            |t, v| {
                let fields: String = (0..90)
                    .map(|n| format!("X-{n}: {}\r\n", "v".repeat(60)))
                    .collect();
                let request = upgrade_request(t.hosts[0].websocket, "/ws", &fields);
                bare(t, v, request.into_bytes(), leave(false, 5))
            },
        ),
        here(
            "wrong-http",
            "requests that are none",
            &[WS_STRANGERS],
            |t, v| asks(t, v, "BREW /pot HTCPCP/1.0\r\n\r\n"),
        ),
        here("healthz", "asks for /healthz", &[WS_STRANGERS], |t, v| {
            asks(t, v, &get(t, "/healthz", ""))
        }),
        here(
            "pages",
            "asks for the chat page",
            &[WS_STRANGERS],
            |t, v| asks(t, v, &get(t, "/", "")),
        ),
        here(
            "forbidden-pages",
            "upgrades from pages of other origins",
            &[WS_STRANGERS],
            |t, v| {
                let more = "Origin: http://evil.example\r\n";
                let request = upgrade_request(t.hosts[0].websocket, "/ws", more);
                asks(t, v, &request)
            },
        ),
        here(
            "urgent",
            "urgent bytes, out of line",
            &[TCP_STRANGERS],
            |t, v| bare(t, v, vec![], Then::Urgent),
        ),
    ]
}
