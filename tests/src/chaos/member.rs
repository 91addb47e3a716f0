//! One member: comes, joins its circle, writes letters until the chaos is over, and leaves.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::answers::Answer;
use super::ledger::Account;
use super::letter::{Letter, To};
use super::listener::{Listener, group, name};
use super::world::{Phase, World};
use crate::client::Transport;
use crate::frames::Frame;
use crate::random::Random;
use crate::wait::PATIENCE;
use crate::wire::{Ear, Heard, Manner, Mouth, connect};

/// The largest filler of a letter: with its head, written as JSON, still below 65,536 bytes.
const LARGE: usize = 48_000;

/// The longest pause between two pieces of one write.
pub(super) const PAUSE_MAX: Duration = Duration::from_millis(30);

/// Each pair is one of the four combinations of transports.
fn transport(index: usize) -> Transport {
    match (index / 2 + index % 2 * (index / 4 % 2)) % 2 {
        0 => Transport::WebSocket,
        _ => Transport::Tcp,
    }
}

/// From beginning to end; faults go to the ledger.
pub async fn live(world: Arc<World>, index: usize) {
    let ledger = &world.ledger;
    if let Err(what) = life(world.clone(), index).await {
        ledger.fault(format!("member {index} on {:?}: {what}", transport(index)));
        // Others of its circle may wait for it at the beginning.
        ledger.accounts[index].silent.store(true, SeqCst);
    }
}

async fn life(world: Arc<World>, index: usize) -> Result<(), String> {
    let mut random = world.plan.random("member", index);
    let circle = index / world.plan.circle;
    if circle < world.plan.late_circles {
        let latest = world.plan.duration().as_millis() as usize * 6 / 10;
        let pause = Duration::from_millis(random.below(latest + 1) as u64);
        let _ = timeout(pause, world.until(Phase::Listening)).await;
    }
    let dozes = index % 5 == 2;
    let manner = Manner {
        random: Random::new(random.bits()),
        cut_one_in: 5,
        pause_max: PAUSE_MAX,
        fragments_one_in: 4,
    };
    // A newcomer's requests wake whoever sleeps, as anybody's do.
    let busy = world.busy().await;
    let (mouth, ear) = connect(
        world.addresses,
        transport(index),
        dozes.then_some(4_096),
        manner,
    )
    .await
    .map_err(|error| format!("connecting: {error}"))?;
    let listener = Listener::new(world.clone(), index, dozes);
    drop(busy);
    let mut listening = tokio::spawn(listener.listen(ear));
    let mut writer = Writer {
        world: world.clone(),
        index,
        mouth,
        random,
    };
    // A listener that ends early takes the writer with it.
    let heard = tokio::select! {
        said = writer.talk() => {
            said.map_err(|error| format!("sending: {error}"))?;
            timeout(PATIENCE, listening).await.map_err(|_| "no end came after a logout")?
        }
        heard = &mut listening => heard,
    };
    let ((code, words), ear) = heard.expect("a listener does not panic")?;
    let phase = world.phase();
    if (code, phase) != (Some(1000), Phase::Leaving) {
        return Err(format!("closed with {code:?} while {phase:?}: {words}"));
    }
    timeout(PATIENCE, gone(writer.mouth, ear, transport(index)))
        .await
        .map_err(|_| "the connection stayed after its close")?
}

/// The close is answered, and the connection ends with nothing more.
pub(super) async fn gone(
    mut mouth: Mouth,
    mut ear: Ear,
    transport: Transport,
) -> Result<(), String> {
    if transport == Transport::WebSocket {
        // The server may have ended it already.
        let _ = mouth.frame(&Frame::close(1000, "")).await;
    }
    match ear.hear().await {
        Ok(Heard::End) => Ok(()),
        other => Err(format!("{other:?} after the close")),
    }
}

struct Writer {
    world: Arc<World>,
    index: usize,
    mouth: Mouth,
    random: Random,
}

impl Writer {
    async fn talk(&mut self) -> std::io::Result<()> {
        let world = self.world.clone();
        let circle = self.index / world.plan.circle;
        let busy = world.busy().await;
        self.ask(
            Answer::Login,
            json!({"type": "login", "userName": name(self.index)}),
        )
        .await?;
        self.ask(
            Answer::Join,
            json!({"type": "join", "group": group(circle)}),
        )
        .await?;
        drop(busy);
        world.circles[circle].wait().await;
        let pause = world.plan.pause().as_micros() as usize;
        let mut storms = world.storms.subscribe();
        while world.phase() == Phase::Talking {
            let pause = Duration::from_micros(self.random.below(2 * pause) as u64);
            let storm = tokio::select! {
                () = sleep(pause) => false,
                () = world.until(Phase::Listening) => break,
                _ = storms.changed() => {
                    let storm = *storms.borrow_and_update();
                    if !world.is_in_storm(self.index, storm) {
                        continue;
                    }
                    true
                }
            };
            let Some(_busy) = world.busy().await else {
                break;
            };
            self.say_something(storm).await?;
        }
        self.account().silent.store(true, SeqCst);
        world.until(Phase::Leaving).await;
        self.mouth.say(&json!({"type": "logout"}).to_string()).await
    }

    async fn say_something(&mut self, storm: bool) -> std::io::Result<()> {
        match self.random.below(40) {
            _ if storm => self.bundle(15).await,
            0 => {
                let count = 2 + self.random.below(30);
                self.bundle(count).await?;
                // As if it had written them one after another.
                sleep(self.world.plan.pause() * count as u32 / 2).await;
                Ok(())
            }
            1 => {
                self.account().answers.expect(Answer::Pong);
                self.mouth.say(&json!({"type": "ping"}).to_string()).await
            }
            2 if transport(self.index) == Transport::WebSocket => {
                let payload = self.random.bits().to_le_bytes();
                self.account().answers.expect_pong(payload.to_vec());
                self.mouth.ping(&payload).await
            }
            _ => {
                let letter = self.letter();
                self.mouth.say(&letter).await
            }
        }
    }

    /// So many letters in one piece.
    async fn bundle(&mut self, count: usize) -> std::io::Result<()> {
        let letters: Vec<String> = (0..count).map(|_| self.letter()).collect();
        self.mouth.say_all(&letters).await
    }

    fn account(&self) -> &Account {
        &self.world.ledger.accounts[self.index]
    }

    /// Says it and waits for the answer.
    async fn ask(&mut self, answer: Answer, request: Value) -> std::io::Result<()> {
        self.account().answers.expect(answer);
        self.mouth.say(&request.to_string()).await?;
        self.account().answers.all().await;
        Ok(())
    }

    /// Writes the next letter, and notes that it was sent and how it will be answered.
    fn letter(&mut self) -> String {
        let account = &self.world.ledger.accounts[self.index];
        let (to, kind, address, number) = if self.random.one_in(12) {
            let circle = self.index / self.world.plan.circle;
            let number = account.to_circle.fetch_add(1, SeqCst);
            (To::Circle(circle), "sendgroup", group(circle), number)
        } else {
            let partner = self.index ^ 1;
            let number = account.to_partner.fetch_add(1, SeqCst);
            account
                .under_way
                .lock()
                .unwrap()
                .push_back(std::time::Instant::now());
            (To::Member(partner), "sendto", name(partner), number)
        };
        let letter = Letter {
            from: self.index,
            to,
            number,
        };
        let filler = match self.random.below(100) {
            0 => LARGE / 4 + self.random.below(LARGE * 3 / 4),
            1..10 => self.random.below(3_000),
            _ => self.random.below(150),
        };
        let content = letter.text(filler, &mut self.random);
        let mut request = json!({"type": kind, "to": address, "content": content});
        match self.random.below(10) {
            0..4 => request["quiet"] = true.into(),
            4..8 => {
                let id = self.random.bits() as u32;
                request["id"] = id.into();
                account.answers.expect(Answer::Ack(id));
            }
            _ => account.answers.expect(Answer::Copy(letter)),
        }
        self.world.ledger.count("letters sent", 1);
        request.to_string()
    }
}
