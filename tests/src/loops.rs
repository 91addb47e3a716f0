//! Closed loops: pairs whose members write only when something has come, so that nothing else wakes what sleeps.
//!
//! Between the two of a pair there is a number of messages that never changes; each is under way or is somebody's to write. When the
//! gate is held, nobody writes, and everything that is under way must arrive with nobody's help. Every wait is judged ([`crate::waits`]).

mod member;
pub mod plan;
mod state;

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

pub use self::plan::{Kind, LoopsPlan, Pace, PairPlan};
use self::state::{Gate, State};
use crate::wait::{PATIENCE, eventually};
use crate::waits::Waits;
use crate::wire::Addresses;

/// How often is looked for what is overdue.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// All loops of one server.
pub struct Loops {
    state: Arc<State>,
    tasks: Vec<JoinHandle<()>>,
}

impl Loops {
    /// Connects everybody; the gate is held. To be called before somebody is killed.
    pub fn gather(
        addresses: Addresses,
        plan: &LoopsPlan,
        waits: Arc<Waits>,
        runtime: &Handle,
    ) -> Loops {
        let state = Arc::new(State::new(plan, waits));
        let members = 2 * plan.pairs.len();
        let mut tasks: Vec<JoinHandle<()>> = (0..members)
            .map(|index| runtime.spawn(member::live(state.clone(), addresses, index)))
            .collect();
        let commanding = state.clone();
        tasks.push(runtime.spawn(async move { commanding.command_volleys().await }));
        let watching = state.clone();
        tasks.push(runtime.spawn(async move { watch(&watching).await }));
        let loops = Loops { state, tasks };
        eventually("everybody has logged in", || {
            let arrived = *loops.state.arrived.borrow();
            (arrived == members || !loops.faults().is_empty()).then_some(())
        });
        loops
    }

    /// Everybody writes what it may.
    pub fn go_on(&self) {
        self.state.set_gate(Gate::Open);
    }

    /// When members write, from now on.
    pub fn pace(&self, pace: Pace) {
        self.state.set_pace(pace);
    }

    /// Nobody thinks before it writes, or everybody does again.
    pub fn hurry(&self, hurry: bool) {
        self.state.hurry.send_replace(hurry);
    }

    /// Has everybody write all that it may, once, and returns when it has gone out and everybody is held again. To be called in
    /// silence; the pace is [`Pace::Once`] afterwards.
    pub fn volley(&self) {
        self.pace(Pace::Once);
        self.state.set_gate(Gate::Open);
        self.state.wake_all();
        eventually("a volley has gone out", || {
            (self.state.has_gone_out() || !self.well()).then_some(())
        });
        self.hold();
    }

    /// Who judges how long was waited.
    pub fn waits(&self) -> &Waits {
        &self.state.waits
    }

    /// From now on nobody writes.
    pub fn hold(&self) {
        self.state.set_gate(Gate::Held);
    }

    /// Has everybody be silent, and waits until all that was under way has arrived. What is too late is a fault.
    pub fn fall_silent(&self) {
        self.hold();
        let end = Instant::now() + PATIENCE;
        while !self.state.is_quiet() && self.well() {
            if Instant::now() > end {
                self.state.fault("silence did not come".into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        if !self.well() {
            self.tell_what_stays();
        }
        self.judge();
    }

    /// Whether what is too late comes at all is worth a little time to who looks for the cause.
    fn tell_what_stays(&self) {
        const LONGEST: Duration = Duration::from_secs(3);
        let begin = Instant::now();
        while !self.state.is_quiet() && begin.elapsed() < LONGEST {
            std::thread::sleep(Duration::from_millis(5));
        }
        let took = begin.elapsed();
        self.state.fault(match self.state.is_quiet() {
            true => format!("in the silence after that all came within {took:.0?}"),
            false => format!("in the silence after that not all came within {took:.0?}"),
        });
    }

    /// Judges the waits that have ended.
    pub fn judge(&self) {
        for fault in self.state.waits.judge() {
            self.state.fault(fault);
        }
    }

    /// Whether nothing happened that must not.
    pub fn well(&self) -> bool {
        self.state.faults().is_empty()
    }

    /// What must never happen and did.
    pub fn faults(&self) -> Vec<String> {
        self.state.faults()
    }

    /// Messages that have come.
    pub fn messages(&self) -> u64 {
        self.state.messages()
    }

    /// Messages and acknowledgements that came a second time.
    pub fn came_twice(&self) -> u64 {
        self.state.twice.load(SeqCst)
    }

    /// What is under way now and should not be any more.
    pub fn overdue(&self) -> Option<String> {
        self.state.overdue()
    }

    /// Everybody closes its connection.
    pub fn leave(&mut self, runtime: &Handle) {
        self.state.set_gate(Gate::Closed);
        for task in self.tasks.drain(..) {
            task.abort();
            if let Err(error) = runtime.block_on(task) {
                assert!(error.is_cancelled(), "a member panicked: {error}");
            }
        }
    }
}

/// Until somebody waits too long.
async fn watch(state: &State) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if let Some(what) = state.overdue() {
            state.fault(what);
            return;
        }
    }
}
