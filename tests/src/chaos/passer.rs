//! A passer-by: comes, logs in, says a word, goes, and comes again, as long as the chaos lasts.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::member::gone;
use super::world::{Phase, World};
use crate::client::BOTH;
use crate::random::Random;
use crate::wait::PATIENCE;
use crate::wire::{Ear, Heard, Manner, connect};

/// Until nobody talks any more; faults go to the ledger.
pub async fn pass(world: Arc<World>, number: usize) {
    let mut random = world.plan.random("passer", number);
    while world.phase() == Phase::Talking {
        let Some(busy) = world.busy().await else {
            return;
        };
        let visit = timeout(PATIENCE, visit(&world, number, &mut random)).await;
        if let Err(what) = visit.unwrap_or_else(|_| Err("a visit that never ended".into())) {
            world.ledger.fault(format!("passer-by {number}: {what}"));
            return;
        }
        drop(busy);
        world.ledger.count("passers-by", 1);
        let pause = random.below(300);
        sleep(Duration::from_millis(pause as u64)).await;
    }
}

async fn visit(world: &World, number: usize, random: &mut Random) -> Result<(), String> {
    let broken = |error: std::io::Error| format!("the connection broke: {error}");
    let transport = BOTH[random.below(2)];
    let manner = Manner {
        random: Random::new(random.bits()),
        cut_one_in: 2,
        pause_max: Duration::from_millis(200),
        fragments_one_in: 2,
    };
    let (mut mouth, mut ear) = connect(world.addresses, transport, None, manner)
        .await
        .map_err(broken)?;
    expect(&mut ear, "open", |_| true).await?;
    let login = json!({"type": "login", "userName": format!("p{number}")});
    mouth.say(&login.to_string()).await.map_err(broken)?;
    expect(&mut ear, "system", |said| said["event"] == "login").await?;
    let join = json!({"type": "join", "group": "street"});
    mouth.say(&join.to_string()).await.map_err(broken)?;
    // Here, as below, the answer before may come again if a process died over it.
    expect(&mut ear, "system", |said| said["event"] == "join").await?;
    mouth
        .say(&json!({"type": "ping"}).to_string())
        .await
        .map_err(broken)?;
    expect(&mut ear, "pong", |_| true).await?;
    if random.one_in(3) {
        // Without a word, and with what was said last perhaps unread.
        return Ok(());
    }
    mouth
        .say(&json!({"type": "logout"}).to_string())
        .await
        .map_err(broken)?;
    loop {
        match ear.hear().await.map_err(broken)? {
            Heard::Close(Some(1000)) => break,
            Heard::Text(text) if text.contains(r#""closeCode":1000"#) => break,
            Heard::Text(text) if text.contains(r#"{"type":"pong""#) => {}
            other => return Err(format!("{other:?} where a close with 1000 was to come")),
        }
    }
    gone(mouth, ear, transport).await
}

/// The next message is of that kind, or the last one again and then of that kind.
async fn expect(ear: &mut Ear, kind: &str, is: impl Fn(&Value) -> bool) -> Result<(), String> {
    let mut passed = 0;
    loop {
        let heard = ear
            .hear()
            .await
            .map_err(|error| format!("the connection broke: {error}"))?;
        let Heard::Text(text) = &heard else {
            return Err(format!("{heard:?} where {kind} was to come"));
        };
        let said: Value =
            serde_json::from_str(text).map_err(|error| format!("{error} in {text:?}"))?;
        if said["type"] == kind && is(&said) {
            return Ok(());
        }
        passed += 1;
        if passed > 2 || said["type"] != "system" {
            return Err(format!("{text:?} where {kind} was to come"));
        }
    }
}
