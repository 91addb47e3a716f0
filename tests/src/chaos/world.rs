//! What all members and passers-by of a chaos share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use tokio::sync::{Barrier, watch};

use super::ledger::Ledger;
use super::plan::Plan;
use crate::waits::Waits;
use crate::wire::Addresses;

/// What everybody is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Writing letters.
    Talking,
    /// Nobody writes any more; what is under way arrives.
    Listening,
    /// Everybody logs out.
    Leaving,
}

/// One chaos.
pub struct World {
    /// Its numbers.
    pub plan: Plan,
    /// Where the server is.
    pub addresses: Addresses,
    /// What was sent and heard.
    pub ledger: Ledger,
    /// What everybody is doing.
    pub phase: watch::Sender<Phase>,
    /// Who judges how long was waited.
    pub waits: Arc<Waits>,
    /// Whether all but the closed loops are to be silent for a while.
    pub hush: watch::Sender<bool>,
    /// How many are doing something that they do not begin in a hush.
    busy: AtomicUsize,
    /// How many storms there were: some members write a lot at that moment.
    pub storms: watch::Sender<usize>,
    /// Each circle begins together.
    pub circles: Vec<Barrier>,
}

/// Somebody is doing something.
pub struct Busy<'a>(&'a AtomicUsize);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl World {
    /// A world in which nobody is yet.
    pub fn new(plan: Plan, addresses: Addresses, waits: Arc<Waits>) -> World {
        World {
            addresses,
            ledger: Ledger::new(plan.sessions),
            phase: watch::Sender::new(Phase::Talking),
            waits,
            hush: watch::Sender::new(false),
            busy: AtomicUsize::new(0),
            storms: watch::Sender::new(0),
            circles: (0..plan.circles())
                .map(|_| Barrier::new(plan.circle))
                .collect(),
            plan,
        }
    }

    /// Waits while there is a hush; who has this is not silent until it is dropped. `None` if nobody talks any more.
    pub async fn busy(&self) -> Option<Busy<'_>> {
        let mut hushes = self.hush.subscribe();
        loop {
            tokio::select! {
                _ = hushes.wait_for(|hush| !hush) => {}
                () = self.until(Phase::Listening) => return None,
            }
            self.busy.fetch_add(1, SeqCst);
            let busy = Busy(&self.busy);
            if !*self.hush.borrow() {
                return Some(busy);
            }
        }
    }

    /// Whether nobody is doing anything that would not be begun in a hush.
    pub fn nobody_is_busy(&self) -> bool {
        self.busy.load(SeqCst) == 0
    }

    /// What everybody is doing now.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Whether this member takes part in that storm: a few do, others each time.
    pub fn is_in_storm(&self, member: usize, storm: usize) -> bool {
        const STRIDE: usize = 7_919;
        (member + storm * STRIDE) % self.plan.sessions < self.plan.storm
    }

    /// Waits for that phase or a later one.
    pub async fn until(&self, phase: Phase) {
        let mut changes = self.phase.subscribe();
        let waited = changes.wait_for(|now| *now >= phase).await;
        drop(waited.expect("the world outlives its members"));
    }
}
