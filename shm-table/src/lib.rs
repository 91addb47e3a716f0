//! The shared-memory table: all session state, in one segment that outlives every process that works on it.
//!
//! The segment is of fixed capacity and is made by the master before any other process exists. It holds
//!
//! - **rows**, one per connection ([`Seats`] hands them out, [`Hands`] work on them);
//! - **indexes**: user to rows, group to rows, derived from the rows;
//! - the **arena**: blocks for incomplete messages and for outgoing ones, and the outboxes' entries;
//! - a **control block** per process, ready bits and a read window per worker.
//!
//! What it promises:
//!
//! - A process may die after any instruction. What it leaves is whole, and [`Table::recover`] brings back
//!   everything it held: rows, blocks, entries, locks, memberships.
//! - Readers never wait for a writer, alive or dead.
//! - A handle is a row and a generation; a stale one is detected, never followed.
//! - Everything has a limit, and at the limit the caller is told ([`Full`], [`LoginRefused`],
//!   [`JoinRefused`]) and nothing has changed.
//!
//! Under `--cfg loom` only the algorithms are built, for their models (`loom_tests`).
//!
//! What it does not: it trusts the processes of its own server. A process that writes wild pointers into the
//! mapping can spoil it, which is why everything outside this crate is safe Rust.

#![cfg_attr(loom, allow(dead_code))]

mod arena;
#[cfg(not(loom))]
mod clock_marks;
#[cfg(not(loom))]
mod cluster;
#[cfg(not(loom))]
mod control;
#[cfg(not(loom))]
mod fanout;
#[cfg(not(loom))]
mod gathered;
#[cfg(not(loom))]
mod groups;
mod handle;
pub mod kill_point;
mod lock;
#[cfg(not(loom))]
mod named;
#[cfg(not(loom))]
mod near_wrap;
mod outbox;
mod pool;
#[cfg(not(loom))]
mod prefetch;
mod ready;
#[cfg(not(loom))]
mod row;
#[cfg(not(loom))]
mod session_id;
mod sync;
#[cfg(not(loom))]
mod text;
mod two_copies;
#[cfg(not(loom))]
mod users;
mod word;

#[cfg(all(test, loom))]
mod loom_tests;

#[cfg(not(loom))]
mod audit;
#[cfg(not(loom))]
mod census;
#[cfg(not(loom))]
mod handover;
#[cfg(not(loom))]
mod hands;
#[cfg(not(loom))]
mod header;
#[cfg(not(loom))]
mod inbox;
#[cfg(not(loom))]
mod layout;
#[cfg(not(loom))]
mod mail_shares;
#[cfg(not(loom))]
mod mailbox;
#[cfg(not(loom))]
mod mapping;
#[cfg(not(loom))]
mod network;
#[cfg(not(loom))]
mod recovery;
#[cfg(not(loom))]
mod seats;
#[cfg(not(loom))]
mod segment;
#[cfg(not(loom))]
mod shares;
#[cfg(not(loom))]
mod stats;
#[cfg(not(loom))]
mod table;
#[cfg(not(loom))]
mod view;
#[cfg(not(loom))]
mod waiting;
#[cfg(not(loom))]
mod window;

#[cfg(not(loom))]
pub use census::{Census, Eviction, Holder};
#[cfg(not(loom))]
pub use clock_marks::{CLOCK_MARKS_MAX, ClockMark};
#[cfg(not(loom))]
pub use cluster::{ClusterReport, Part};
#[cfg(not(loom))]
pub use control::{Counter, ProcessState, Role};
#[cfg(not(loom))]
pub use fanout::NOTE_BYTES_MAX;
pub use handle::{API, FIRST_WORKER, LINK, MASTER, ProcessId, RowHandle, Slot, TIMER, WORKERS_MAX};
#[cfg(not(loom))]
pub use hands::{
    Claimed, Congestion, Elsewhere, Envelope, FannedOut, Found, Full, GroupLimits, GroupUsers,
    Hands, HandsSettings, JoinRefused, Joined, LeaveRefused, LoggedIn, Login, LoginRefused, Mail,
    Message, NotTaken, Output, PreparedFanout, SHORT_BYTES_MAX, SameUser, Stale, Step, Urgency,
    UserEntry,
};
#[cfg(not(loom))]
pub use inbox::{INBOX_IDS, Inbox};
#[cfg(not(loom))]
pub use layout::{Capacity, WINDOW_BYTES};
#[cfg(not(loom))]
pub use mail_shares::{MailAccounts, Share};
#[cfg(not(loom))]
pub use network::network;
#[cfg(not(loom))]
pub use recovery::Recovered;
#[cfg(not(loom))]
pub use row::{Order, Orders, State, Transport};
#[cfg(not(loom))]
pub use seats::{Newcomer, Seats};
#[cfg(not(loom))]
pub use segment::{Claim, Identity, remove_leftovers};
#[cfg(not(loom))]
pub use session_id::SessionId;
#[cfg(not(loom))]
pub use stats::{Account, ProcessStats, SectionStats, Stats, TurnTimes};
#[cfg(not(loom))]
pub use table::{AttachError, CreateError, Table};
#[cfg(not(loom))]
pub use text::{Name, TEXT_BYTES_MAX};
pub use two_copies::{FANNING_OUT_FLAG, Stream, UNREAD_FLAG};
#[cfg(not(loom))]
pub use view::{Expiry, host_ms};
#[cfg(not(loom))]
pub use window::ReadWindow;
