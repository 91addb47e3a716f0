//! Well-behaved clients, who check what they get and know when it was due.
//!
//! Pairs who write to each other and a group of eight, on both transports, from addresses of their own, at a pace that does not depend on
//! what comes back; every tenth of a second a newcomer. In all some 200 messages a second.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use super::judge::{Kind, Sample};
use super::newcomer;
use crate::Transport;
use crate::client::BOTH;
use crate::wait::PATIENCE;
use crate::wire::{Addresses, Ear, Heard, Mouth, come_from};

/// Pairs; both of each write.
const PAIRS: usize = 8;
/// Until a member of a pair writes again.
const PAIR_EVERY: Duration = Duration::from_millis(100);
/// Members of the group.
const GROUP: usize = 8;
/// Until a member of the group writes again.
const GROUP_EVERY: Duration = Duration::from_millis(400);
/// Until the next newcomer.
const NEWCOMER_EVERY: Duration = Duration::from_millis(100);

/// What still is under way when nobody writes any more has so long to come.
const LAST: Duration = Duration::from_secs(8);

/// So many faults are told one by one.
const TOLD_MAX: usize = 5;

/// What happened to neighbours that must not.
#[derive(Clone, Debug, Default)]
pub struct Harm {
    /// Requests that were refused.
    pub refused: u64,
    /// Messages and answers that did not come, or came twice, changed, or out of order.
    pub lost: u64,
    /// Connections that were closed or not let in.
    pub closed: u64,
    /// Some of it, in words.
    pub told: Vec<String>,
}

impl Harm {
    /// Whether there was none.
    pub fn is_none(&self) -> bool {
        self.refused + self.lost + self.closed == 0
    }
}

/// What all neighbours share.
pub(super) struct Shared {
    pub(super) hosts: Vec<Addresses>,
    base: Instant,
    /// Deliveries and answers that are due, and those that came.
    pub(super) due: AtomicU64,
    pub(super) came: AtomicU64,
    leaving: AtomicBool,
    samples: Mutex<Vec<Sample>>,
    harm: Mutex<Harm>,
    phases: watch::Sender<Phase>,
}

/// A time in which neighbours write; the first has not begun.
#[derive(Clone, Copy)]
struct Phase {
    number: u64,
    begin: Instant,
    end: Instant,
}

impl Shared {
    pub(super) fn sample(&self, kind: Kind, due: Instant) {
        self.came.fetch_add(1, SeqCst);
        let came = Instant::now();
        let sample = Sample { kind, due, came };
        self.samples.lock().unwrap().push(sample);
    }

    /// So much of what was due will not come, and is told of in another way.
    pub(super) fn given_up(&self, count: u64) {
        self.due.fetch_sub(count, SeqCst);
    }

    pub(super) fn refused(&self, what: String) {
        self.harm(what, |harm| harm.refused += 1);
    }

    /// What is lost is counted otherwise; this says more of it.
    pub(super) fn told(&self, what: String) {
        self.harm(what, |_| {});
    }

    pub(super) fn lost(&self, what: String) {
        self.harm(what, |harm| harm.lost += 1);
    }

    pub(super) fn closed(&self, what: String) {
        if !self.leaving.load(SeqCst) {
            self.harm(what, |harm| harm.closed += 1);
        }
    }

    fn harm(&self, what: String, count: impl FnOnce(&mut Harm)) {
        let mut harm = self.harm.lock().unwrap();
        count(&mut harm);
        if harm.told.len() < TOLD_MAX {
            harm.told.push(what);
        }
    }

    fn micros(&self, at: Instant) -> u64 {
        (at - self.base).as_micros() as u64
    }

    fn instant(&self, micros: u64) -> Instant {
        self.base + Duration::from_micros(micros)
    }
}

/// One of them.
#[derive(Clone)]
struct Neighbour {
    name: String,
    transport: Transport,
    host: usize,
    source: Ipv4Addr,
    /// Its group, or the other one of its pair.
    to: String,
    in_group: bool,
    every: Duration,
    offset: Duration,
}

impl Neighbour {
    fn all(hosts: usize) -> Vec<Neighbour> {
        let of_pair = |index: usize| Neighbour {
            name: format!("n{index}"),
            // All four combinations, and every pair on two hosts.
            transport: BOTH[(index / 2 + index % 2 * (index / 4)) % 2],
            host: index % hosts,
            source: source(index),
            to: format!("n{}", index ^ 1),
            in_group: false,
            every: PAIR_EVERY,
            offset: PAIR_EVERY * index as u32 / (2 * PAIRS) as u32,
        };
        let of_group = |index: usize| Neighbour {
            name: format!("g{index}"),
            transport: BOTH[index / 2 % 2],
            host: index % hosts,
            source: source(index),
            to: "neighbours".into(),
            in_group: true,
            every: GROUP_EVERY,
            offset: GROUP_EVERY * index as u32 / GROUP as u32,
        };
        let pairs = (0..2 * PAIRS).map(of_pair);
        pairs.chain((0..GROUP).map(of_group)).collect()
    }
}

/// Four addresses, none of them the attacker's.
fn source(index: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, 10 + (index / 2 % 4) as u8)
}

/// All of them, logged in.
pub struct Neighbours {
    shared: Arc<Shared>,
    runtime: Runtime,
}

impl Neighbours {
    /// Connects them to these hosts.
    pub fn gather(hosts: Vec<Addresses>) -> Neighbours {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let now = Instant::now();
        let neighbours = Neighbour::all(hosts.len());
        let shared = Arc::new(Shared {
            hosts,
            base: now,
            due: AtomicU64::new(0),
            came: AtomicU64::new(0),
            leaving: AtomicBool::new(false),
            samples: Mutex::default(),
            harm: Mutex::default(),
            phases: watch::Sender::new(Phase {
                number: 0,
                begin: now,
                end: now,
            }),
        });
        let everybody = async {
            for neighbour in neighbours {
                let arrive = tokio::time::timeout(PATIENCE, arrive(&shared, &neighbour));
                let (mouth, ear) = arrive.await.expect("a login takes no time").unwrap();
                let neighbour = Arc::new(neighbour);
                // Subscribed before anybody can begin a phase.
                let phases = shared.phases.subscribe();
                tokio::spawn(write(shared.clone(), phases, neighbour.clone(), mouth));
                tokio::spawn(read(shared.clone(), neighbour, ear));
            }
            tokio::spawn(newcomers(shared.clone(), shared.phases.subscribe()));
        };
        runtime.block_on(everybody);
        Neighbours { shared, runtime }
    }

    /// They write for so long; `then` is called when they have stopped, and after it all that is under way has time to come. What came, and what must not have happened.
    pub fn talk(&self, how_long: Duration, then: impl FnOnce()) -> (Vec<Sample>, Harm) {
        let begin = Instant::now() + Duration::from_millis(5);
        let end = begin + how_long;
        let number = self.shared.phases.borrow().number + 1;
        self.shared
            .phases
            .send_replace(Phase { number, begin, end });
        // Who is held up may still be writing.
        std::thread::sleep(end.saturating_duration_since(Instant::now()));
        then();
        let last = Instant::now() + LAST;
        while Instant::now() < last && !self.is_quiet() {
            std::thread::sleep(Duration::from_millis(2));
        }
        // What comes twice comes soon after.
        std::thread::sleep(Duration::from_millis(20));
        let missing = self
            .shared
            .due
            .swap(0, SeqCst)
            .saturating_sub(self.shared.came.swap(0, SeqCst));
        let mut harm = std::mem::take(&mut *self.shared.harm.lock().unwrap());
        harm.lost += missing;
        let samples = std::mem::take(&mut *self.shared.samples.lock().unwrap());
        (samples, harm)
    }

    fn is_quiet(&self) -> bool {
        self.shared.came.load(SeqCst) >= self.shared.due.load(SeqCst)
    }

    /// They close their connections.
    pub fn leave(self) {
        self.shared.leaving.store(true, SeqCst);
        self.runtime.shutdown_timeout(Duration::from_secs(5));
    }
}

async fn arrive(shared: &Shared, neighbour: &Neighbour) -> Result<(Mouth, Ear), String> {
    let addresses = shared.hosts[neighbour.host];
    let come = come_from(neighbour.source, addresses, neighbour.transport).await;
    let (mut mouth, mut ear) = come.map_err(|error| error.to_string())?;
    newcomer::hears(&mut ear, "open").await?;
    let login = json!({"type": "login", "userName": neighbour.name});
    newcomer::says(&mut mouth, &login).await?;
    newcomer::hears(&mut ear, "system").await?;
    if neighbour.in_group {
        let join = json!({"type": "join", "group": neighbour.to});
        newcomer::says(&mut mouth, &join).await?;
        newcomer::hears(&mut ear, "system").await?;
    }
    Ok((mouth, ear))
}

/// What a message carries besides its number and its time: of many lengths, known to who gets it.
fn filler(number: u64) -> String {
    let length = [10, 40, 90, 200, 450, 1_500][number as usize % 6];
    let letter = b'a' + (number % 26) as u8;
    String::from_utf8(vec![letter; length]).unwrap()
}

async fn write(
    shared: Arc<Shared>,
    mut phases: watch::Receiver<Phase>,
    neighbour: Arc<Neighbour>,
    mut mouth: Mouth,
) {
    let (kind, copies) = if neighbour.in_group {
        ("sendgroup", GROUP as u64 - 1)
    } else {
        ("sendto", 1)
    };
    let mut number = 0;
    while phases.changed().await.is_ok() {
        let phase = *phases.borrow_and_update();
        let mut due = phase.begin + neighbour.offset;
        while due < phase.end {
            tokio::time::sleep_until(due.into()).await;
            let micros = shared.micros(due);
            let message = json!({"type": kind, "to": neighbour.to,
                "content": [number, micros, filler(number)], "id": micros.to_string()});
            // Each copy, and the acknowledgement.
            shared.due.fetch_add(copies + 1, SeqCst);
            if mouth.say(&message.to_string()).await.is_err() {
                return;
            }
            number += 1;
            due += neighbour.every;
        }
    }
}

async fn read(shared: Arc<Shared>, neighbour: Arc<Neighbour>, mut ear: Ear) {
    let mut next: HashMap<String, u64> = HashMap::new();
    let name = &neighbour.name;
    loop {
        let text = match ear.hear().await {
            Ok(Heard::Text(text)) => text,
            Ok(Heard::Pong(_)) => continue,
            Ok(Heard::Close(code)) => return shared.closed(format!("{name} is closed, {code:?}")),
            Ok(Heard::End) => return shared.closed(format!("{name} is closed")),
            Err(error) => return shared.closed(format!("{name} is closed: {error}")),
        };
        let Ok(message) = serde_json::from_str::<Value>(&text) else {
            shared.lost(format!("{name} got what is no JSON: {text}"));
            continue;
        };
        match message["type"].as_str() {
            Some("message") => {
                let (from, content) = (message["from"].as_str(), &message["content"]);
                let (number, micros) = (content[0].as_u64(), content[1].as_u64());
                let (Some(from), Some(number), Some(micros)) = (from, number, micros) else {
                    shared.lost(format!("{name} got {message}"));
                    continue;
                };
                let expected = next.entry(from.to_owned()).or_default();
                // One that is missing is counted as such, or was refused.
                if number < *expected || content[2] != filler(number).as_str() {
                    shared.lost(format!("{name} got number {number} for {expected}"));
                }
                *expected = number + 1;
                shared.sample(Kind::Message, shared.instant(micros));
            }
            Some("ack") if matches!(message["status"].as_str(), Some("delivered" | "routed")) => {
                let micros = message["id"].as_str().and_then(|id| id.parse().ok());
                let micros = micros.expect("an id comes back as it was given");
                shared.sample(Kind::Message, shared.instant(micros));
            }
            Some("ack" | "error") => {
                // Neither its copies nor its acknowledgement will come.
                shared.given_up(if neighbour.in_group { GROUP as u64 } else { 2 });
                shared.refused(format!("{name} is told {message}"));
            }
            Some("ping") => {}
            _ => shared.lost(format!("{name} got {message}")),
        }
    }
}

async fn newcomers(shared: Arc<Shared>, mut phases: watch::Receiver<Phase>) {
    let mut number = 0;
    while phases.changed().await.is_ok() {
        let phase = *phases.borrow_and_update();
        let mut due = phase.begin + NEWCOMER_EVERY / 2;
        while due < phase.end {
            tokio::time::sleep_until(due.into()).await;
            tokio::spawn(newcomer::visit(shared.clone(), number, due));
            number += 1;
            due += NEWCOMER_EVERY;
        }
    }
}
