//! The link's mailbox: what workers hand over for other hosts. One outbox more, of no row: many writers, one reader, and nothing is
//! lost when any of them dies.
//!
//! A letter stays in it until the link has settled it, in whatever order. The message of one that is settled is given back
//! at once; its node stays, empty, until all older ones are settled.

use crate::handle::{ProcessId, RowHandle};
use crate::outbox;
use crate::two_copies::{STREAM_WORDS, Stream, TwoCopies};
use crate::view::View;
use crate::word::{Word32, Word64};

/// What a letter counts beyond its bytes: its node, and what the link keeps about it.
pub(crate) const LETTER_BYTES: u64 = 64;

/// The mailbox has one life only, and no row.
pub(crate) const NO_ROW: RowHandle = RowHandle {
    row: u32::MAX,
    generation: 0,
};

/// The mailbox. A fresh one is all zeroes.
#[repr(C, align(64))]
#[derive(Debug)]
pub(crate) struct Mailbox {
    /// Top of the outbox, see [`crate::outbox`]. Anybody.
    pub out_top: Word64,
    /// Bytes ever put in. Anybody.
    pub queued: Word64,
    /// Bytes of these that were settled. Link.
    pub settled: Word64,
    /// The link that opened it: [`ProcessId::bits`]. Link.
    pub owner: Word32,
    pub reserved: Word32,
    /// How many links have opened it. Link.
    pub opened: Word64,
    /// Which letters are in order. Only the outbox part counts. Link.
    pub stream: TwoCopies<STREAM_WORDS>,
}

impl Mailbox {
    /// Bytes of letters that are not settled. Momentarily off by a letter that is being handed over.
    pub fn pending(&self) -> u64 {
        (self.queued.peek().wrapping_sub(self.settled.peek()) as i64).max(0) as u64
    }

    /// True if a letter was pushed that the committed stream does not have in order.
    pub fn has_new(&self, stream: &Stream) -> bool {
        self.out_top.get() as u32 != stream.out_taken
    }

    /// For recovery: a dead link may have emptied the stack without committing that.
    pub fn settle_after_death(&self, view: &View<'_>) {
        if view.lives(ProcessId::from_bits(self.owner.peek())) {
            return;
        }
        let mut stream: Stream = self.stream.read();
        if outbox::is_behind(self.out_top.get(), view.nodes, &stream) {
            stream.out_taken = 0;
            stream.out_first = 0;
            self.stream.write(&stream);
        }
    }

    /// For recovery: counts anew what is pending; a dead writer may have counted a letter that it did not push.
    pub fn count_anew(&self, view: &View<'_>) {
        let stream: Stream = self.stream.read();
        let pending: u64 = outbox::entries(self.out_top.get(), view.nodes, &stream)
            .iter()
            .map(|&node| letter_bytes(view, node))
            .sum();
        self.settled.put(self.queued.peek().wrapping_sub(pending));
    }
}

/// What a node's letter counts; 0 for one that is settled.
pub(crate) fn letter_bytes(view: &View<'_>, node: u32) -> u64 {
    match view.nodes[node as usize].message.peek() {
        0 => 0,
        message => view.arena.message_bytes(message - 1, false) as u64 + LETTER_BYTES,
    }
}
