//! What all members of closed loops share: whose turn each message is, and since when it is under way.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use super::member::{instants, name};
use super::plan::{LoopsPlan, Pace, PairPlan};
use crate::waits::Waits;

/// Whether members write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// They do.
    Open,
    /// They keep what they may write: what is under way arrives, and nothing else happens.
    Held,
    /// They go.
    Closed,
}

/// One member's part.
#[derive(Default)]
pub struct Side {
    may_send: AtomicU32,
    /// At which opening of the gate it took something last.
    took: AtomicU64,
    /// Something may be sent.
    pub wake: Notify,
    /// When what is under way to the other one went out, the oldest first.
    pub under_way: Mutex<VecDeque<Instant>>,
    /// When what is not acknowledged yet went out.
    pub unanswered: Mutex<VecDeque<Instant>>,
}

/// The message to everybody.
struct Choir {
    number: u64,
    sent: Instant,
    /// How many have not got it yet.
    missing: usize,
}

/// All of it.
pub struct State {
    choir: Option<Mutex<Choir>>,
    pairs: Vec<PairPlan>,
    pace: Mutex<Pace>,
    /// The longest time to think.
    pub think: Duration,
    /// One a member; the other one of its pair has the number with the last bit changed.
    pub sides: Vec<Side>,
    /// Who judges waits.
    pub waits: Arc<Waits>,
    /// How many have logged in.
    pub arrived: watch::Sender<usize>,
    /// Whether members write, for who waits for it.
    pub gates: watch::Sender<Gate>,
    /// The same for who writes now: nobody takes while it is written.
    gate: RwLock<Gate>,
    /// Nobody thinks.
    pub hurry: watch::Sender<bool>,
    /// The number of the last volley.
    pub volleys: watch::Sender<u64>,
    total: usize,
    at_rest: AtomicUsize,
    rest: Notify,
    messages: AtomicU64,
    /// Members that have taken part in the last volley.
    answered: AtomicUsize,
    /// Members that have taken what they write and not written it.
    writing: AtomicUsize,
    /// How often the gate was opened, and how many members have taken something since.
    openings: AtomicU64,
    taken: AtomicUsize,
    /// Second copies.
    pub twice: AtomicU64,
    faults: Mutex<Vec<String>>,
}

impl State {
    /// Nobody is there, and the gate is held.
    pub fn new(plan: &LoopsPlan, waits: Arc<Waits>) -> State {
        let windows = plan.pairs.iter().flat_map(|pair| pair.windows);
        let side = |window: u32| {
            let side = Side::default();
            side.may_send.store(window, SeqCst);
            side.wake.notify_one();
            side
        };
        let choir = plan.choir.then(|| {
            Mutex::new(Choir {
                number: 0,
                sent: Instant::now(),
                missing: 0,
            })
        });
        State {
            choir,
            pairs: plan.pairs.clone(),
            pace: Mutex::new(plan.pace),
            think: plan.think,
            sides: windows.map(side).collect(),
            waits,
            arrived: watch::Sender::new(0),
            gates: watch::Sender::new(Gate::Held),
            gate: RwLock::new(Gate::Held),
            hurry: watch::Sender::new(false),
            volleys: watch::Sender::new(0),
            total: plan.messages(),
            at_rest: AtomicUsize::new(plan.messages()),
            rest: Notify::new(),
            messages: AtomicU64::new(0),
            answered: AtomicUsize::new(plan.pairs.len() * 2),
            writing: AtomicUsize::new(0),
            openings: AtomicU64::new(0),
            taken: AtomicUsize::new(0),
            twice: AtomicU64::new(0),
            faults: Mutex::default(),
        }
    }

    /// A member's pair.
    pub fn pair(&self, index: usize) -> &PairPlan {
        &self.pairs[index / 2]
    }

    /// Something that must never happen.
    pub fn fault(&self, what: String) {
        self.faults.lock().unwrap().push(what);
    }

    /// What must never happen and did.
    pub fn faults(&self) -> Vec<String> {
        self.faults.lock().unwrap().clone()
    }

    /// Messages that have come.
    pub fn messages(&self) -> u64 {
        self.messages.load(SeqCst)
    }

    /// Whether members write now.
    pub fn gate(&self) -> Gate {
        *self.gate.read().unwrap()
    }

    /// When this returns, nobody writes any more, or everybody may.
    pub fn set_gate(&self, gate: Gate) {
        let mut now = self.gate.write().unwrap();
        *now = gate;
        if gate == Gate::Open {
            self.openings.fetch_add(1, SeqCst);
            self.taken.store(0, SeqCst);
        }
        drop(now);
        self.gates.send_replace(gate);
    }

    /// When members write, from now on.
    pub fn set_pace(&self, pace: Pace) {
        *self.pace.lock().unwrap() = pace;
        self.wake_all();
    }

    /// Everybody looks for what it may write.
    pub fn wake_all(&self) {
        // Who was woken during volleys may have passed over it.
        self.sides.iter().for_each(|side| side.wake.notify_one());
    }

    /// When members write.
    pub fn pace(&self) -> Pace {
        *self.pace.lock().unwrap()
    }

    /// Until members may write.
    pub async fn until_open(&self) {
        let mut gates = self.gates.subscribe();
        let waited = gates.wait_for(|gate| *gate == Gate::Open).await;
        drop(waited.expect("the state outlives its members"));
    }

    /// Takes all that a member may write; `None` while the gate is not open.
    pub fn take(&self, index: usize) -> Option<u64> {
        let gate = self.gate.read().unwrap();
        if *gate != Gate::Open {
            return None;
        }
        let side = &self.sides[index];
        self.writing.fetch_add(1, SeqCst);
        let opening = self.openings.load(SeqCst);
        if side.took.swap(opening, SeqCst) != opening {
            self.taken.fetch_add(1, SeqCst);
        } else if self.pace() == Pace::Once {
            return Some(0);
        }
        let count = side.may_send.swap(0, SeqCst);
        side.under_way.lock().unwrap().extend(instants(count));
        if self.pair(index).acknowledged {
            side.unanswered.lock().unwrap().extend(instants(count));
        }
        self.at_rest.fetch_sub(count as usize, SeqCst);
        Some(count.into())
    }

    /// What was taken is written.
    pub fn written(&self) {
        self.writing.fetch_sub(1, SeqCst);
    }

    /// Whether what everybody had to write has gone out since the gate was opened.
    pub fn has_gone_out(&self) -> bool {
        self.taken.load(SeqCst) == self.sides.len() && self.writing.load(SeqCst) == 0
    }

    /// Whether there is a message to everybody.
    pub fn has_choir(&self) -> bool {
        self.choir.is_some()
    }

    /// The number of the message to everybody, if one is to go out now; only one member may ask.
    pub fn take_choir(&self) -> Option<u64> {
        let gate = self.gate.read().unwrap();
        let mut choir = self.choir.as_ref()?.lock().unwrap();
        if *gate != Gate::Open || choir.missing > 0 {
            return None;
        }
        choir.sent = Instant::now();
        choir.missing = self.sides.len() - 1;
        self.at_rest.fetch_sub(1, SeqCst);
        choir.number += 1;
        Some(choir.number - 1)
    }

    /// The message to everybody came to one of them.
    pub fn choir_came(&self, what: impl FnOnce() -> String) {
        let Some(choir) = &self.choir else {
            return;
        };
        let mut choir = choir.lock().unwrap();
        self.waits.ended(choir.sent, what);
        choir.missing -= 1;
        self.messages.fetch_add(1, SeqCst);
        if choir.missing == 0 {
            self.is_at_rest();
        }
    }

    /// A message came, and `heir` may write one.
    pub fn came(&self, heir: usize) {
        self.messages.fetch_add(1, SeqCst);
        let side = &self.sides[heir];
        side.may_send.fetch_add(1, SeqCst);
        self.is_at_rest();
        side.wake.notify_one();
    }

    fn is_at_rest(&self) {
        if self.at_rest.fetch_add(1, SeqCst) + 1 == self.total {
            self.rest.notify_one();
        }
    }

    /// Whether everything has arrived and is answered.
    pub fn is_quiet(&self) -> bool {
        let answered = |side: &Side| side.unanswered.lock().unwrap().is_empty();
        self.at_rest.load(SeqCst) == self.total && self.sides.iter().all(answered)
    }

    /// Has volleys go out, each when everything of the one before has arrived.
    pub async fn command_volleys(&self) {
        loop {
            self.until_open().await;
            // Who has not answered the last one would take the next one for it, and miss one.
            let answered = self.answered.load(SeqCst) == self.sides.len();
            if self.pace() == Pace::Volleys && answered && self.is_quiet() {
                if !*self.hurry.borrow() {
                    let mut hurry = self.hurry.subscribe();
                    let _ = tokio::time::timeout(self.think, hurry.wait_for(|hurry| *hurry)).await;
                }
                self.answered.store(0, SeqCst);
                self.volleys.send_modify(|number| *number += 1);
            }
            // An answer that comes after the last message notifies nobody.
            let _ = tokio::time::timeout(Duration::from_millis(5), self.rest.notified()).await;
        }
    }

    /// A member has taken what it writes in this volley.
    pub fn answers_the_volley(&self) {
        self.answered.fetch_add(1, SeqCst);
    }

    /// What is under way for longer than it may.
    pub fn overdue(&self) -> Option<String> {
        let now = Instant::now();
        let mut late = Vec::new();
        let (mut messages, mut answers) = (0, 0);
        for (index, side) in self.sides.iter().enumerate() {
            let under_way = side.under_way.lock().unwrap();
            let unanswered = side.unanswered.lock().unwrap();
            messages += under_way.len();
            answers += unanswered.len();
            let oldest = under_way.front().map(|at| (*at, "a message"));
            let asked = unanswered.front().map(|at| (*at, "the ack of a message"));
            for (at, what) in oldest.into_iter().chain(asked) {
                if let Some(why) = self.waits.overdue(at, now) {
                    let to = name(index ^ 1);
                    late.push(format!("{what} from {} to {to} {why}", name(index)));
                }
            }
        }
        if let Some(choir) = &self.choir {
            let choir = choir.lock().unwrap();
            messages += choir.missing;
            let why = self.waits.overdue(choir.sent, now);
            if let Some(why) = why.filter(|_| choir.missing > 0) {
                late.push(format!("a message to everybody {why}"));
            }
        }
        let first = late.first()?;
        Some(format!(
            "{messages} messages and {answers} acks have not come; {} members' are too late: {first}",
            late.len()
        ))
    }
}
