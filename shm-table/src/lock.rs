//! Locks that name their owner: taking one and saying who has it is one exchange.
//!
//! Only writers of an index stripe take one, for a few hundred nanoseconds; readers never do. A lock whose
//! owner died stays locked until the master has put the index in order and opens it ([`crate::recovery`]).

use crate::handle::ProcessId;
use crate::word::Word32;

/// Waiting turns without giving the core away; a holder's work is that short.
const SPINS: u32 = 100;

/// An index stripe's lock; zero is open.
#[repr(transparent)]
#[derive(Debug)]
pub(crate) struct Lock(Word32);

impl Lock {
    #[cfg(loom)]
    pub fn new() -> Self {
        Lock(Word32::new(0))
    }

    /// Takes the lock for `me`. `wait` is called again and again while somebody else has it, with who that is.
    pub fn take(&self, me: ProcessId, mut wait: impl FnMut(ProcessId)) -> Held<'_> {
        let mut spins = 0;
        while let Err(owner) = self.0.exchange(0, me.bits()) {
            spins += 1;
            if spins < SPINS && !cfg!(loom) {
                std::hint::spin_loop();
            } else {
                wait(ProcessId::from_bits(owner));
            }
        }
        Held(self)
    }

    /// Who has it, if anybody.
    pub fn owner(&self) -> Option<ProcessId> {
        match self.0.get() {
            0 => None,
            bits => Some(ProcessId::from_bits(bits)),
        }
    }

    /// Opens it whoever has it: only for recovery, when the owner is dead.
    pub fn force_open(&self) {
        self.0.set(0);
    }
}

/// A taken lock; opens when dropped.
#[derive(Debug)]
pub(crate) struct Held<'l>(&'l Lock);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.0.set(0);
    }
}
