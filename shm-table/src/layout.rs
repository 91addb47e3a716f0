//! Where each section of the segment lies, computed from the capacities alone.

use crate::arena::{Block, BlockHead};
use crate::cluster::ClusterWords;
use crate::control::Control;
use crate::groups::{Chunk, Group};
use crate::handle::{FIRST_WORKER, WORKERS_MAX};
use crate::header::Header;
use crate::inbox::InboxRecord;
use crate::lock::Lock;
use crate::mail_shares::MailShares;
use crate::mailbox::Mailbox;
use crate::outbox::Node;
use crate::ready::Ready;
use crate::row::Row;
use crate::users::User;
use crate::word::{Word32, Word64};

/// Bytes of a worker's read window, the room in front of it included.
pub const WINDOW_BYTES: usize = 256 * 1024;

/// Locks per index. More than processes, so that two writers rarely meet.
pub(crate) const STRIPES: usize = 64;

/// How much a table holds; fixed for its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Rows, from 1 to 16,777,215.
    pub sessions: u32,
    /// Bytes of the arena: received and outgoing bytes together.
    pub arena_bytes: u64,
    /// Groups that exist at a time.
    pub groups: u32,
    /// Memberships (a session in a group) at a time.
    pub memberships: u32,
    /// Worker processes, from 1 to [`WORKERS_MAX`].
    pub workers: u8,
    /// Other hosts that this one may speak with at a time; 0 = none.
    pub hosts: u8,
}

impl Capacity {
    /// Bytes of the segment.
    pub fn segment_bytes(&self) -> u64 {
        Layout::of(self).bytes as u64
    }
}

/// A section: offset in bytes from the segment's start, and number of elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Section {
    pub offset: usize,
    pub count: usize,
}

/// Every section of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub controls: Section,
    pub user_locks: Section,
    pub group_locks: Section,
    pub rows: Section,
    pub deadlines: Section,
    pub user_buckets: Section,
    pub users: Section,
    pub group_buckets: Section,
    pub groups: Section,
    pub chunks: Section,
    pub nodes: Section,
    pub block_heads: Section,
    pub blocks: Section,
    pub ready_summaries: Section,
    pub ready_rows: Section,
    pub windows: Section,
    pub mailbox: Section,
    pub mail_shares: Section,
    pub inboxes: Section,
    pub cluster: Section,
    pub bytes: usize,
}

/// Sections begin on their own cache lines.
const ALIGN: usize = 64;

impl Layout {
    pub fn of(capacity: &Capacity) -> Self {
        let sessions = capacity.sessions as usize;
        let workers = usize::from(capacity.workers.clamp(1, WORKERS_MAX));
        // A quarter more user entries than rows: those without a session remember when they were last seen.
        let users = sessions + sessions / 4 + 64;
        // Twice the chunks that full ones would need: leaving members leave holes.
        let chunks = capacity.groups as usize + (capacity.memberships as usize).div_ceil(8);
        let blocks = (capacity.arena_bytes as usize / size_of::<Block>()).max(64);
        // The link has ready bits too, behind those of the workers.
        // A broadcast needs an entry for every row at once.
        let nodes = 2 * blocks.max(sessions);
        let (ready_rows, ready_summary) = Ready::words(capacity.sessions);
        let buckets = |entries: usize| entries.next_power_of_two().max(STRIPES);

        let mut end = size_of::<Header>().next_multiple_of(ALIGN);
        let mut section = |count: usize, element: usize| {
            let offset = end;
            end = (end + count * element).next_multiple_of(ALIGN);
            Section { offset, count }
        };
        let mut layout = Layout {
            controls: section(usize::from(FIRST_WORKER) + workers, size_of::<Control>()),
            user_locks: section(STRIPES, size_of::<Lock>()),
            group_locks: section(STRIPES, size_of::<Lock>()),
            rows: section(sessions, size_of::<Row>()),
            deadlines: section(sessions, size_of::<Word32>()),
            user_buckets: section(buckets(users), size_of::<Word64>()),
            users: section(users, size_of::<User>()),
            group_buckets: section(buckets(capacity.groups as usize), size_of::<Word64>()),
            groups: section(capacity.groups as usize, size_of::<Group>()),
            chunks: section(chunks, size_of::<Chunk>()),
            nodes: section(nodes, size_of::<Node>()),
            block_heads: section(blocks, size_of::<BlockHead>()),
            blocks: section(blocks, size_of::<Block>()),
            ready_summaries: section((workers + 1) * ready_summary, size_of::<Word64>()),
            ready_rows: section((workers + 1) * ready_rows, size_of::<Word64>()),
            windows: section(workers * WINDOW_BYTES, 1),
            mailbox: section(1, size_of::<Mailbox>()),
            // Only where there are other hosts.
            mail_shares: section(capacity.hosts.min(1).into(), size_of::<MailShares>()),
            inboxes: section(usize::from(capacity.hosts), size_of::<InboxRecord>()),
            cluster: section(1, size_of::<ClusterWords>()),
            bytes: 0,
        };
        layout.bytes = end.next_multiple_of(4096);
        layout
    }
}

/// Tells layouts apart: any change of a structure's size or of the way sections are laid out changes it.
pub(crate) fn layout_hash() -> u64 {
    let sizes = [
        size_of::<Header>(),
        size_of::<Control>(),
        size_of::<Row>(),
        size_of::<User>(),
        size_of::<Group>(),
        size_of::<Chunk>(),
        size_of::<Node>(),
        size_of::<BlockHead>(),
        size_of::<Block>(),
        size_of::<Lock>(),
        size_of::<Mailbox>(),
        size_of::<MailShares>(),
        size_of::<InboxRecord>(),
        size_of::<ClusterWords>(),
        STRIPES,
        WINDOW_BYTES,
        usize::from(FIRST_WORKER),
    ];
    // FNV-1a (draft-eastlake-fnv): stable across builds, unlike the standard library's hashers.
    sizes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &size| {
        (hash ^ size as u64).wrapping_mul(0x0100_0000_01b3)
    })
}
