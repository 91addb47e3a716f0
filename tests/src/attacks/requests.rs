//! Floods of requests that are understood.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::crowd::{Crowd, Then};
use super::floods::{crowd, flood};
use super::list::*;
use super::speech::{handshake, object};
use crate::Transport;
use crate::random::Random;

/// Until the others of an attack have come.
pub const GATHERED: Duration = Duration::from_millis(300);

/// As fast as it is read.
pub fn requests(target: &Target, variant: Variant, value: &Value) -> Vec<Crowd> {
    flood(target, variant, vec![], object(variant.transport, value))
}

/// So many TCP sessions, each of a user of its own, in the group `theirs`.
pub fn members(target: &Target, count: usize, reads: bool) -> Crowd {
    let variant = Variant {
        transport: Transport::Tcp,
        connections: count,
        identity: Identity::ManyUsers,
    };
    let join = vec![json!({"type": "join", "group": "theirs"})];
    Crowd {
        reads,
        ..crowd(target, variant, join, Then::Stay)
    }
}

/// Those who come when the others are there.
pub fn later(mut crowds: Vec<Crowd>) -> Vec<Crowd> {
    crowds.iter_mut().for_each(|crowd| crowd.delay = GATHERED);
    crowds
}

/// Members of a group of so many, some of whom do this.
fn beside(target: &Target, variant: Variant, count: usize, value: &Value) -> Vec<Crowd> {
    let join = vec![json!({"type": "join", "group": "theirs"})];
    let unit = object(variant.transport, value);
    let mut crowds = later(flood(target, variant, join, unit));
    crowds.push(members(target, count, true));
    crowds
}

/// Something new each time.
fn made(
    target: &Target,
    variant: Variant,
    value: impl Fn(usize, u64, u64) -> Value + Send + Sync + 'static,
) -> Vec<Crowd> {
    // Some at a time, so that a write is worth it.
    const AT_ONCE: u64 = 64;
    let then = Then::Make(Arc::new(move |life, number| {
        let each = |n| object(variant.transport, &value(life.connection, life.number, n));
        (number * AT_ONCE..(number + 1) * AT_ONCE)
            .flat_map(each)
            .collect()
    }));
    vec![crowd(target, variant, vec![], then)]
}

/// Logs in, and out, and comes again.
fn churn(target: &Target, variant: Variant, new_names: bool) -> Vec<Crowd> {
    let hello = handshake(target, variant, 0);
    let mut crowd = crowd(
        target,
        variant,
        vec![],
        Then::Leave {
            reset: false,
            // It is gone when the server has closed.
            after: Duration::from_millis(200),
        },
    );
    crowd.opening = Arc::new(move |life| {
        let name = if new_names {
            format!("m{}-{}", life.connection, life.number)
        } else {
            "mallory".to_owned()
        };
        let login = json!({"type": "login", "userName": name});
        [
            hello.clone(),
            object(variant.transport, &login),
            object(variant.transport, &json!({"type": "logout"})),
        ]
        .concat()
    });
    vec![crowd]
}

fn names(count: usize) -> Value {
    let names: Vec<String> = (0..count).map(|n| format!("somebody{n}")).collect();
    json!({"type": "who", "users": names})
}

/// Any request, at random.
fn mixed(target: &Target, variant: Variant) -> Vec<Crowd> {
    let seed = target.seed;
    made(target, variant, move |connection, life, number| {
        let mut random = Random::new(seed ^ (connection as u64) << 48 ^ life << 32 ^ number);
        let group = format!("g{}", random.below(50));
        let user = format!("mallory{}", random.below(100));
        let content = "x".repeat(random.below(900));
        match random.below(10) {
            0 => json!({"type": "ping"}),
            1 | 2 => json!({"type": "join", "group": group}),
            3 => json!({"type": "leave", "group": group}),
            4 => json!({"type": "who", "group": group}),
            5 => json!({"type": "who", "users": [user, "n0"]}),
            6 | 7 => json!({"type": "sendgroup", "to": group, "content": content}),
            _ => json!({"type": "sendto", "to": user, "content": content, "id": number}),
        }
    })
}

/// All of them.
pub fn all() -> Vec<Attack> {
    let here = Attack::here;
    vec![
        here(
            "ping-requests",
            "requests `ping`",
            &[WS_NOBODY, TCP_ONE, WS_HUNDRED, TCP_STRANGERS],
            |t, v| requests(t, v, &json!({"type": "ping"})),
        ),
        here(
            "who-users",
            "`who` of 2,000 names",
            &[WS_ONE, TCP_USERS],
            |t, v| requests(t, v, &names(2_000)),
        ),
        here(
            "who-group",
            "`who` of a group of 2,000 sessions of one's own",
            &[TCP_ONE, WS_USERS],
            |t, v| beside(t, v, 2_000, &json!({"type": "who", "group": "theirs"})),
        ),
        here(
            "login-again",
            "logins of who is logged in",
            &[WS_ONE, TCP_HUNDRED],
            |t, v| requests(t, v, &json!({"type": "login", "userName": "mallory"})),
        ),
        here(
            "login-refused",
            "logins with a name that is none",
            &[WS_STRANGERS, TCP_NOBODY],
            |t, v| requests(t, v, &json!({"type": "login", "userName": ""})),
        ),
        here(
            "login-logout",
            "logs in and out as one user",
            &[WS_HUNDRED, TCP_HUNDRED],
            |t, v| churn(t, v, false),
        ),
        here(
            "new-names",
            "logs in and out under ever new names",
            &[WS_USERS, TCP_USERS],
            |t, v| churn(t, v, true),
        ),
        here(
            "new-groups",
            "joins ever new groups",
            &[TCP_ONE, WS_HUNDRED, TCP_USERS],
            |t, v| {
                made(
                    t,
                    v,
                    |connection, life, number| json!({"type": "join", "group": format!("m{connection}-{life}-{number}")}),
                )
            },
        ),
        here(
            "join-leave",
            "joins and leaves one group",
            &[TCP_ONE, WS_USERS],
            |t, v| {
                let join = object(v.transport, &json!({"type": "join", "group": "theirs"}));
                let leave = object(v.transport, &json!({"type": "leave", "group": "theirs"}));
                flood(t, v, vec![], [join, leave].concat())
            },
        ),
        here(
            "to-self",
            "messages to oneself",
            &[WS_ONE, TCP_ONE, TCP_HUNDRED],
            |t, v| {
                requests(
                    t,
                    v,
                    &json!({"type": "sendto", "to": "mallory", "content": "to me"}),
                )
            },
        ),
        here(
            "to-nobody",
            "messages to nobody; each is answered",
            &[WS_ONE, TCP_USERS],
            |t, v| {
                requests(
                    t,
                    v,
                    &json!({"type": "sendto", "to": "nobody", "content": 1, "id": 1}),
                )
            },
        ),
        here(
            "largest",
            "the largest messages that are allowed, to oneself",
            &[WS_ONE, TCP_USERS],
            |t, v| {
                let content = "x".repeat(65_400);
                requests(
                    t,
                    v,
                    &json!({"type": "sendto", "to": "mallory0", "content": content}),
                )
            },
        ),
        here(
            "too-large",
            "messages just too large, for which it is closed",
            &[WS_ONE, TCP_USERS],
            |t, v| {
                let content = "x".repeat(65_600);
                requests(
                    t,
                    v,
                    &json!({"type": "sendto", "to": "mallory0", "content": content}),
                )
            },
        ),
        here(
            "own-sessions",
            "400 sessions of one user write to it: each message goes to 399 others",
            &[WS_SESSIONS, TCP_SESSIONS],
            |t, v| {
                requests(
                    t,
                    v,
                    &json!({"type": "sendto", "to": "mallory", "content": "us"}),
                )
            },
        ),
        here(
            "own-group",
            "messages to a group of 1,000 sessions of one's own, who read",
            &[TCP_ONE, WS_USERS],
            |t, v| {
                beside(
                    t,
                    v,
                    1_000,
                    &json!({"type": "sendgroup", "to": "theirs", "content": "us"}),
                )
            },
        ),
        here(
            "broadcasts",
            "broadcasts, which are refused",
            &[WS_ONE, TCP_USERS],
            |t, v| {
                requests(
                    t,
                    v,
                    &json!({"type": "broadcast", "content": "hear", "id": 1}),
                )
            },
        ),
        here(
            "old-forms",
            "messages as older clients write them",
            &[TCP_USERS],
            |t, v| {
                requests(
                    t,
                    v,
                    &json!({"cmd": "chat", "send": "x", "recv": "mallory1", "content": "old"}),
                )
            },
        ),
        here(
            "to-the-neighbours",
            "messages to a group it is not in, and to a user of another's",
            &[TCP_ONE],
            |t, v| {
                requests(
                    t,
                    v,
                    &json!({"type": "sendgroup", "to": "neighbours", "content": 1}),
                )
            },
        ),
        here(
            "mixed",
            "any request at random",
            &[WS_USERS, TCP_USERS],
            mixed,
        ),
    ]
}
