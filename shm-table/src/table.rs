//! The segment: created by the master before any other process exists, attached by everyone else.
//!
//! Made through the `shared_memory` crate, all pages reserved at once, so that a full /dev/shm is an error at
//! the start and never a SIGBUS later.

use std::cell::UnsafeCell;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use shared_memory::{Shmem, ShmemConf, ShmemError};

use crate::arena::{Arena, Block};
use crate::handle::FIRST_WORKER;
use crate::header::{Header, LAYOUT_VERSION, MAGIC};
use crate::layout::{Capacity, Layout, Section, layout_hash};
use crate::view::{View, monotonic_ms};
use crate::window::ReadWindow;
use crate::{ProcessId, Slot};

/// Why a segment could not be created.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum CreateError {
    #[error("the shared-memory segment {name} exists already{}", match master_pid {
        Some(pid) => format!(" and belongs to the master with pid {pid}"),
        None => String::new(),
    })]
    Exists {
        name: String,
        master_pid: Option<i32>,
    },
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
    #[error("the shared-memory segment {name} cannot be opened: {reason}")]
    Os { name: String, reason: String },
    #[error("{name} is not a Steadfast segment, or not a finished one")]
    NotASegment { name: String },
    #[error(
        "the segment {name} has another layout (version {theirs}) than this executable (version {ours}): \
         it was made by another version of Steadfast"
    )]
    OtherLayout {
        name: String,
        theirs: u32,
        ours: u32,
    },
}

enum Backing {
    Shared(Shmem),
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
    /// Creates the segment `name` (as for `shm_open(3)`, without the leading slash). Only the master, before
    /// it starts any other process.
    pub fn create(name: &str, capacity: &Capacity) -> Result<Table, CreateError> {
        let layout = Layout::of(capacity);
        let shmem = ShmemConf::new()
            .os_id(name)
            .size(layout.bytes)
            .create()
            .map_err(|error| match error {
                ShmemError::MappingIdExists => CreateError::Exists {
                    name: name.to_owned(),
                    master_pid: Table::attach(name)
                        .ok()
                        .and_then(|table| table.master_pid()),
                },
                other => CreateError::Os {
                    name: name.to_owned(),
                    reason: other.to_string(),
                },
            })?;
        reserve_pages(name, layout.bytes)?;
        let table = Table {
            backing: Backing::Shared(shmem),
            layout,
            windows_taken: AtomicU64::new(0),
        };
        table.initialise(capacity);
        Ok(table)
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
        table.initialise(capacity);
        table
    }

    /// Attaches to a segment that the master has made.
    pub fn attach(name: &str) -> Result<Table, AttachError> {
        let mut shmem = ShmemConf::new()
            .os_id(name)
            .open()
            .map_err(|error| AttachError::Os {
                name: name.to_owned(),
                reason: error.to_string(),
            })?;
        // Only the master's explicit `remove` unlinks the name.
        shmem.set_owner(false);
        let not_a_segment = || AttachError::NotASegment {
            name: name.to_owned(),
        };
        if shmem.len() < size_of::<Header>() {
            return Err(not_a_segment());
        }
        // SAFETY: the mapping is page-aligned and large enough (just checked), and any bytes are a valid header.
        let header = unsafe { &*shmem.as_ptr().cast::<Header>() };
        if header.magic.get() != MAGIC {
            return Err(not_a_segment());
        }
        let theirs = header.layout_version.peek();
        if theirs != LAYOUT_VERSION || header.layout_hash.peek() != layout_hash() {
            return Err(AttachError::OtherLayout {
                name: name.to_owned(),
                theirs,
                ours: LAYOUT_VERSION,
            });
        }
        let layout = Layout::of(&header.capacity());
        if shmem.len() < layout.bytes {
            return Err(not_a_segment());
        }
        Ok(Table {
            backing: Backing::Shared(shmem),
            layout,
            windows_taken: AtomicU64::new(0),
        })
    }

    /// Removes the segment's name; its memory goes when the last process that has it mapped ends.
    ///
    /// `Ok(false)` when there was none.
    pub fn remove(name: &str) -> std::io::Result<bool> {
        match nix::sys::mman::shm_unlink(format!("/{name}").as_str()) {
            Ok(()) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Pid of the master that made the segment.
    pub fn master_pid(&self) -> Option<i32> {
        i32::try_from(self.view().header.master_pid.peek())
            .ok()
            .filter(|&pid| pid > 0)
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
            inboxes: self.section(layout.inboxes),
            cluster: &self.section(layout.cluster)[0],
        }
    }

    fn base(&self) -> *mut u8 {
        match &self.backing {
            Backing::Shared(shmem) => shmem.as_ptr(),
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

    fn initialise(&self, capacity: &Capacity) {
        let view = self.view();
        let header = view.header;
        header.layout_hash.put(layout_hash());
        header.layout_version.put(LAYOUT_VERSION);
        header.master_pid.put(std::process::id());
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

/// Makes the kernel find every page of the segment now (`posix_fallocate(3)`).
fn reserve_pages(name: &str, bytes: usize) -> Result<(), CreateError> {
    use nix::fcntl::{OFlag, posix_fallocate};
    use nix::sys::stat::Mode;
    let path = format!("/{name}");
    let reserved = nix::sys::mman::shm_open(path.as_str(), OFlag::O_RDWR, Mode::empty())
        .and_then(|file| posix_fallocate(&file, 0, bytes as i64));
    reserved.map_err(|errno| match errno {
        Errno::ENOSPC | Errno::ENOMEM => CreateError::NoSpace {
            needed_bytes: bytes as u64,
            available_bytes: nix::sys::statvfs::statvfs("/dev/shm")
                .ok()
                .map(|fs| fs.blocks_available() * fs.fragment_size()),
        },
        other => CreateError::Os {
            name: name.to_owned(),
            reason: other.to_string(),
        },
    })
}

/// A number that nobody can foresee: the standard library's per-process random hash keys, hashed.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
