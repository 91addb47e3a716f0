//! Pools of equal items: arena blocks, outbox nodes, user entries, groups, membership chunks.
//!
//! Free items form a stack whose head carries a tag, so that taking and giving back are one exchange
//! each, from any process. A process may keep some items in hand (a [`Magazine`]); each such item names
//! its holder, in one word, so that what a dead process had in hand comes back with the next recovery.

use crate::handle::ProcessId;
use crate::word::{Word32, Word64};

/// What an item's word says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// In the pool's stack.
    Free,
    /// In the hands of one process: in its magazine, or being filled. Nobody else may touch it.
    Held(ProcessId),
    /// Part of the shared state: alive exactly as long as it is reachable from there.
    Shared,
}

const SHARED: u32 = u32::MAX;

impl Hold {
    pub fn word(self) -> u32 {
        match self {
            Hold::Free => 0,
            Hold::Held(process) => process.bits(),
            Hold::Shared => SHARED,
        }
    }

    pub fn of(word: u32) -> Self {
        match word {
            0 => Hold::Free,
            SHARED => Hold::Shared,
            bits => Hold::Held(ProcessId::from_bits(bits)),
        }
    }
}

/// An item that a pool can hold.
pub(crate) trait Item {
    /// Holder: the encoded [`Hold`].
    fn hold(&self) -> &Word32;
    /// Next item of a chain (index plus one; 0 ends it): the stack's while free, the holder's own otherwise.
    fn link(&self) -> &Word32;
}

/// The shared part of a pool: top of the stack, counts.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct PoolHead {
    /// Tag above, index plus one of the top item below.
    top: Word64,
    free: Word32,
    high_water: Word32,
}

impl PoolHead {
    #[cfg(loom)]
    pub fn new() -> Self {
        PoolHead {
            top: Word64::new(0),
            free: Word32::new(0),
            high_water: Word32::new(0),
        }
    }

    /// For tests: gives the stack's top another tag.
    #[cfg(not(loom))]
    pub fn set_tag(&self, tag: u32) {
        let top = self.top.peek() as u32;
        self.top.set(u64::from(tag) << 32 | u64::from(top));
    }

    /// Items in the stack. A momentary count: other processes take and give meanwhile.
    pub fn free(&self) -> u32 {
        self.free.peek()
    }

    /// The most items that were ever out of the stack.
    pub fn high_water(&self) -> u32 {
        self.high_water.peek()
    }
}

/// A pool: its head and its items.
#[derive(Debug)]
pub(crate) struct Pool<'t, T> {
    pub head: &'t PoolHead,
    pub items: &'t [T],
}

impl<T> Clone for Pool<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Pool<'_, T> {}

impl<'t, T: Item> Pool<'t, T> {
    /// Items that exist.
    pub fn capacity(&self) -> u32 {
        self.items.len() as u32
    }

    /// Which items are in the stack, for the audit: nobody may be using the pool.
    pub fn stacked(&self) -> Vec<bool> {
        let mut stacked = vec![false; self.items.len()];
        let mut at = self.head.top.peek() as u32;
        while let Some(item) = at
            .checked_sub(1)
            .and_then(|index| self.items.get(index as usize))
        {
            if std::mem::replace(&mut stacked[(at - 1) as usize], true) {
                break;
            }
            at = item.link().peek();
        }
        stacked
    }

    /// Puts exactly `free` into the stack, in this order from the top, and forgets what was there.
    ///
    /// For the start and for recovery: nobody else may be using the pool.
    pub fn rebuild(&self, free: impl DoubleEndedIterator<Item = u32>) {
        let mut below = 0;
        let mut count = 0;
        for index in free.rev() {
            let item = &self.items[index as usize];
            item.hold().put(Hold::Free.word());
            item.link().put(below);
            below = index + 1;
            count += 1;
        }
        let tag = (self.head.top.peek() >> 32).wrapping_add(1);
        self.head.free.set(count);
        self.head.top.set(tag << 32 | u64::from(below));
    }

    /// Puts exactly the items for which `is_free` says so into the stack, the lowest on top, and returns how many were not marked
    /// free before. Writes only what changes: most items are as the last recovery left them, and there may be a million.
    ///
    /// For recovery: nobody else may be using the pool.
    pub fn sweep(&self, is_free: impl Fn(usize, Hold) -> bool) -> u32 {
        let (mut below, mut count, mut returned) = (0, 0, 0);
        for (index, item) in self.items.iter().enumerate().rev() {
            let hold = Hold::of(item.hold().peek());
            if !is_free(index, hold) {
                continue;
            }
            if hold != Hold::Free {
                item.hold().put(Hold::Free.word());
                returned += 1;
            }
            if item.link().peek() != below {
                item.link().put(below);
            }
            below = index as u32 + 1;
            count += 1;
        }
        let tag = (self.head.top.peek() >> 32).wrapping_add(1);
        self.head.free.set(count);
        self.head.top.set(tag << 32 | u64::from(below));
        returned
    }

    /// Takes up to `most` items in one exchange; each is held by `me` and appended to `into`.
    pub fn take(&self, me: ProcessId, most: usize, into: &mut Vec<u32>) {
        let start = into.len();
        loop {
            let top = self.head.top.get();
            let mut next = top as u32;
            while next != 0 && into.len() - start < most {
                // While others take and give, a link may be anything; the exchange below then fails.
                let Some(item) = self.items.get((next - 1) as usize) else {
                    break;
                };
                into.push(next - 1);
                next = item.link().peek();
            }
            if into.len() == start {
                if top as u32 == 0 {
                    return;
                }
                continue;
            }
            let taken = (into.len() - start) as u32;
            let tag = (top >> 32).wrapping_add(1);
            if next as usize <= self.items.len()
                && self
                    .head
                    .top
                    .exchange(top, tag << 32 | u64::from(next))
                    .is_ok()
            {
                for &index in &into[start..] {
                    self.items[index as usize].hold().put(Hold::Held(me).word());
                }
                let free = self.head.free.sub(taken).wrapping_sub(taken);
                self.head
                    .high_water
                    .raise(self.capacity().saturating_sub(free));
                return;
            }
            into.truncate(start);
        }
    }

    /// Takes one item, or `None` when the stack is empty.
    pub fn take_one(&self, me: ProcessId) -> Option<u32> {
        let mut one = Vec::with_capacity(1);
        self.take(me, 1, &mut one);
        one.pop()
    }

    /// Gives back items that the caller holds, in one exchange.
    pub fn give(&self, items: &[u32]) {
        let (Some(&first), Some(&last)) = (items.first(), items.last()) else {
            return;
        };
        for pair in items.windows(2) {
            self.items[pair[0] as usize].link().put(pair[1] + 1);
        }
        for &index in items {
            self.items[index as usize].hold().put(Hold::Free.word());
        }
        loop {
            let top = self.head.top.get();
            self.items[last as usize].link().put(top as u32);
            let tag = (top >> 32).wrapping_add(1);
            if self
                .head
                .top
                .exchange(top, tag << 32 | u64::from(first + 1))
                .is_ok()
            {
                self.head.free.add(items.len() as u32);
                return;
            }
        }
    }
}

/// How many items move between a magazine and its pool at a time, where the pool is large: about as many as one turn needs, so that
/// what a turn takes and gives back stays in hand.
const BATCH: usize = 1_024;

/// The part of a pool that a batch may be.
const BATCH_PART: usize = 256;

/// Items in hand that are kept however small the pool is.
const KEPT_ALWAYS: usize = 32;

/// Items of one pool in one process's hands: taking one is a pop from a private list.
///
/// The list is a cache: each item in it names its holder in the segment.
#[derive(Debug)]
pub(crate) struct Magazine {
    items: Vec<u32>,
    /// How many move at a time: never more than a fraction of a small pool in one hand, or the others starve.
    batch: usize,
    /// More than so many are not kept.
    most: usize,
}

impl Magazine {
    /// A magazine for the items of a pool, empty.
    pub fn of<T: Item>(pool: Pool<'_, T>) -> Self {
        let batch = BATCH.min(pool.items.len() / BATCH_PART);
        Magazine {
            items: Vec::new(),
            batch,
            most: 2 * batch + KEPT_ALWAYS,
        }
    }

    /// How many items are in hand.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Makes sure that `wanted` items are in hand and `reserve` stay in the pool; false if that cannot be.
    #[inline]
    pub fn fill<T: Item>(
        &mut self,
        pool: Pool<'_, T>,
        me: ProcessId,
        wanted: usize,
        reserve: u32,
    ) -> bool {
        if self.items.len() >= wanted {
            return pool.head.free() >= reserve;
        }
        self.fetch(pool, me, wanted, reserve)
    }

    #[cold]
    fn fetch<T: Item>(
        &mut self,
        pool: Pool<'_, T>,
        me: ProcessId,
        wanted: usize,
        reserve: u32,
    ) -> bool {
        let missing = wanted - self.items.len();
        if (pool.head.free() as usize) < missing + reserve as usize {
            return false;
        }
        pool.take(me, missing + self.batch, &mut self.items);
        self.items.len() >= wanted
    }

    /// Gives everything in hand back to the pool.
    pub fn empty<T: Item>(&mut self, pool: Pool<'_, T>) {
        pool.give(&self.items);
        self.items.clear();
    }

    /// The item that the next `pop` gives.
    #[inline]
    pub fn next(&self) -> Option<u32> {
        self.items.last().copied()
    }

    /// An item in hand; it names this process as its holder. `None` when `fill` was not asked for it.
    pub fn pop(&mut self) -> Option<u32> {
        self.items.pop()
    }

    /// Takes an item into hand that is no longer reachable from the shared state.
    #[inline]
    pub fn push<T: Item>(&mut self, pool: Pool<'_, T>, me: ProcessId, index: u32) {
        pool.items[index as usize].hold().put(Hold::Held(me).word());
        self.items.push(index);
        self.trim(pool);
    }

    /// Gives back what is more in hand than is worth keeping.
    #[inline]
    pub fn trim<T: Item>(&mut self, pool: Pool<'_, T>) {
        if self.items.len() > self.most {
            self.give_surplus(pool);
        }
    }

    #[cold]
    fn give_surplus<T: Item>(&mut self, pool: Pool<'_, T>) {
        let surplus = self.items.split_off(self.batch);
        pool.give(&surplus);
    }
}
