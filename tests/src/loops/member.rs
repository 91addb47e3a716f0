//! One member of a pair: two tasks, one that hears and one that writes what it may.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::time::sleep;

use super::plan::{Kind, Pace, PairPlan};
use super::state::{Gate, State};
use crate::random::Random;
use crate::wire::{Addresses, Ear, Heard, Manner, Mouth, connect};

/// Comes, logs in, and stays until the gate is closed; faults go to the state.
pub async fn live(state: Arc<State>, addresses: Addresses, index: usize) {
    if let Err(what) = life(&state, addresses, index).await
        && state.gate() != Gate::Closed
    {
        let transport = state.pair(index).transports[index % 2];
        state.fault(format!("{} on {transport:?}: {what}", name(index)));
    }
}

async fn life(state: &Arc<State>, addresses: Addresses, index: usize) -> Result<(), String> {
    let broken = |error: std::io::Error| format!("the connection broke: {error}");
    let transport = state.pair(index).transports[index % 2];
    let manner = Manner {
        random: Random::new(index as u64),
        ..Manner::plain()
    };
    let (mut mouth, mut ear) = connect(addresses, transport, None, manner)
        .await
        .map_err(broken)?;
    let login = json!({"type": "login", "userName": name(index)});
    mouth.say(&login.to_string()).await.map_err(broken)?;
    until_event(&mut ear, "login").await?;
    if state.has_choir() {
        let join = json!({"type": "join", "group": CHOIR});
        mouth.say(&join.to_string()).await.map_err(broken)?;
        until_event(&mut ear, "join").await?;
    }
    state.arrived.send_modify(|arrived| *arrived += 1);
    let writing = state.clone();
    let mut closed = state.gates.subscribe();
    tokio::select! {
        said = write(writing, index, mouth) => said.map_err(broken),
        end = hear(state, index, ear) => end,
        _ = closed.wait_for(|gate| *gate == Gate::Closed) => Ok(()),
    }
}

/// Hears up to the answer to a request.
async fn until_event(ear: &mut Ear, event: &str) -> Result<(), String> {
    loop {
        let said = heard(ear).await?;
        if said["event"] == event {
            return Ok(());
        }
        if said["type"] == "error" {
            return Err(said.to_string());
        }
    }
}

/// The group that everybody is in.
const CHOIR: &str = "choir";

/// The user that a member is.
pub fn name(index: usize) -> String {
    format!("l{index}")
}

async fn heard(ear: &mut Ear) -> Result<Value, String> {
    match ear.hear().await {
        Ok(Heard::Text(text)) => {
            serde_json::from_str(&text).map_err(|error| format!("{error} in {text:?}"))
        }
        other => Err(format!("{other:?} was not to come")),
    }
}

async fn hear(state: &State, index: usize, mut ear: Ear) -> Result<(), String> {
    let from = name(index ^ 1);
    let side = &state.sides[index];
    let kind = state.pair(index).kind;
    let mut next: u64 = 0;
    let mut next_ack: u64 = 0;
    let mut next_choir: u64 = 0;
    loop {
        let said = heard(&mut ear).await?;
        match (said["type"].as_str(), said["event"].as_str()) {
            (Some("message"), _) if said["group"] == CHOIR => {
                match said["content"].as_u64() {
                    Some(number) if number == next_choir => {}
                    Some(number) if number + 1 == next_choir => {
                        state.twice.fetch_add(1, SeqCst);
                        continue;
                    }
                    _ => return Err(format!("number {next_choir} was to come, not {said}")),
                }
                state.choir_came(|| format!("number {next_choir} to everybody at {}", name(index)));
                next_choir += 1;
            }
            (Some("message"), _) if said["from"] == from.as_str() => {
                let content = said["content"].as_str().unwrap_or_default();
                let number = content
                    .split(' ')
                    .next()
                    .and_then(|text| text.parse::<u64>().ok());
                match number {
                    Some(number) if number == next => {}
                    Some(number) if number + 1 == next => {
                        state.twice.fetch_add(1, SeqCst);
                        continue;
                    }
                    _ => return Err(format!("number {next} was to come, not {said}")),
                }
                let sent = state.sides[index ^ 1].under_way.lock().unwrap().pop_front();
                let sent = sent.ok_or_else(|| format!("nobody sent {said}"))?;
                state
                    .waits
                    .ended(sent, || format!("number {next} from {from}"));
                next += 1;
                let heir = match kind {
                    Kind::Conversation => index,
                    Kind::Reader => index ^ 1,
                };
                state.came(heir);
            }
            (Some("ack"), _) if said["status"] == "delivered" => {
                match said["id"].as_u64() {
                    Some(number) if number == next_ack => {}
                    Some(number) if number + 1 == next_ack => {
                        state.twice.fetch_add(1, SeqCst);
                        continue;
                    }
                    _ => return Err(format!("ack {next_ack} was to come, not {said}")),
                }
                let sent = side.unanswered.lock().unwrap().pop_front();
                let sent = sent.ok_or_else(|| format!("nobody asked for {said}"))?;
                state
                    .waits
                    .ended(sent, || format!("the ack {next_ack} to {}", name(index)));
                next_ack += 1;
            }
            (Some("system"), Some("login" | "join")) => {}
            _ => return Err(format!("{said} was not to come")),
        }
    }
}

async fn write(state: Arc<State>, index: usize, mut mouth: Mouth) -> std::io::Result<()> {
    let mut random = Random::new(index as u64);
    let side = &state.sides[index];
    let pair = state.pair(index);
    let mut volleys = state.volleys.subscribe();
    let mut number = 0;
    loop {
        let volley = tokio::select! {
            () = side.wake.notified() => {
                match state.pace() {
                    Pace::Each => think(&state, &mut random).await,
                    Pace::Volleys => continue,
                    Pace::Once => {}
                }
                false
            }
            _ = volleys.changed() => true,
        };
        let count = loop {
            state.until_open().await;
            // It may be held again in between.
            if let Some(count) = state.take(index) {
                break count;
            }
        };
        if volley {
            state.answers_the_volley();
        }
        let mut texts: Vec<String> = (number..number + count)
            .map(|number| request(pair, index, number))
            .collect();
        number += count;
        if index == 0
            && count > 0
            && let Some(number) = state.take_choir()
        {
            let request =
                json!({"type": "sendgroup", "to": CHOIR, "content": number, "quiet": true});
            texts.push(request.to_string());
        }
        let said = mouth.say_all(&texts).await;
        state.written();
        said?;
    }
}

async fn think(state: &State, random: &mut Random) {
    let most = state.think.as_micros() as usize;
    let time = Duration::from_micros(random.below(most + 1) as u64);
    let mut hurry = state.hurry.subscribe();
    tokio::select! {
        () = sleep(time) => {}
        _ = hurry.wait_for(|hurry| *hurry) => {}
    }
}

fn request(pair: &PairPlan, index: usize, number: u64) -> String {
    let filler = "z".repeat(pair.length);
    let to = name(index ^ 1);
    let (key, value) = match pair.acknowledged {
        true => ("id", number.into()),
        false => ("quiet", Value::from(true)),
    };
    json!({"type": "sendto", "to": to, "content": format!("{number} {filler}"), key: value})
        .to_string()
}

/// For [`State::take`]: so many go out now.
pub fn instants(count: u32) -> impl Iterator<Item = Instant> {
    std::iter::repeat_n(Instant::now(), count as usize)
}
