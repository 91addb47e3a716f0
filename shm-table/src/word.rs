//! The only way to write shared memory: words with one store each.
//!
//! Every field of the segment that more than one process reads is a [`Word32`] or a [`Word64`], so no
//! read is torn and every change is one of the stores below. That gives the tests one place in which to
//! stop a writer after its N-th store ([`crate::kill_point`]), and `loom` one place to take over.

use crate::kill_point;

#[cfg(loom)]
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

macro_rules! word {
    ($name:ident, $atomic:ident, $value:ty, $bits:literal) => {
        #[doc = concat!("A ", $bits, "-bit word of the segment.")]
        ///
        /// Zero is a valid value of every word: a fresh segment is all zeroes.
        #[repr(transparent)]
        #[derive(Debug)]
        pub struct $name($atomic);

        #[allow(dead_code)] // both widths offer the same set of operations
        impl $name {
            /// A word outside a segment, for tests and private tables.
            pub fn new(value: $value) -> Self {
                Self($atomic::new(value))
            }

            /// Reads, and sees all that was written before the value was published.
            #[inline]
            pub fn get(&self) -> $value {
                self.0.load(Ordering::Acquire)
            }

            /// Reads the value alone: for words that only this process writes, and for hints.
            #[inline]
            pub fn peek(&self) -> $value {
                self.0.load(Ordering::Relaxed)
            }

            /// Publishes: whoever sees the value sees everything written before it.
            #[inline]
            pub fn set(&self, value: $value) {
                if kill_point::alive() {
                    self.0.store(value, Ordering::Release);
                    kill_point::stored();
                }
            }

            /// Writes without publishing; a later `set` or exchange does that.
            #[inline]
            pub fn put(&self, value: $value) {
                if kill_point::alive() {
                    self.0.store(value, Ordering::Relaxed);
                    kill_point::stored();
                }
            }

            /// Exchanges `old` for `new`; otherwise tells what is there.
            #[inline]
            pub fn exchange(&self, old: $value, new: $value) -> Result<(), $value> {
                if !kill_point::alive() {
                    return Err(self.get());
                }
                let done = self
                    .0
                    .compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire);
                if done.is_ok() {
                    kill_point::stored();
                }
                done.map(drop)
            }

            /// Puts `new` and returns what was there.
            #[inline]
            pub fn swap(&self, new: $value) -> $value {
                if !kill_point::alive() {
                    return self.get();
                }
                let old = self.0.swap(new, Ordering::AcqRel);
                kill_point::stored();
                old
            }

            /// Adds, wrapping; returns the value before.
            #[inline]
            pub fn add(&self, n: $value) -> $value {
                if !kill_point::alive() {
                    return self.get();
                }
                let old = self.0.fetch_add(n, Ordering::AcqRel);
                kill_point::stored();
                old
            }

            /// Subtracts, wrapping; returns the value before.
            #[inline]
            pub fn sub(&self, n: $value) -> $value {
                if !kill_point::alive() {
                    return self.get();
                }
                let old = self.0.fetch_sub(n, Ordering::AcqRel);
                kill_point::stored();
                old
            }

            /// Sets bits; returns the value before.
            #[inline]
            pub fn or(&self, bits: $value) -> $value {
                if !kill_point::alive() {
                    return self.get();
                }
                let old = self.0.fetch_or(bits, Ordering::AcqRel);
                kill_point::stored();
                old
            }

            /// Clears all bits but these; returns the value before.
            #[inline]
            pub fn and(&self, bits: $value) -> $value {
                if !kill_point::alive() {
                    return self.get();
                }
                let old = self.0.fetch_and(bits, Ordering::AcqRel);
                kill_point::stored();
                old
            }

            /// Raises the word to `value` if it is lower.
            #[inline]
            pub fn raise(&self, value: $value) {
                if kill_point::alive() && self.peek() < value {
                    self.0.fetch_max(value, Ordering::AcqRel);
                    kill_point::stored();
                }
            }
        }
    };
}

word!(Word32, AtomicU32, u32, "32");
word!(Word64, AtomicU64, u64, "64");

/// Orders every store before it ahead of every load after it, in all processes.
#[inline]
pub(crate) fn full_fence() {
    #[cfg(loom)]
    loom::sync::atomic::fence(Ordering::SeqCst);
    #[cfg(not(loom))]
    std::sync::atomic::fence(Ordering::SeqCst);
}

/// Keeps the loads before it before the loads after it.
#[inline]
pub(crate) fn load_fence() {
    #[cfg(loom)]
    loom::sync::atomic::fence(Ordering::Acquire);
    #[cfg(not(loom))]
    std::sync::atomic::fence(Ordering::Acquire);
}

/// Keeps the stores before it before the stores after it.
#[inline]
pub(crate) fn store_fence() {
    #[cfg(loom)]
    loom::sync::atomic::fence(Ordering::Release);
    #[cfg(not(loom))]
    std::sync::atomic::fence(Ordering::Release);
}
