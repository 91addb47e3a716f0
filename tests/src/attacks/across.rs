//! Attacks on the way to other hosts, and on the directory.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::crowd::{Crowd, Then};
use super::floods::{crowd, flood};
use super::list::*;
use super::requests::{GATHERED, later, requests};
use super::speech::{handshake, object, opening};
use crate::Transport;

/// A user on the second host, `victim`, who is the attackers' own.
fn victims(target: &Target, count: usize, reads: bool, more: Vec<Value>) -> Crowd {
    let variant = Variant {
        transport: Transport::Tcp,
        connections: count,
        identity: Identity::ManyUsers,
    };
    // Another name than those on the first host.
    let more: Vec<u8> = more
        .iter()
        .flat_map(|value| object(variant.transport, value))
        .collect();
    Crowd {
        address: target.hosts[1].tcp,
        opening: Arc::new(move |life| {
            let name = format!("victim{}", life.connection);
            let login = json!({"type": "login", "userName": name});
            [&object(variant.transport, &login)[..], &more].concat()
        }),
        reads,
        ..crowd(target, variant, vec![], Then::Stay)
    }
}

fn to_a_user(target: &Target, variant: Variant, reads: bool) -> Vec<Crowd> {
    let message =
        json!({"type": "sendto", "to": "victim0", "content": "x".repeat(200), "quiet": true});
    let mut crowds = later(requests(target, variant, &message));
    crowds.push(victims(target, 1, reads, vec![]));
    crowds
}

/// Ever new names, so that each must be looked up.
fn new_recipients(target: &Target, variant: Variant) -> Vec<Crowd> {
    let then = Then::Make(Arc::new(move |life, number| {
        let each = |n: u64| {
            let to = format!("nobody{}-{}-{n}", life.connection, life.number);
            let message = json!({"type": "sendto", "to": to, "content": 1, "quiet": true});
            object(variant.transport, &message)
        };
        (number * 64..(number + 1) * 64).flat_map(each).collect()
    }));
    vec![crowd(target, variant, vec![], then)]
}

fn names(target: &Target, variant: Variant) -> Vec<Crowd> {
    let names: Vec<String> = (0..5_000).map(|n| format!("s{n}")).collect();
    requests(target, variant, &json!({"type": "who", "users": names}))
}

fn group(target: &Target, variant: Variant, value: &Value) -> Vec<Crowd> {
    let join = vec![json!({"type": "join", "group": "theirs"})];
    let unit = object(variant.transport, value);
    let mut crowds = later(flood(target, variant, join.clone(), unit));
    crowds.push(victims(target, 1_000, true, join));
    crowds
}

/// Logs in under ever new names on the first host, joins a new group, and goes.
fn directory(target: &Target, variant: Variant) -> Vec<Crowd> {
    let hello = handshake(target, variant, 0);
    let leave = Then::Leave {
        reset: false,
        after: Duration::from_millis(20),
    };
    let mut crowd = crowd(target, variant, vec![], leave);
    crowd.opening = Arc::new(move |life| {
        let name = format!("m{}-{}", life.connection, life.number);
        let login = json!({"type": "login", "userName": name});
        let join = json!({"type": "join", "group": name});
        [
            hello.clone(),
            object(variant.transport, &login),
            object(variant.transport, &join),
        ]
        .concat()
    });
    vec![crowd]
}

/// Sessions of one user on both hosts that write to it.
fn sessions(target: &Target, variant: Variant) -> Vec<Crowd> {
    let message = json!({"type": "sendto", "to": "mallory", "content": "us"});
    let mut crowds = requests(target, variant, &message);
    let mut second = crowds[0].clone();
    second.address = target.hosts[1].on(variant.transport);
    second.opening = opening(target, variant, 1, vec![]);
    crowds.push(second);
    crowds
}

const fn across(
    name: &'static str,
    does: &'static str,
    variants: &'static [Variant],
    crowds: fn(&Target, Variant) -> Vec<Crowd>,
) -> Attack {
    Attack {
        hosts: 2,
        ..Attack::here(name, does, variants, crowds)
    }
}

/// All of them.
pub fn all() -> Vec<Attack> {
    vec![
        across(
            "far-user",
            "messages to a user elsewhere, who reads",
            &[WS_ONE, TCP_HUNDRED, TCP_USERS],
            |t, v| to_a_user(t, v, true),
        ),
        across(
            "far-unread",
            "messages to a user elsewhere, who does not read",
            &[TCP_ONE],
            |t, v| to_a_user(t, v, false),
        ),
        across(
            "far-nobody",
            "messages to one user who does not exist",
            &[TCP_ONE, WS_USERS],
            |t, v| {
                let message =
                    json!({"type": "sendto", "to": "nobody", "content": 1, "quiet": true});
                requests(t, v, &message)
            },
        ),
        across(
            "far-new-nobody",
            "messages to ever new users who do not exist",
            &[TCP_ONE, TCP_HUNDRED, WS_USERS],
            new_recipients,
        ),
        across(
            "far-who-users",
            "`who` of 5,000 names",
            &[TCP_ONE, WS_USERS],
            names,
        ),
        across(
            "far-who-group",
            "`who` of a group of 1,000 sessions elsewhere",
            &[TCP_ONE, WS_USERS],
            |t, v| group(t, v, &json!({"type": "who", "group": "theirs"})),
        ),
        across(
            "far-group",
            "messages to a group of 1,000 sessions elsewhere",
            &[TCP_ONE, WS_USERS],
            |t, v| {
                let message =
                    json!({"type": "sendgroup", "to": "theirs", "content": "us", "quiet": true});
                group(t, v, &message)
            },
        ),
        across(
            "far-logins",
            "logs in under ever new names, joins new groups and goes: the directory is written",
            &[TCP_USERS],
            directory,
        ),
        across(
            "far-largest",
            "the largest messages to a user elsewhere",
            &[TCP_USERS],
            |t, v| {
                let content = "x".repeat(65_000);
                let message =
                    json!({"type": "sendto", "to": "victim0", "content": content, "quiet": true});
                let mut crowds = later(requests(t, v, &message));
                crowds.push(victims(t, 1, true, vec![]));
                crowds
            },
        ),
        across(
            "far-sessions",
            "100 sessions of one user on either host write to it",
            &[TCP_HUNDRED],
            sessions,
        ),
        across(
            "far-pings",
            "empty pings, unread, on a host of a cluster",
            &[WS_STRANGERS],
            |t, v| {
                let ping = crate::Frame::new(crate::frames::PING, "").bytes();
                let mut crowds = flood(t, v, vec![], ping);
                crowds[0].reads = false;
                crowds[0].delay = GATHERED / 10;
                crowds
            },
        ),
    ]
}
