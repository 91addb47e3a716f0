//! What every process under the master does at its start, and how the two talk from then on.
//!
//! - A role that got through [`start`] has its settings, its place in the table, every process's doorbell and a working log.
//! - What a role logs goes to its standard error, which is the server's log: handed down by the master, never looked up by name.
//! - A role never outlives its master: the channel's end ends it, and the kernel does when the role cannot look.
//! - A role is asked to end through its channel, never by a signal a terminal or an init system sends to a whole group.
//!
//! `channel` is the role's end, `master_end` the master's, `message` what passes between them.
#![forbid(unsafe_code)]

mod channel;
mod doorbell;
mod lines;
pub mod logging;
mod luggage;
mod master_end;
mod message;
mod start;
mod victim;

pub use channel::{Channel, ChannelError, Received};
pub use doorbell::{doorbell, ring, silence};
pub use luggage::Luggage;
pub use master_end::MasterEnd;
pub use message::{Garbled, Hello, Seat, ToMaster, ToRole, settings_of_any_version};
pub use start::{RoleError, Start, start};
pub use victim::volunteer;

/// Exit status of a role that cannot work and would fail the same way if it were started again at once.
pub const EXIT_CANNOT_WORK: u8 = 2;

/// Exit status of a role that ended for another reason than being asked to.
pub const EXIT_FAILED: u8 = 1;
