//! What all members and passers-by of a chaos share.

use tokio::sync::{Barrier, watch};

use super::ledger::Ledger;
use super::plan::Plan;
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
    /// How many storms there were: some members write a lot at that moment.
    pub storms: watch::Sender<usize>,
    /// Each circle begins together.
    pub circles: Vec<Barrier>,
}

impl World {
    /// A world in which nobody is yet.
    pub fn new(plan: Plan, addresses: Addresses) -> World {
        World {
            addresses,
            ledger: Ledger::new(plan.sessions),
            phase: watch::Sender::new(Phase::Talking),
            storms: watch::Sender::new(0),
            circles: (0..plan.circles())
                .map(|_| Barrier::new(plan.circle))
                .collect(),
            plan,
        }
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
