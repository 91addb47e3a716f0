//! Readers who do not read.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::crowd::{Crowd, Then};
use super::floods::{crowd, flood};
use super::list::*;
use super::requests::{later, members, requests};
use super::speech::object;
use crate::frames::{BINARY, Frame, PING};
use crate::raw::upgrade_request;

fn unread(mut crowds: Vec<Crowd>) -> Vec<Crowd> {
    crowds.iter_mut().for_each(|crowd| crowd.reads = false);
    crowds
}

/// A little more than was answered already, so that it stays below any limit, and a sign of life.
fn slowly(target: &Target, variant: Variant) -> Vec<Crowd> {
    let message = json!({"type": "sendto", "to": "mallory", "content": "x".repeat(8_000)});
    let bytes = object(variant.transport, &message);
    let then = Then::Trickle(bytes, Duration::from_millis(10));
    unread(vec![crowd(target, variant, vec![], then)])
}

fn group(target: &Target, variant: Variant) -> Vec<Crowd> {
    let join = vec![json!({"type": "join", "group": "theirs"})];
    let message =
        json!({"type": "sendgroup", "to": "theirs", "content": "x".repeat(200), "quiet": true});
    let unit = object(variant.transport, &message);
    let mut crowds = later(flood(target, variant, join, unit));
    crowds.push(members(target, 1_000, false));
    crowds
}

/// Sends to a user who does not read, and is told so.
fn to_a_slow_one(target: &Target, variant: Variant) -> Vec<Crowd> {
    let message =
        json!({"type": "sendto", "to": "mallory7", "content": "x".repeat(1_000), "quiet": true});
    let mut crowds = later(requests(target, variant, &message));
    crowds.extend(unread(vec![members(target, 8, false)]));
    crowds
}

fn echo(target: &Target, variant: Variant) -> Vec<Crowd> {
    let request = upgrade_request(target.hosts[0].websocket, "/echo", "").into_bytes();
    let then = Then::Repeat(Frame::new(BINARY, vec![7; 16_000]).bytes());
    unread(vec![Crowd {
        opening: Arc::new(move |_| request.clone()),
        ..crowd(target, variant, vec![], then)
    }])
}

fn pages(target: &Target, variant: Variant) -> Vec<Crowd> {
    let address = target.hosts[0].websocket;
    let request = format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n").into_bytes();
    let opening = request.clone();
    unread(vec![Crowd {
        opening: Arc::new(move |_| opening.clone()),
        ..crowd(target, variant, vec![], Then::Repeat(request))
    }])
}

/// All of them.
pub fn all() -> Vec<Attack> {
    let here = Attack::here;
    vec![
        here(
            "unread-pings",
            "empty pings; the pongs are not read",
            &[WS_NOBODY, WS_ONE, WS_STRANGERS, WS_USERS],
            |t, v| unread(flood(t, v, vec![], Frame::new(PING, "").bytes())),
        ),
        here(
            "unread-own",
            "messages to oneself that are not read",
            &[WS_ONE, TCP_HUNDRED, TCP_USERS],
            |t, v| {
                let message =
                    json!({"type": "sendto", "to": "mallory0", "content": "x".repeat(100)});
                unread(requests(t, v, &message))
            },
        ),
        here(
            "unread-slowly",
            "hundreds who write 800 KB a second to themselves, and do not read",
            &[WS_SESSIONS, TCP_MANY],
            slowly,
        ),
        here(
            "unread-group",
            "messages to a group of 1,000 sessions of one's own, who do not read",
            &[TCP_ONE, WS_USERS],
            group,
        ),
        here(
            "unread-friend",
            "messages to users who do not read",
            &[WS_USERS, TCP_ONE],
            to_a_slow_one,
        ),
        here(
            "unread-answers",
            "`ping` requests whose answers are not read",
            &[WS_STRANGERS, TCP_STRANGERS],
            |t, v| unread(requests(t, v, &json!({"type": "ping"}))),
        ),
        here(
            "unread-who",
            "`who` of 1,000 names whose answers are not read",
            &[WS_USERS, TCP_ONE],
            |t, v| {
                let names: Vec<String> = (0..1_000).map(|n| format!("somebody{n}")).collect();
                unread(requests(t, v, &json!({"type": "who", "users": names})))
            },
        ),
        Attack {
            settings: &[("diagnostics.echo", true)],
            ..here(
                "unread-echo",
                "binary messages to /echo that are not read",
                &[WS_NOBODY, WS_STRANGERS],
                echo,
            )
        },
        here(
            "unread-pages",
            "requests for the chat page that is not read",
            &[WS_STRANGERS],
            pages,
        ),
    ]
}
