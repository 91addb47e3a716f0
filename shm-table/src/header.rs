//! The segment's first bytes: what it is, how large, and what all processes share.

use crate::layout::Capacity;
use crate::pool::PoolHead;
use crate::segment::Identity;
use crate::word::{Word32, Word64};

/// "STEADFST" as a little-endian word.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"STEADFST");

/// Counts up when the meaning of a field changes without its size.
pub(crate) const LAYOUT_VERSION: u32 = if cfg!(feature = "other-layout") {
    u32::MAX
} else {
    7
};

/// The header. Written by the master when it creates the segment, unless said otherwise.
#[repr(C, align(64))]
#[derive(Debug)]
pub(crate) struct Header {
    /// [`MAGIC`]; set last, so a half-made segment is recognised.
    pub magic: Word64,
    pub layout_hash: Word64,
    pub layout_version: Word32,
    pub sessions: Word32,
    pub groups: Word32,
    pub memberships: Word32,
    pub workers: Word32,
    pub hosts: Word32,
    /// 1 where there is a link that wants to know of logins and departures. Master.
    pub linked: Word32,
    pub arena_bytes: Word64,
    /// Who attaches looks whether it is the one that was named.
    pub identity: [Word64; 2],
    /// Tells this segment's life from any other's; part of every session id.
    pub boot: Word64,
    /// Keys of the name hash: a client cannot choose names that collide.
    pub hash_keys: [Word64; 2],
    /// CLOCK_MONOTONIC milliseconds when the segment was made; wrapping, as a test may have it made years ago.
    pub epoch_ms: Word64,
    /// Connections that were ever given a row: the number of the last one. Master.
    pub connections: Word64,
    /// The ordinal with which a connection begins; 0 but in tests. Master, at the start.
    pub ordinals_from: Word32,
    pub reserved: Word32,
    /// 1 while recovery wants the segment still. Master.
    pub pause: Word32,
    /// 1 while the server ends. Master.
    pub draining: Word32,
    /// Rows that are not free, and the most there ever were. Master.
    pub seated: Word32,
    pub seated_high_water: Word32,
    /// Memberships that exist, and the most there ever were. Anybody.
    pub memberships_used: Word32,
    pub memberships_high_water: Word32,
    /// Beginnings and ends of groups, wrapping. Anybody.
    pub groups_changes: Word64,
    pub users: PoolHead,
    pub groups_pool: PoolHead,
    pub chunks: PoolHead,
    pub nodes: PoolHead,
    pub arena: PoolHead,
}

impl Header {
    pub fn identity(&self) -> Identity {
        Identity([self.identity[0].peek(), self.identity[1].peek()])
    }

    pub fn capacity(&self) -> Capacity {
        Capacity {
            sessions: self.sessions.peek(),
            arena_bytes: self.arena_bytes.peek(),
            groups: self.groups.peek(),
            memberships: self.memberships.peek(),
            workers: self.workers.peek() as u8,
            hosts: self.hosts.peek() as u8,
        }
    }
}
