//! The sections of a mapped segment as slices, and what follows from them alone.

use siphasher::sip::SipHasher13;

use crate::arena::{Arena, BLOCK_BYTES, Block, BlockHead};
use crate::cluster::ClusterWords;
use crate::control::Control;
use crate::groups::{Chunk, Group};
use crate::handle::{FIRST_WORKER, LINK, ProcessId, RowHandle, Slot};
use crate::header::Header;
use crate::inbox::InboxRecord;
use crate::layout::WINDOW_BYTES;
use crate::lock::Lock;
use crate::mail_shares::MailShares;
use crate::mailbox::Mailbox;
use crate::outbox::Node;
use crate::pool::Pool;
use crate::prefetch::prefetch;
use crate::ready::Ready;
use crate::row::{Order, Row, ordered};
use crate::users::User;
use crate::word::{Word32, Word64};

/// A deadline's unit in milliseconds. A tick is 32 bits of the table's clock in it, which wrap every 2.2 years: ticks are compared as
/// differences, which is right as long as no deadline lies more than a year ahead or behind.
pub(crate) const TICK_MS: u64 = 16;

/// Deadlines that are looked at together.
const DEADLINES_AT_ONCE: usize = 32;

/// Ahead of everything.
const NEVER: i32 = i32::MAX;

/// What a look at the deadlines found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// Deadlines that had passed and were taken away.
    pub expired: u32,
    /// Milliseconds until the next one passes, up to 16 too many; `None`: there is none.
    pub next_ms: Option<u64>,
}

/// Every section of one segment, as this process has it mapped.
#[derive(Clone, Copy)]
pub(crate) struct View<'t> {
    pub header: &'t Header,
    pub controls: &'t [Control],
    pub user_locks: &'t [Lock],
    pub group_locks: &'t [Lock],
    pub rows: &'t [Row],
    pub deadlines: &'t [Word32],
    pub user_buckets: &'t [Word64],
    pub users: &'t [User],
    pub group_buckets: &'t [Word64],
    pub groups: &'t [Group],
    pub chunks: &'t [Chunk],
    pub nodes: &'t [Node],
    pub arena: Arena<'t>,
    pub ready_summaries: &'t [Word64],
    pub ready_rows: &'t [Word64],
    /// The read windows of all workers, one behind the other.
    pub windows: &'t [Block],
    pub mailbox: &'t Mailbox,
    /// One, or none where there are no other hosts.
    pub mail_shares: &'t [MailShares],
    pub inboxes: &'t [InboxRecord],
    pub cluster: &'t ClusterWords,
}

impl<'t> View<'t> {
    pub fn user_pool(&self) -> Pool<'t, User> {
        Pool {
            head: &self.header.users,
            items: self.users,
        }
    }

    pub fn group_pool(&self) -> Pool<'t, Group> {
        Pool {
            head: &self.header.groups_pool,
            items: self.groups,
        }
    }

    pub fn chunk_pool(&self) -> Pool<'t, Chunk> {
        Pool {
            head: &self.header.chunks,
            items: self.chunks,
        }
    }

    pub fn node_pool(&self) -> Pool<'t, Node> {
        Pool {
            head: &self.header.nodes,
            items: self.nodes,
        }
    }

    pub fn row(&self, handle: RowHandle) -> Option<&'t Row> {
        self.rows.get(handle.row as usize)
    }

    /// Asks for the part of a row that reading and writing need.
    #[inline]
    pub fn prefetch_row(&self, row: u32) {
        if let Some(row) = self.rows.get(row as usize) {
            prefetch(row, std::mem::offset_of!(Row, user_name));
        }
    }

    /// Asks for the part of a row that putting something into its outbox needs.
    #[inline]
    pub fn prefetch_row_head(&self, row: u32) {
        if let Some(row) = self.rows.get(row as usize) {
            prefetch(row, std::mem::offset_of!(Row, serial));
        }
    }

    /// Asks for the newest entry in the outbox of a row that was asked for before.
    #[inline]
    pub fn prefetch_entry(&self, row: u32) {
        if let Some(node) = self.newest_entry(row) {
            prefetch(node, size_of::<Node>());
        }
    }

    /// Asks for the message of the newest entry in the outbox of a row, after that entry was asked for.
    #[inline]
    pub fn prefetch_message_of_row(&self, row: u32) {
        if let Some(node) = self.newest_entry(row) {
            self.prefetch_message(node);
        }
    }

    /// Asks for the message of an entry.
    #[inline]
    pub fn prefetch_message(&self, entry: &Node) {
        if let Some(first) = entry.message.peek().checked_sub(1) {
            self.prefetch_block(first);
        }
    }

    /// Asks for a block and its head.
    #[inline]
    pub fn prefetch_block(&self, block: u32) {
        if let Some(head) = self.arena.heads.get(block as usize) {
            prefetch(head, size_of::<BlockHead>());
        }
        if let Some(block) = self.arena.blocks.get(block as usize) {
            prefetch(block, size_of::<Block>());
        }
    }

    /// A hint: the entry may be another row's by now.
    #[inline]
    fn newest_entry(&self, row: u32) -> Option<&'t Node> {
        let top = self.rows.get(row as usize)?.out_top.peek();
        self.nodes.get((top as u32).checked_sub(1)? as usize)
    }

    /// The ready bits of a worker, or of the link, for whom a bit means that a row's session may have begun or ended; `None` for other
    /// slots.
    #[inline]
    pub fn ready(&self, slot: Slot) -> Option<Ready<'t>> {
        let workers = self.controls.len() - usize::from(FIRST_WORKER);
        let worker = match slot {
            LINK => workers,
            _ => Some(usize::from(slot.checked_sub(FIRST_WORKER)?)).filter(|n| *n < workers)?,
        };
        let (low, high) = Ready::words(self.rows.len() as u32);
        Some(Ready {
            summary: self
                .ready_summaries
                .get(worker * high..(worker + 1) * high)?,
            rows: self.ready_rows.get(worker * low..(worker + 1) * low)?,
        })
    }

    /// The read window of a worker's slot; `None` for other slots.
    pub fn window(&self, slot: Slot) -> Option<&'t [Block]> {
        const BLOCKS: usize = WINDOW_BYTES / BLOCK_BYTES;
        let first = usize::from(slot.checked_sub(FIRST_WORKER)?) * BLOCKS;
        self.windows.get(first..first + BLOCKS)
    }

    /// Hash of a name, keyed per segment.
    pub fn hash(&self, name: &str) -> u64 {
        self.hash_bytes(name.as_bytes())
    }

    pub fn hash_bytes(&self, bytes: &[u8]) -> u64 {
        let keys = &self.header.hash_keys;
        SipHasher13::new_with_keys(keys[0].peek(), keys[1].peek()).hash(bytes)
    }

    /// Milliseconds since the segment was made; the same in all processes of the host.
    pub fn now_ms(&self) -> u64 {
        monotonic_ms().wrapping_sub(self.header.epoch_ms.peek())
    }

    /// The same in microseconds.
    #[inline]
    pub fn now_us(&self) -> u64 {
        monotonic_us().wrapping_sub(self.header.epoch_ms.peek().wrapping_mul(1000))
    }

    /// True unless the process has been declared dead.
    pub fn lives(&self, process: ProcessId) -> bool {
        self.controls
            .get(usize::from(process.slot))
            .is_some_and(|control| control.holds(process))
    }

    /// Adds an order to a row, unless the handle is stale; returns the owner's slot if it has to look.
    pub fn add_order(&self, handle: RowHandle, order: Order) -> Option<Slot> {
        let row = self.row(handle)?;
        let mut seen = row.orders.get();
        loop {
            if (seen >> 32) as u32 != handle.generation {
                return None;
            }
            match row.orders.exchange(seen, ordered(seen, order)) {
                Ok(()) => return self.mark_ready(handle.row),
                Err(now) => seen = now,
            }
        }
    }

    /// Marks a row as having something for its owner; returns the owner's slot, which has to look.
    #[inline]
    pub fn mark_ready(&self, row: u32) -> Option<Slot> {
        let owner = self.rows[row as usize].state().owner.slot;
        self.ready(owner)?.mark(row);
        Some(owner)
    }

    /// Sets or clears (0) a row's deadline, in table milliseconds. The timer is never early.
    #[inline]
    pub fn set_deadline(&self, row: u32, at_ms: u64) {
        let tick = if at_ms == 0 {
            0
        } else {
            ((at_ms / TICK_MS + 1) as u32).max(1)
        };
        let deadline = &self.deadlines[row as usize];
        if deadline.peek() != tick {
            deadline.put(tick);
        }
    }

    /// A row's deadline in table milliseconds, rounded up to the next tick; 0 = none.
    pub fn deadline(&self, row: u32, now_ms: u64) -> u64 {
        match self.deadlines[row as usize].peek() {
            0 => 0,
            tick => {
                let now = now_ms / TICK_MS;
                let ahead = tick.wrapping_sub(now as u32) as i32;
                (now.saturating_add_signed(ahead.into()) * TICK_MS).max(1)
            }
        }
    }

    /// Orders [`Order::DEADLINE`] on every row whose deadline has passed, once; or twice, if it is killed before the
    /// deadline is taken away, for then the next one finds it again. Returns what came of it, and the slots that have to look, as bits.
    pub fn expire_deadlines(&self, now_ms: u64) -> (Expiry, u64) {
        let now = (now_ms / TICK_MS) as u32;
        // In ticks; nothing lies further ahead than no deadline. The difference wraps with the tick.
        let ahead = |tick: u32| match tick {
            0 => NEVER,
            tick => tick.wrapping_sub(now) as i32,
        };
        let (mut expired, mut slots, mut nearest) = (0, 0, NEVER);
        for (number, block) in self.deadlines.chunks(DEADLINES_AT_ONCE).enumerate() {
            // Nearly all of them lie ahead: without a branch for each, some at a time are passed over in few steps.
            let ticks = block.iter().map(Word32::peek);
            let least = ticks.map(ahead).fold(NEVER, i32::min);
            if least > 0 {
                nearest = nearest.min(least);
                continue;
            }
            for (at, deadline) in block.iter().enumerate() {
                let tick = deadline.peek();
                let ahead = ahead(tick);
                if ahead > 0 {
                    nearest = nearest.min(ahead);
                    continue;
                }
                let row = number * DEADLINES_AT_ONCE + at;
                let (was_taken, slot) = self.expire(row, deadline, tick);
                expired += u32::from(was_taken);
                slots |= slot.map_or(0, |slot| 1 << slot);
            }
        }
        let expiry = Expiry {
            expired,
            next_ms: (nearest != NEVER).then(|| nearest as u64 * TICK_MS),
        };
        (expiry, slots)
    }

    /// Orders what follows from a row's deadline at `tick`: whether the deadline was taken away, and the slot that has to look.
    fn expire(&self, row: usize, deadline: &Word32, tick: u32) -> (bool, Option<Slot>) {
        let generation = self.rows[row].state().generation;
        if deadline.peek() != tick {
            // The row may be in a later life already, whose deadline this was not.
            return (false, None);
        }
        let handle = RowHandle {
            row: row as u32,
            generation,
        };
        let slot = self.add_order(handle, Order::DEADLINE);
        (deadline.exchange(tick, 0).is_ok(), slot)
    }
}

/// CLOCK_MONOTONIC in milliseconds (`clock_gettime(2)`): one clock for all processes of a host, never set. Deadlines and signs of life
/// are in it: it stands still while the host is suspended, in which nobody can send, answer or say that he lives.
pub(crate) fn monotonic_ms() -> u64 {
    monotonic_us() / 1000
}

fn monotonic_us() -> u64 {
    read_us(nix::time::ClockId::CLOCK_MONOTONIC)
}

/// CLOCK_BOOTTIME in milliseconds: one clock for all processes of a host, never set, and it goes on while the host is suspended. What is to
/// be compared with other hosts is in it, with what the directory's clock is ahead of it ([`crate::ClockMark`]).
pub fn host_ms() -> u64 {
    read_us(nix::time::ClockId::CLOCK_BOOTTIME) / 1000
}

fn read_us(clock: nix::time::ClockId) -> u64 {
    // Cannot fail for these clocks on Linux; a zero would only make everything look on time.
    clock.now().map_or(0, |time| {
        time.tv_sec() as u64 * 1_000_000 + time.tv_nsec() as u64 / 1000
    })
}

/// Unix time in milliseconds, to be shown to people. It may be set at any time, so nothing is decided by it.
pub(crate) fn unix_ms() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}
