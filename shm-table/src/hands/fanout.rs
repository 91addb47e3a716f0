//! Working on fan-outs ([`crate::fanout`]): a message for many recipients is prepared whole, begun with one store, and then put into the
//! outboxes step by step.

use super::room::Room;
use super::send::{Message, PREFETCH_AHEAD, Round};
use super::{Full, Hands};
use crate::arena::BLOCK_BYTES;
use crate::fanout::{self, Head, NOTE_BYTES_MAX, RECIPIENTS};
use crate::handle::RowHandle;
use crate::row::State;

/// The part of a pool (one eighth) that fan-outs leave alone: short messages are not refused because of them.
const SPARED_PART: u32 = 8;

/// Where the fan-outs of this process stand: caches.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// A block of the oldest one's list, and its number there.
    block: Option<(u32, u32)>,
    /// First block of one near the end of the list.
    last: Option<u32>,
}

/// A fan-out that is in nobody's list yet. It must be begun or given up.
#[derive(Debug)]
#[must_use = "begin it or give it up: its blocks stay in hand otherwise"]
pub struct PreparedFanout {
    first: u32,
    message: Message,
    recipients: u32,
}

/// What a step of the oldest fan-out was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There is none.
    None,
    /// So many recipients were looked at.
    Done(u32),
    /// There are too few outbox entries, so it waits.
    Waits,
    /// All recipients are done with: [`Hands::fanned_out`] says what is to be told, and [`Hands::end_fanout`] ends it.
    Over,
}

/// A fan-out of which all recipients are done with.
#[derive(Clone, Debug)]
pub struct FannedOut {
    /// Whose message it was.
    pub sender: RowHandle,
    /// How many outboxes took the message; one that it was put into twice, as a process died over it, may count twice.
    pub reached: u32,
    /// What the sender's worker noted at the beginning.
    pub note: Vec<u8>,
}

impl<'t> Hands<'t> {
    /// Makes a message ready for all of `to`. With [`Full`] it is given back and nothing was changed.
    ///
    /// # Errors
    /// [`Full`]: there is no room for the list of recipients.
    pub fn prepare_fanout(
        &mut self,
        message: Message,
        to: &[RowHandle],
    ) -> Result<PreparedFanout, Full> {
        let arena = self.view.arena;
        let blocks = 1 + to.len().div_ceil(RECIPIENTS);
        let spared = arena.heads.len() as u32 / SPARED_PART;
        if !self.blocks.fill(arena.pool(), self.me, blocks, spared) {
            self.free_chain(message.first);
            return Err(Full);
        }
        let first = self.blocks.pop().ok_or(Full)?;
        arena.heads[first as usize].next.put(0);
        let mut last = first;
        for part in to.chunks(RECIPIENTS) {
            let block = self.blocks.pop().ok_or(Full)?;
            arena.heads[block as usize].next.put(0);
            arena.write(block, 0, bytemuck::cast_slice(part));
            arena.heads[last as usize].next.put(block + 1);
            last = block;
        }
        Ok(PreparedFanout {
            first,
            message,
            recipients: to.len() as u32,
        })
    }

    /// Gives a fan-out back that was not begun, and its message.
    pub fn give_up_fanout(&mut self, prepared: PreparedFanout) {
        self.free_chain(prepared.first);
        self.free_chain(prepared.message.first);
        self.publish_in_hand();
    }

    /// Puts a fan-out behind those that this process has. `sender` is whose message it is, `ordinal` which of its messages; `note`, of at most
    /// [`NOTE_BYTES_MAX`] bytes (more are cut off), comes back in the end.
    pub fn begin_fanout(
        &mut self,
        prepared: PreparedFanout,
        sender: RowHandle,
        ordinal: u32,
        note: &[u8],
    ) {
        let arena = self.view.arena;
        let PreparedFanout {
            first,
            message,
            recipients,
        } = prepared;
        let note = &note[..note.len().min(NOTE_BYTES_MAX)];
        let head = Head {
            sender,
            ordinal,
            message: message.first,
            recipients,
            note_bytes: note.len() as u32,
        };
        let mut block = [0; BLOCK_BYTES];
        let (start, rest) = block.split_at_mut(size_of::<Head>());
        start.copy_from_slice(bytemuck::bytes_of(&head));
        rest[..note.len()].copy_from_slice(note);
        arena.write(first, 0, &block);
        let words = &arena.heads[first as usize];
        words.refs.put(0);
        words.len.put(0);
        words.shape.put(0);
        self.share_chain(first);
        arena.heads[message.first as usize].refs.put(1);
        self.share_chain(message.first);
        // From the next store on it is in the slot's list.
        match self.last_fanout() {
            Some(last) => arena.heads[last as usize].refs.set(first + 1),
            None => self.fanout_word().set(first + 1),
        }
        self.fanouts.last = Some(first);
        self.publish_in_hand();
    }

    fn fanout_word(&self) -> &crate::word::Word32 {
        &self.control.fanouts
    }

    /// The oldest fan-out's first block.
    fn oldest_fanout(&self) -> Option<u32> {
        self.fanout_word().peek().checked_sub(1)
    }

    /// The newest one's, behind whatever the master has put there.
    fn last_fanout(&self) -> Option<u32> {
        let mut last = self.fanouts.last.or(self.oldest_fanout())?;
        while let Some(next) = self.view.arena.heads[last as usize]
            .refs
            .peek()
            .checked_sub(1)
        {
            last = next;
        }
        Some(last)
    }

    /// True while this process's slot has a fan-out.
    #[inline]
    pub fn has_fanout(&self) -> bool {
        self.fanout_word().peek() != 0
    }

    /// True if a step of it can be done now, as far as is known.
    #[inline]
    pub fn has_fanout_to_do(&self) -> bool {
        let control = self.control;
        control.fanouts.peek() != 0 && control.fanout_waits.peek() == 0
    }

    /// Says whether the oldest fan-out waits for something: its process then looks again and again, and does not sleep for long.
    pub fn set_fanout_waits(&self, waits: bool) {
        let word = &self.control.fanout_waits;
        if word.peek() != u32::from(waits) {
            word.put(u32::from(waits));
        }
    }

    /// Whether a session has a fan-out in this process's slot; `ordinal`: for this message.
    pub fn has_fanout_of(&self, sender: RowHandle, ordinal: Option<u32>) -> bool {
        let control = self.control;
        fanout::of(&self.view, control).any(|first| {
            let head = fanout::head(&self.view, first);
            head.sender == sender && ordinal.is_none_or(|ordinal| ordinal == head.ordinal)
        })
    }

    /// Puts the oldest fan-out's message into the outboxes of its next recipients, `most` at most, as [`Hands::deliver`] does; but one
    /// whose outbox is full while nobody serves it always gets [`crate::Order::UNSERVED`].
    pub fn fan_out(&mut self, most: u32) -> Step {
        let Some(first) = self.oldest_fanout() else {
            return Step::None;
        };
        let head = fanout::head(&self.view, first);
        let words = &self.view.arena.heads[first as usize];
        let (from, before) = (words.len.peek(), words.shape.peek());
        let step = head.recipients.saturating_sub(from).min(most);
        if step == 0 {
            return Step::Over;
        }
        let pool = self.view.node_pool();
        let spared = pool.capacity() / SPARED_PART;
        if !self.nodes.fill(pool, self.me, step as usize, spared) {
            self.set_fanout_waits(true);
            return Step::Waits;
        }
        // As if it were in all of them: readers count down while this goes on.
        let refs = &self.view.arena.heads[head.message as usize].refs;
        refs.add(step);
        let message = Message::stored(&self.view.arena, head.message);
        let cost = u64::from(message.cost);
        let mut round = Round::new(message, step);
        let end = from + step;
        for at in from..end {
            let ahead = at + PREFETCH_AHEAD as u32;
            if ahead < end {
                let later = self.recipient(first, ahead);
                self.view.prefetch_row_head(later.row);
            }
            let handle = self.recipient(first, at);
            self.fan_out_to(&mut round, handle, cost);
            words.shape.put(before.wrapping_add(round.delivered));
            words.len.put(at + 1);
        }
        self.end_round(round);
        Step::Done(step)
    }

    fn fan_out_to(&mut self, round: &mut Round<'t>, handle: RowHandle, cost: u64) {
        let Some(row) = self.view.row(handle) else {
            return;
        };
        let Some(word) = row.check(handle) else {
            return;
        };
        if !matches!(word.state, State::LoggedIn | State::Connected) {
            return;
        }
        let held = row.pending();
        // It is not refused any more, so it is as if others had it already.
        if held + cost > self.share / 2
            && self.room_past_half(handle, row, word, held, cost, false) != Room::Enough
        {
            return;
        }
        self.push(round, handle, row, word.owner.slot);
    }

    /// The recipient at a place of the oldest fan-out's list.
    fn recipient(&mut self, first: u32, at: u32) -> RowHandle {
        let number = at / RECIPIENTS as u32;
        let next = |block: u32| self.view.arena.heads[block as usize].next.peek() - 1;
        let (mut block, mut reached) = match self.fanouts.block {
            Some((block, reached)) if reached <= number => (block, reached),
            _ => (next(first), 0),
        };
        while reached < number {
            block = next(block);
            reached += 1;
        }
        self.fanouts.block = Some((block, reached));
        fanout::recipient(&self.view, block, at as usize % RECIPIENTS)
    }

    /// What became of the oldest fan-out, once all its recipients are done with.
    pub fn fanned_out(&self) -> Option<FannedOut> {
        let first = self.oldest_fanout()?;
        Some(FannedOut {
            sender: fanout::head(&self.view, first).sender,
            reached: self.view.arena.heads[first as usize].shape.peek(),
            note: fanout::note(&self.view, first).to_vec(),
        })
    }

    /// Ends the oldest fan-out: its sender knows.
    pub fn end_fanout(&mut self) {
        let Some(first) = self.oldest_fanout() else {
            return;
        };
        let message = fanout::head(&self.view, first).message;
        let next = self.view.arena.heads[first as usize].refs.peek();
        self.fanout_word().set(next);
        self.fanouts.block = None;
        if next == 0 {
            self.fanouts.last = None;
        }
        self.release_message(message + 1, 1);
        self.free_chain(first);
        self.publish_in_hand();
    }
}
