//! Stopping a writer after its N-th store to the segment, or system call that matters, to prove what recovery promises.
//!
//! With the feature `kill-points` a thread can be armed: after the N-th of them it unwinds with
//! [`Killed`], and until it is [revived](revive) every further store of that thread (a destructor that
//! would tidy up, for one) is dropped, as it would be had the process been killed. Without the feature
//! the two questions asked at each store are constants and cost nothing.

#[cfg(feature = "kill-points")]
mod armed {
    use std::cell::Cell;

    /// What an armed thread unwinds with at its kill point.
    #[derive(Debug)]
    pub struct Killed;

    #[derive(Clone, Copy)]
    enum Plan {
        Free,
        Armed { stores_left: u64 },
        Dead,
    }

    thread_local! {
        static PLAN: Cell<Plan> = const { Cell::new(Plan::Free) };
    }

    /// Kills this thread's hands after `stores` more stores (1 = after the next one).
    pub fn arm(stores: u64) {
        PLAN.set(Plan::Armed {
            stores_left: stores,
        });
    }

    /// Ends the plan; true if the thread had been killed.
    pub fn revive() -> bool {
        matches!(PLAN.replace(Plan::Free), Plan::Dead)
    }

    #[inline]
    pub(crate) fn alive() -> bool {
        !matches!(PLAN.get(), Plan::Dead)
    }

    /// A system call that matters has returned: here, too, a process may die.
    #[inline]
    pub fn called() {
        stored();
    }

    #[inline]
    pub(crate) fn stored() {
        if let Plan::Armed { stores_left } = PLAN.get() {
            if stores_left > 1 {
                PLAN.set(Plan::Armed {
                    stores_left: stores_left - 1,
                });
            } else {
                PLAN.set(Plan::Dead);
                std::panic::resume_unwind(Box::new(Killed));
            }
        }
    }
}

#[cfg(feature = "kill-points")]
pub use armed::{Killed, arm, called, revive};
#[cfg(feature = "kill-points")]
pub(crate) use armed::{alive, stored};

#[cfg(not(feature = "kill-points"))]
mod never {
    #[inline(always)]
    pub(crate) fn alive() -> bool {
        true
    }

    #[inline(always)]
    pub(crate) fn stored() {}

    /// A system call that matters has returned: here, too, a process may die.
    #[inline(always)]
    pub fn called() {}
}

#[cfg(not(feature = "kill-points"))]
pub use never::called;
#[cfg(not(feature = "kill-points"))]
pub(crate) use never::{alive, stored};
