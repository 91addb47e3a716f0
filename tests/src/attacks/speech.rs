//! What attackers say, as bytes.

use serde_json::{Value, json};

use super::crowd::{Life, Script};
use super::list::{Identity, Target, Variant};
use crate::Transport;
use crate::frames::Frame;
use crate::raw::upgrade_request;
use std::sync::Arc;

/// A text as one message on that transport.
pub fn said(transport: Transport, text: &str) -> Vec<u8> {
    match transport {
        Transport::WebSocket => Frame::text(text).bytes(),
        Transport::Tcp => format!("{text}\n").into_bytes(),
    }
}

/// An object as one message.
pub fn object(transport: Transport, value: &Value) -> Vec<u8> {
    said(transport, &value.to_string())
}

/// What comes before the first message: on WebSocket the request to upgrade. The answer is not waited for.
pub fn handshake(target: &Target, variant: Variant, host: usize) -> Vec<u8> {
    match variant.transport {
        Transport::WebSocket => {
            upgrade_request(target.hosts[host].websocket, "/ws", "").into_bytes()
        }
        Transport::Tcp => Vec::new(),
    }
}

/// The name under which a connection of an attack logs in; `None`: it does not.
pub fn name(variant: Variant, connection: usize) -> Option<String> {
    match variant.identity {
        Identity::Nobody => None,
        Identity::OneUser => Some("mallory".into()),
        Identity::ManyUsers => Some(format!("mallory{connection}")),
    }
}

/// Handshake, login where the variant has one, and these messages.
pub fn opening(target: &Target, variant: Variant, host: usize, more: Vec<Value>) -> Script {
    let hello = handshake(target, variant, host);
    let more: Vec<u8> = more
        .iter()
        .flat_map(|value| object(variant.transport, value))
        .collect();
    Arc::new(move |life: Life| {
        let login = name(variant, life.connection)
            .map(|name| {
                object(
                    variant.transport,
                    &json!({"type": "login", "userName": name}),
                )
            })
            .unwrap_or_default();
        [&hello[..], &login, &more].concat()
    })
}
