//! The segment: created by the master before any other process exists, attached by everyone else.
//!
//! Made through the `shared_memory` crate, all pages reserved at once, so that a full /dev/shm is an error at
//! the start and never a SIGBUS later. Attached by the descriptor and the identity that the master gives; never by a name.

use std::cell::UnsafeCell;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::arena::{Arena, Block};
use crate::handle::FIRST_WORKER;
use crate::header::{Header, LAYOUT_VERSION, MAGIC};
use crate::layout::{Capacity, Layout, Section, layout_hash};
use crate::mapping::Mapping;
use crate::segment::{self, Claim, Identity, random};
use crate::view::{View, monotonic_ms};
use crate::window::ReadWindow;
use crate::{ProcessId, Slot};

/// Why a segment could not be created.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum CreateError {
    #[error(
        "the table needs {needed_bytes} bytes of shared memory and /dev/shm has {} free; make /dev/shm \
         larger, or lower table.sessions or table.arena_mib",
        available_bytes.map_or("fewer".to_owned(), |bytes| bytes.to_string())
    )]
    NoSpace {
        needed_bytes: u64,
        available_bytes: Option<u64>,
    },
    #[error("the shared-memory segment {name} cannot be created: {reason}")]
    Os { name: String, reason: String },
}

/// Why a segment could not be attached.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum AttachError {
    #[error("the segment that the master has passed on cannot be mapped: {0}")]
    Os(#[from] io::Error),
    #[error("what the master has passed on is not a Steadfast segment, or not a finished one")]
    NotASegment,
    #[error(
        "the segment has another layout (version {theirs}) than this executable (version {ours}): it was made by \
         another version of Steadfast"
    )]
    OtherLayout { theirs: u32, ours: u32 },
    #[error(
        "the segment that the master has passed on is not the one that it named: it is another server's"
    )]
    OtherSegment,
}

enum Backing {
    Shared(Mapping),
    /// For tests and benchmarks: the same table in private memory.
    Private(Vec<PrivatePage>),
}

#[repr(C, align(4096))]
struct PrivatePage(UnsafeCell<[u8; 4096]>);

/// One mapping of the segment. A process makes one and keeps it for its life.
pub struct Table {
    backing: Backing,
    layout: Layout,
    /// Workers, as bits, whose read windows were handed out in this process.
    windows_taken: AtomicU64,
}

// SAFETY: the mapping is process-wide memory that any thread may use; everything in it that is shared is reached
// through atomic words, blocks (see `Block`) or a read window, which is handed out once.
unsafe impl Send for Table {}
// SAFETY: as above.
unsafe impl Sync for Table {}

impl Table {
    /// Creates a segment of its own, and claims it. Only the master, before it starts any other process.
    ///
    /// # Errors
    /// See [`CreateError`]; nothing is left behind then.
    pub fn create(capacity: &Capacity) -> Result<(Table, Claim), CreateError> {
        let layout = Layout::of(capacity);
        let (identity, file, claim) = segment::make(layout.bytes)?;
        let mapping = Mapping::of(file).map_err(|e| CreateError::Os {
            name: claim.name().to_owned(),
            reason: e.to_string(),
        })?;
        let table = Table {
            backing: Backing::Shared(mapping),
            layout,
            windows_taken: AtomicU64::new(0),
        };
        table.initialise(capacity, identity);
        Ok((table, claim))
    }

    /// A table in this process's private memory, for tests and benchmarks: everything but `attach` works.
    pub fn private(capacity: &Capacity) -> Table {
        let layout = Layout::of(capacity);
        let pages = std::iter::repeat_with(|| PrivatePage(UnsafeCell::new([0; 4096])))
            .take(layout.bytes / 4096)
            .collect();
        let table = Table {
            backing: Backing::Private(pages),
            layout,
            windows_taken: AtomicU64::new(0),
        };
        table.initialise(capacity, Identity::random());
        table
    }

    /// Attaches to the segment that the master has made: `file` as it passed it on, `identity` as it named it.
    ///
    /// # Errors
    /// See [`AttachError`].
    pub fn attach(file: OwnedFd, identity: Identity) -> Result<Table, AttachError> {
        let mapping = Mapping::of(File::from(file))?;
        if mapping.bytes() < size_of::<Header>() {
            return Err(AttachError::NotASegment);
        }
        // SAFETY: the mapping is page-aligned and large enough (just checked), and any bytes are a valid header.
        let header = unsafe { &*mapping.start().cast::<Header>() };
        if header.magic.get() != MAGIC {
            return Err(AttachError::NotASegment);
        }
        let theirs = header.layout_version.peek();
        if theirs != LAYOUT_VERSION || header.layout_hash.peek() != layout_hash() {
            return Err(AttachError::OtherLayout {
                theirs,
                ours: LAYOUT_VERSION,
            });
        }
        if header.identity() != identity {
            return Err(AttachError::OtherSegment);
        }
        let layout = Layout::of(&header.capacity());
        if mapping.bytes() < layout.bytes {
            return Err(AttachError::NotASegment);
        }
        Ok(Table {
            backing: Backing::Shared(mapping),
            layout,
            windows_taken: AtomicU64::new(0),
        })
    }

    /// The segment's descriptor, for those who are to attach it. A private table has none.
    pub fn file(&self) -> Option<BorrowedFd<'_>> {
        match &self.backing {
            Backing::Shared(mapping) => Some(mapping.as_fd()),
            Backing::Private(_) => None,
        }
    }

    /// Tells this segment from every other.
    pub fn identity(&self) -> Identity {
        self.view().header.identity()
    }

    /// What the segment was made for.
    pub fn capacity(&self) -> Capacity {
        self.view().header.capacity()
    }

    /// Milliseconds of CLOCK_MONOTONIC since the segment was made: one clock for all its processes.
    pub fn now_ms(&self) -> u64 {
        self.view().now_ms()
    }

    /// The same in microseconds.
    #[inline]
    pub fn now_us(&self) -> u64 {
        self.view().now_us()
    }

    /// Process slots: one more than the highest.
    pub fn slots(&self) -> Slot {
        self.layout.controls.count as Slot
    }

    /// The read window of a worker's slot; once per process, and `None` for other roles.
    pub fn read_window(&self, me: ProcessId) -> Option<ReadWindow<'_>> {
        let window = self.view().window(me.slot)?;
        // The slot has one process at a time (the master starts the next after the death of the last), and this process hands the
        // window out once.
        let bit = 1 << (me.slot - FIRST_WORKER);
        let taken = self.windows_taken.fetch_or(bit, Ordering::Relaxed);
        (taken & bit == 0).then(|| ReadWindow::new(window))
    }

    pub(crate) fn view(&self) -> View<'_> {
        let layout = &self.layout;
        // SAFETY: the mapping begins with a header, page-aligned; any bytes are a valid header.
        let header = unsafe { &*self.base().cast::<Header>() };
        View {
            header,
            controls: self.section(layout.controls),
            user_locks: self.section(layout.user_locks),
            group_locks: self.section(layout.group_locks),
            rows: self.section(layout.rows),
            deadlines: self.section(layout.deadlines),
            user_buckets: self.section(layout.user_buckets),
            users: self.section(layout.users),
            group_buckets: self.section(layout.group_buckets),
            groups: self.section(layout.groups),
            chunks: self.section(layout.chunks),
            nodes: self.section(layout.nodes),
            arena: Arena {
                head: &header.arena,
                heads: self.section(layout.block_heads),
                blocks: self.section(layout.blocks),
            },
            ready_summaries: self.section(layout.ready_summaries),
            ready_rows: self.section(layout.ready_rows),
            windows: self.section(Section {
                count: layout.windows.count / size_of::<Block>(),
                ..layout.windows
            }),
            mailbox: &self.section(layout.mailbox)[0],
            mail_shares: self.section(layout.mail_shares),
            inboxes: self.section(layout.inboxes),
            cluster: &self.section(layout.cluster)[0],
        }
    }

    fn base(&self) -> *mut u8 {
        match &self.backing {
            Backing::Shared(mapping) => mapping.start(),
            Backing::Private(pages) => pages.as_ptr().cast_mut().cast(),
        }
    }

    fn section<T>(&self, section: Section) -> &[T] {
        debug_assert!(section.offset + section.count * size_of::<T>() <= self.layout.bytes);
        // SAFETY: the layout places each section within the mapping, aligned to 64 bytes, with `count` elements
        // of this type; the types consist of atomic words or of `Block`s, for which any bytes are valid and
        // shared access is sound.
        unsafe { std::slice::from_raw_parts(self.base().add(section.offset).cast(), section.count) }
    }

    fn initialise(&self, capacity: &Capacity, identity: Identity) {
        let view = self.view();
        let header = view.header;
        header.layout_hash.put(layout_hash());
        header.layout_version.put(LAYOUT_VERSION);
        header.identity[0].put(identity.0[0]);
        header.identity[1].put(identity.0[1]);
        header.sessions.put(capacity.sessions);
        header.groups.put(capacity.groups);
        header.memberships.put(capacity.memberships);
        header.workers.put(u32::from(capacity.workers));
        header.hosts.put(u32::from(capacity.hosts));
        header.arena_bytes.put(capacity.arena_bytes);
        header.epoch_ms.put(monotonic_ms().saturating_sub(1));
        header.boot.put(random());
        header.hash_keys[0].put(random());
        header.hash_keys[1].put(random());
        view.user_pool().rebuild(0..view.users.len() as u32);
        view.group_pool().rebuild(0..view.groups.len() as u32);
        view.chunk_pool().rebuild(0..view.chunks.len() as u32);
        view.node_pool().rebuild(0..view.nodes.len() as u32);
        view.arena.pool().rebuild(0..view.arena.heads.len() as u32);
        header.magic.set(MAGIC);
    }
}
