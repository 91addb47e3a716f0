//! What was sent and what was heard, of all members together.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::time::Instant;

use super::answers::Answers;

/// One member's part.
#[derive(Default)]
pub struct Account {
    /// Letters to its partner.
    pub to_partner: AtomicU32,
    /// When those went out that its partner has not got yet.
    pub under_way: Mutex<VecDeque<Instant>>,
    /// Letters to its circle.
    pub to_circle: AtomicU32,
    /// Letters it got from its partner, a second copy not counted.
    pub from_partner: AtomicU32,
    /// Letters it got from the others of its circle, a second copy not counted.
    pub from_circle: AtomicU32,
    /// What it waits for.
    pub answers: Answers,
    /// Whether it has written its last letter.
    pub silent: AtomicBool,
}

/// The whole book.
pub struct Ledger {
    start: Instant,
    /// One account a member.
    pub accounts: Vec<Account>,
    faults: Mutex<Vec<String>>,
    twice: Mutex<HashSet<String>>,
    counts: Mutex<BTreeMap<&'static str, u64>>,
}

impl Ledger {
    /// An empty one for so many members.
    pub fn new(members: usize) -> Ledger {
        Ledger {
            start: Instant::now(),
            accounts: (0..members).map(|_| Account::default()).collect(),
            faults: Mutex::default(),
            twice: Mutex::default(),
            counts: Mutex::default(),
        }
    }

    /// Something that must never happen.
    pub fn fault(&self, what: String) {
        let at = self.start.elapsed();
        self.faults
            .lock()
            .unwrap()
            .push(format!("at {at:.3?}: {what}"));
    }

    /// What must never happen and did.
    pub fn faults(&self) -> Vec<String> {
        self.faults.lock().unwrap().clone()
    }

    /// Something came a second time: the message with this id, or the answer to the request that caused it.
    pub fn twice(&self, what: String) {
        self.count("second copies", 1);
        self.twice.lock().unwrap().insert(what);
    }

    /// How many different messages or requests came, or were answered, a second time.
    pub fn came_twice(&self) -> usize {
        self.twice.lock().unwrap().len()
    }

    /// Counts for the summary.
    pub fn count(&self, what: &'static str, more: u64) {
        *self.counts.lock().unwrap().entry(what).or_default() += more;
    }

    /// What was counted.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.counts.lock().unwrap().clone()
    }

    /// Who still writes, and what has not arrived yet, if circles are so large.
    pub fn missing(&self, circle: usize) -> Vec<String> {
        let writes = |(index, account): (usize, &Account)| {
            let silent = account.silent.load(SeqCst);
            (!silent).then(|| format!("member {index} has not finished writing"))
        };
        let writers = self.accounts.iter().enumerate().filter_map(writes);
        writers.chain(self.under_way(circle)).collect()
    }

    /// What has not arrived yet, if circles are so large.
    pub fn under_way(&self, circle: usize) -> Vec<String> {
        let mut missing = Vec::new();
        for (index, account) in self.accounts.iter().enumerate() {
            let sent = self.accounts[index ^ 1].to_partner.load(SeqCst);
            let heard = account.from_partner.load(SeqCst);
            if heard != sent {
                missing.push(format!(
                    "member {index} got {heard} of {sent} letters from its partner"
                ));
            }
            let first = index - index % circle;
            let others = (first..first + circle).filter(|other| *other != index);
            let sent: u32 = others
                .map(|other| self.accounts[other].to_circle.load(SeqCst))
                .sum();
            let heard = account.from_circle.load(SeqCst);
            if heard != sent {
                missing.push(format!(
                    "member {index} got {heard} of {sent} letters to its circle"
                ));
            }
            if let Some(answers) = account.answers.missing() {
                missing.push(format!("member {index} misses {answers}"));
            }
        }
        missing
    }
}
