//! A lane: from one host to another, every parcel once, in order, and an answer to each, over a bus that may lose frames and repeat them.
//!
//! The sender numbers its parcels and sends them again until they are answered ([`Outgoing`]); the receiver takes only the one
//! that is next and answers cumulatively ([`Incoming`]). Neither does any I/O. A receiver that has lost its memory says that
//! it does not know the lane; the sender then begins a new one with all that is not answered, and the ids that the
//! receiver's table remembers keep what was delivered from being delivered again.

mod incoming;
mod outgoing;
mod section;

#[cfg(test)]
mod tests;

use bytes::Bytes;

pub use incoming::{Incoming, Judgement};
pub use outgoing::Outgoing;
pub use section::{Acknowledgement, Data, Reader, Section, write_acknowledgement, write_unknown};

/// Parcels that may be under way unanswered; fewer than a host's table remembers ids
/// ([`shm_table::INBOX_IDS`]), so that it recognises each that is sent again.
pub const WINDOW: usize = 1024;

/// Bytes of parcels past which no more are put on the lane: what one host is sent at once takes the bus no longer than that.
pub const WINDOW_BYTES: usize = 4 * 1024 * 1024;

const _: () = assert!(WINDOW < shm_table::INBOX_IDS);

/// What became of a parcel at the other host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nobody it was for is there.
    Nobody,
    /// Somebody it was for has it.
    Reached,
    /// The host had no room for it.
    Full,
    /// The answer to a question.
    Answer(Bytes),
}
