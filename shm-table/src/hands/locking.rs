//! Waiting for an index lock: without burning a core, without looking dead, and with the name of whom to blame.
//!
//! A lock is held for a few hundred nanoseconds. Who has to wait for longer waits for a process that was stopped, or has lost its core, or
//! has died; none of that is the fault of who waits. So it goes on giving signs of life, and says in its control block for whom it waits:
//! a supervisor kills who holds, not who waits.

use std::time::Duration;

use super::Hands;
use crate::lock::{Held, Lock};

/// Waits in which the core is only offered to others, before the process sleeps: a holder that has lost its core gets this one.
const YIELDS: u32 = 50;

/// The first sleep, and the longest, which each doubles up to: within it a request to stand still is heard.
const NAP_MIN: Duration = Duration::from_micros(50);
const NAP_MAX: Duration = Duration::from_millis(2);

impl<'t> Hands<'t> {
    pub(super) fn lock(&mut self, lock: &'t Lock) -> Held<'t> {
        // A recovery may take place in the wait.
        self.asked_for = None;
        let view = &self.view;
        let control = &view.controls[usize::from(self.me.slot)];
        let pause_point = &mut self.pause_point;
        let (mut waits, mut nap) = (0, NAP_MIN);
        let held = lock.take(self.me, |owner| {
            if view.header.pause.get() != 0 {
                pause_point();
            }
            if waits < YIELDS {
                waits += 1;
                return crate::sync::yield_now();
            }
            let now_ms = view.now_ms();
            if control.waits_for.peek() != owner.bits() {
                control.waits_since.put(now_ms);
                control.waits_for.set(owner.bits());
            }
            control.heartbeat.put(now_ms);
            crate::sync::nap(nap);
            nap = (nap * 2).min(NAP_MAX);
        });
        if control.waits_for.peek() != 0 {
            control.waits_for.put(0);
        }
        held
    }
}
