//! Somebody who comes, logs in, asks who is there, joins a group, leaves it and goes.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::time::timeout;

use super::judge::Kind;
use super::neighbours::Shared;
use crate::client::BOTH;
use crate::wire::{Ear, Heard, Mouth, come_from};

/// Within this a visit is over, or what was not answered counts as lost.
const LONGEST: Duration = Duration::from_secs(7);

/// What is asked for in one visit: login, `who`, `join`, `leave`.
const ANSWERS: u64 = 4;

/// Why a visit came to nothing.
pub(super) enum Failure {
    Refused(String),
    Closed(String),
    Wrong(String),
}

impl From<Failure> for String {
    fn from(failure: Failure) -> String {
        match failure {
            Failure::Refused(what) | Failure::Closed(what) | Failure::Wrong(what) => what,
        }
    }
}

/// Hears a message of this type.
pub(super) async fn hears(ear: &mut Ear, kind: &str) -> Result<Value, Failure> {
    loop {
        let text = match ear.hear().await {
            Ok(Heard::Text(text)) => text,
            Ok(Heard::Pong(_)) => continue,
            Ok(other) => return Err(Failure::Closed(format!("{other:?} for {kind}"))),
            Err(error) => return Err(Failure::Closed(format!("{error} for {kind}"))),
        };
        let message: Value =
            serde_json::from_str(&text).map_err(|error| Failure::Wrong(error.to_string()))?;
        return match message["type"].as_str() {
            Some(got) if got == kind => Ok(message),
            Some("error" | "kicked") => Err(Failure::Refused(message.to_string())),
            _ => Err(Failure::Wrong(format!("{message} for {kind}"))),
        };
    }
}

/// Says one thing.
pub(super) async fn says(mouth: &mut Mouth, message: &Value) -> Result<(), Failure> {
    let said = mouth.say(&message.to_string()).await;
    said.map_err(|error| Failure::Closed(error.to_string()))
}

/// One visit, which was due then.
pub(super) async fn visit(shared: Arc<Shared>, number: usize, due: Instant) {
    shared.due.fetch_add(ANSWERS, SeqCst);
    let mut answered = 0;
    let outcome = timeout(LONGEST, whole(&shared, number, due, &mut answered)).await;
    let what = format!("newcomer {number} after {:.0?}", due.elapsed());
    match outcome {
        Ok(Ok(())) => return,
        Ok(Err(Failure::Refused(why))) => shared.refused(format!("{what}: {why}")),
        Ok(Err(Failure::Closed(why))) => shared.closed(format!("{what}: {why}")),
        Ok(Err(Failure::Wrong(why))) => shared.lost(format!("{what}: {why}")),
        // What is missing counts as lost.
        Err(_) => return shared.told(format!("{what}: no answer")),
    }
    // It is told of once.
    shared.given_up(ANSWERS - answered);
}

async fn whole(
    shared: &Shared,
    number: usize,
    due: Instant,
    answered: &mut u64,
) -> Result<(), Failure> {
    let source = Ipv4Addr::new(127, 0, 1, 1 + (number % 100) as u8);
    let addresses = shared.hosts[number / 2 % shared.hosts.len()];
    let come = come_from(source, addresses, BOTH[number % 2]).await;
    let (mut mouth, mut ear) = come.map_err(|error| Failure::Closed(error.to_string()))?;
    hears(&mut ear, "open").await?;
    let name = format!("newcomer{number}");
    says(&mut mouth, &json!({"type": "login", "userName": name})).await?;
    hears(&mut ear, "system").await?;
    let mut came = |kind, since| {
        shared.sample(kind, since);
        *answered += 1;
    };
    came(Kind::Login, due);
    let since = Instant::now();
    let who = json!({"type": "who", "users": ["n0", "n1"]});
    says(&mut mouth, &who).await?;
    let presence = hears(&mut ear, "presence").await?;
    if presence["partial"] == true {
        return Err(Failure::Refused(presence.to_string()));
    }
    if presence["users"][0]["online"] != true || presence["users"][1]["online"] != true {
        return Err(Failure::Wrong(presence.to_string()));
    }
    came(Kind::Who, since);
    for what in ["join", "leave"] {
        let since = Instant::now();
        let group = format!("rendezvous{number}");
        says(&mut mouth, &json!({"type": what, "group": group})).await?;
        hears(&mut ear, "system").await?;
        came(Kind::Join, since);
    }
    says(&mut mouth, &json!({"type": "logout"})).await
}
