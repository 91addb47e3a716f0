//! A crowd that notices everything, for a server whose processes die.
//!
//! Beside them are pairs in closed loops ([`crate::loops`]), and now and then all others hush: a message that is left lying then is woken by nobody.
//! Every wait has a bound ([`crate::waits`]).
//!
//! Hundreds of members on both transports write numbered letters to each other; some in fragments, some cut anywhere, some large, some to
//! groups. Whatever must never happen is a fault: an end of a connection, a letter lost, changed, or out of order, an error, an answer that
//! does not come. A second copy is none if it has the id of the first and comes directly behind it; how many there were is counted.

pub mod answers;
pub mod killer;
pub mod ledger;
pub mod letter;
mod listener;
mod member;
mod passer;
pub mod plan;
mod world;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use self::ledger::Ledger;
pub use self::plan::Plan;
use self::world::{Phase, World};
use crate::delays::Delays;
use crate::loops::Loops;
use crate::server::Server;
use crate::wait::{PATIENCE, eventually};
use crate::waits::Waits;
use crate::wire::Addresses;

/// Everybody who is connected, or will be.
pub struct Crowd {
    runtime: Runtime,
    world: Arc<World>,
    members: Vec<JoinHandle<()>>,
    passers: Vec<JoinHandle<()>>,
    loops: Loops,
}

impl Crowd {
    /// Sends everybody to that server.
    pub fn gather(server: &Server, plan: &Plan) -> Crowd {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let delays = Delays::of(server.pid());
        runtime.spawn(delays.clock_task());
        let waits = Arc::new(Waits::new(delays));
        let addresses = Addresses::of(server);
        let closed = plan.closed_loops();
        let loops = Loops::gather(addresses, &closed, waits.clone(), runtime.handle());
        loops.go_on();
        let world = Arc::new(World::new(plan.clone(), addresses, waits));
        let members = (0..plan.sessions)
            .map(|index| runtime.spawn(member::live(world.clone(), index)))
            .collect();
        let passers = (0..plan.passers)
            .map(|number| runtime.spawn(passer::pass(world.clone(), number)))
            .collect();
        Crowd {
            runtime,
            world,
            members,
            passers,
            loops,
        }
    }

    /// Waits until letters are being written.
    pub fn wait_for_letters(&self) {
        eventually("letters are being written", || {
            let heard = self.ledger().counts().get("letters heard").copied();
            (!self.well() || heard > Some(100)).then_some(())
        });
    }

    /// Has some members write a lot, now.
    pub fn storm(&self) {
        self.world.storms.send_modify(|storms| *storms += 1);
    }

    /// Those in closed loops.
    pub fn loops(&self) -> &Loops {
        &self.loops
    }

    /// Who judges how long was waited.
    pub fn waits(&self) -> &Waits {
        &self.world.waits
    }

    /// Has all but the closed loops be silent, and waits until they are: from then on nobody but they wakes anybody.
    pub fn hush(&self) {
        self.world.hush.send_replace(true);
        let circle = self.world.plan.circle;
        eventually("all but the closed loops are silent", || {
            let silent = self.world.nobody_is_busy() && self.ledger().under_way(circle).is_empty();
            (silent || !self.well()).then_some(())
        });
    }

    /// Everybody talks again.
    pub fn talk(&self) {
        self.world.hush.send_replace(false);
    }

    /// Judges the waits that have ended.
    pub fn judge(&self) {
        let faults = self.world.waits.judge();
        faults
            .into_iter()
            .for_each(|what| self.ledger().fault(what));
    }

    /// What was sent and heard.
    pub fn ledger(&self) -> &Ledger {
        &self.world.ledger
    }

    /// Whether nothing happened that must not.
    pub fn well(&self) -> bool {
        self.ledger().faults().is_empty() && self.loops.well()
    }

    /// Has everybody be silent, and waits until all that was written has arrived and everything is answered. What has not is a fault.
    pub fn fall_silent(&self) {
        self.world.phase.send_replace(Phase::Listening);
        self.loops.fall_silent();
        let end = Instant::now() + 2 * PATIENCE;
        let circle = self.world.plan.circle;
        let mut missing = self.ledger().missing(circle);
        while self.well() && !missing.is_empty() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
            missing = self.ledger().missing(circle);
        }
        if self.well() {
            missing.truncate(20);
            missing
                .into_iter()
                .for_each(|what| self.ledger().fault(what));
        }
    }

    /// Has everybody log out, and waits until all are gone.
    pub fn leave(&mut self) {
        self.world.phase.send_replace(Phase::Leaving);
        self.loops.leave(self.runtime.handle());
        let world = self.world.clone();
        let everybody = self.members.drain(..).chain(self.passers.drain(..));
        let everybody: Vec<_> = everybody.collect();
        self.runtime.block_on(async {
            let patience = tokio::time::Instant::now() + 2 * PATIENCE;
            for one in everybody {
                match tokio::time::timeout_at(patience, one).await {
                    Ok(done) => done.expect("nobody panics"),
                    Err(_) => world.ledger.fault("somebody did not leave".into()),
                }
            }
        });
    }
}
