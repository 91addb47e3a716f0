//! Fan-outs: messages for so many recipients that they are put into the outboxes over many turns.
//!
//! A fan-out is a chain of arena blocks that says everything about it: whose it is, which message, for whom, and what its sender is told in the end. A slot has
//! a list of them, the oldest first, and its process works on the oldest; how far it is stands beside it and moves on with each recipient. So
//! whatever becomes of the process, its successor goes on there, and a recipient has the message twice at most if the process
//! died over it. The outbox entries are taken as they are needed: a fan-out waits for them, where a short message would be refused.
//!
//! Of the first block's head, `refs` leads to the slot's next fan-out (plus one), `len` is how many recipients are done with, `shape` how many of
//! them have the message.

use bytemuck::{Pod, Zeroable};

use crate::arena::BLOCK_BYTES;
use crate::control::Control;
use crate::handle::RowHandle;
use crate::view::View;

/// Recipients in a block.
pub(crate) const RECIPIENTS: usize = BLOCK_BYTES / size_of::<RowHandle>();

/// What stands at the start of a fan-out's first block. The sender's note follows.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Head {
    /// Whose message it is.
    pub sender: RowHandle,
    /// Which of the sender's messages: its ordinal.
    pub ordinal: u32,
    /// The message's first block.
    pub message: u32,
    /// How many recipients there are.
    pub recipients: u32,
    pub note_bytes: u32,
}

/// The longest note.
pub const NOTE_BYTES_MAX: usize = BLOCK_BYTES - size_of::<Head>();

/// The head of a fan-out, by its first block.
pub(crate) fn head(view: &View<'_>, first: u32) -> Head {
    bytemuck::pod_read_unaligned(&view.arena.bytes(first)[..size_of::<Head>()])
}

/// The note of a fan-out.
pub(crate) fn note<'t>(view: &View<'t>, first: u32) -> &'t [u8] {
    let bytes = head(view, first).note_bytes as usize;
    let note = &view.arena.bytes(first)[size_of::<Head>()..];
    &note[..bytes.min(NOTE_BYTES_MAX)]
}

/// One of the recipients in a block of the list.
pub(crate) fn recipient(view: &View<'_>, block: u32, at: usize) -> RowHandle {
    let from = at * size_of::<RowHandle>();
    bytemuck::pod_read_unaligned(&view.arena.bytes(block)[from..from + size_of::<RowHandle>()])
}

/// The first blocks of a slot's fan-outs, the oldest first.
pub(crate) fn of<'t>(view: &View<'t>, control: &Control) -> impl Iterator<Item = u32> + use<'t> {
    let heads = view.arena.heads;
    let mut next = control.fanouts.get();
    std::iter::from_fn(move || {
        let first = next.checked_sub(1)?;
        next = heads[first as usize].refs.get();
        Some(first)
    })
    .take(heads.len())
}
