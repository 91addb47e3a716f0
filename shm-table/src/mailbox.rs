//! The link's mailbox: what workers hand over for other hosts. One outbox more, of no row: many writers, one reader, and nothing is
//! lost when any of them dies.
//!
//! A letter stays in it until the link has settled it, in whatever order. The message of one that is settled is given back
//! at once; its node stays, empty, until all older ones are settled.

use crate::handle::{ProcessId, RowHandle};
use crate::mail_shares::MailAccounts;
use crate::outbox;
use crate::two_copies::{STREAM_WORDS, Stream, TwoCopies};
use crate::view::View;
use crate::word::{Word32, Word64};

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
    /// Bytes ever put in, of the blocks that letters occupy. Anybody.
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
        let letters = self.letters(view);
        let pending: u64 = letters.iter().map(|(_, bytes)| bytes).sum();
        self.settled.put(self.queued.peek().wrapping_sub(pending));
        for shares in view.mail_shares {
            shares.count_anew(letters.iter().copied());
        }
    }

    /// For the audit: what is counted otherwise than it is there.
    pub fn audit(&self, view: &View<'_>, findings: &mut Vec<String>) {
        let letters = self.letters(view);
        let there: u64 = letters.iter().map(|(_, bytes)| bytes).sum();
        let counted = self.queued.peek().wrapping_sub(self.settled.peek());
        if counted != there {
            findings.push(format!("mailbox: {counted} bytes counted, {there} there"));
        }
        for shares in view.mail_shares {
            findings.extend(shares.wrong(letters.iter().copied()));
        }
    }

    /// Whose letters are not settled, and what each counts.
    fn letters(&self, view: &View<'_>) -> Vec<(MailAccounts, u64)> {
        let stream: Stream = self.stream.read();
        let nodes = outbox::entries(self.out_top.get(), view.nodes, &stream);
        let messages = nodes
            .into_iter()
            .filter_map(|node| view.nodes[node as usize].message.peek().checked_sub(1));
        messages
            .map(|first| {
                (
                    MailAccounts::of_letter(view, first),
                    letter_bytes(view, first),
                )
            })
            .collect()
    }
}

/// What a letter counts: the bytes of the blocks that it occupies, by the first of them.
pub(crate) fn letter_bytes(view: &View<'_>, first: u32) -> u64 {
    view.arena.occupied_bytes(first).into()
}
