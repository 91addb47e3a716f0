//! Outgoing messages: encoded once into the arena, put into any number of outboxes, freed by the last reader.

use std::io;

use super::room::Room;
use super::{Full, Hands};
use crate::arena::{Arena, BLOCK_BYTES, PREFIX_BYTES, occupied_by};
use crate::control::Counter;
use crate::handle::{MASTER, RowHandle, Slot};
use crate::outbox;
use crate::pool::{Hold, Item};
use crate::ready::Ready;
use crate::row::{Row, State};
use crate::shares::RESERVE_PART;

/// Who may use the last part of the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// A message from one client to others: refused while the reserve is all that is left.
    Message,
    /// An answer, an error, a close: may use the reserve, so that a refusal can still be told.
    Answer,
}

/// What stands around a message's body.
#[derive(Clone, Copy, Debug, Default)]
pub struct Envelope {
    /// Bytes in front of the body for WebSocket recipients: the frame header.
    pub prefix: [u8; PREFIX_BYTES],
    /// How many bytes of `prefix` count.
    pub prefix_len: u8,
    /// Whether TCP recipients get a newline behind the body.
    pub newline: bool,
}

impl Envelope {
    /// Puts the prefix at the end of its room, and tells its length.
    #[inline]
    fn put_prefix(&self, room: &mut [u8; PREFIX_BYTES]) -> usize {
        let len = usize::from(self.prefix_len).min(PREFIX_BYTES);
        let mut wide = [0; 16];
        wide[..PREFIX_BYTES].copy_from_slice(&self.prefix);
        // What stands in front of it does not count.
        let moved = u128::from_le_bytes(wide) << (8 * (PREFIX_BYTES - len));
        room.copy_from_slice(&moved.to_le_bytes()[..PREFIX_BYTES]);
        len
    }
}

/// An encoded message that is in no outbox yet. It must be delivered or discarded.
#[derive(Debug)]
#[must_use = "deliver or discard it: its blocks stay in hand otherwise"]
pub struct Message {
    pub(super) first: u32,
    /// How many bytes it occupies: what it counts in each outbox.
    pub(super) cost: u32,
}

impl Message {
    fn new(first: u32, len: usize) -> Self {
        Message {
            first,
            cost: occupied_by(len),
        }
    }

    /// The message that is in blocks already.
    pub(super) fn stored(arena: &Arena<'_>, first: u32) -> Self {
        Message::new(first, arena.heads[first as usize].len.peek() as usize)
    }
}

/// How many recipients ahead of the present one a row is asked for.
pub(super) const PREFETCH_AHEAD: usize = 4;

/// A buffer that grew past this for one large message is not kept.
const COMPOSED_BYTES_KEPT: usize = 1 << 20;

/// Bytes of a body that fit into one block with a prefix and a newline ([`Hands::compose_short`]).
pub const SHORT_BYTES_MAX: usize = BLOCK_BYTES - PREFIX_BYTES - 1;

/// A message on its way into outboxes.
pub(super) struct Round<'t> {
    message: Message,
    /// How many outboxes it was made ready for, and how many have it.
    most: u32,
    pub(super) delivered: u32,
    /// Whose ready bits were used last.
    slot: Slot,
    ready: Option<Ready<'t>>,
}

impl Round<'_> {
    /// For so many outboxes at most.
    pub(super) fn new(message: Message, most: u32) -> Self {
        Round {
            message,
            most,
            delivered: 0,
            slot: MASTER,
            ready: None,
        }
    }
}

impl<'t> Hands<'t> {
    pub(super) fn reserved_blocks(&self) -> u32 {
        self.view.arena.heads.len() as u32 / RESERVE_PART
    }

    pub(super) fn reserve(&self, urgency: Urgency) -> (u32, u32) {
        match urgency {
            Urgency::Message => (
                self.reserved_blocks(),
                self.view.nodes.len() as u32 / RESERVE_PART,
            ),
            Urgency::Answer => (0, 0),
        }
    }

    /// Encodes a message: `write` appends its body to what it is given, `finish` is told the body's length.
    pub fn compose(
        &mut self,
        urgency: Urgency,
        write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>,
        finish: impl FnOnce(usize) -> Envelope,
    ) -> Result<Message, Full> {
        // Put together here first: to write into a block once is cheaper than to ask at each word whether it has room.
        let mut whole = std::mem::take(&mut self.composed);
        whole.clear();
        whole.extend_from_slice(&[0; PREFIX_BYTES]);
        let composed = match write(&mut whole) {
            Ok(()) => self.store(urgency, &mut whole, finish),
            Err(_) => Err(Full),
        };
        if whole.capacity() <= COMPOSED_BYTES_KEPT {
            self.composed = whole;
        }
        composed
    }

    /// Encodes a message that may fit into one block, where it is to stay: `write` puts its body at the start of what it is given and
    /// tells its length. `None`: it found no room there, and nothing was composed.
    #[inline]
    pub fn compose_short(
        &mut self,
        urgency: Urgency,
        write: impl FnOnce(&mut [u8]) -> Option<usize>,
        finish: impl FnOnce(usize) -> Envelope,
    ) -> Result<Option<Message>, Full> {
        let (reserve, _) = self.reserve(urgency);
        let arena = self.view.arena;
        if !self.fill_blocks(1, reserve) {
            return Err(Full);
        }
        let block = self.blocks.pop().ok_or(Full)?;
        // For the next message.
        self.blocks
            .next()
            .inspect(|next| self.view.prefetch_block(*next));
        let written = arena.fill(block, |bytes| {
            let (prefix_room, body) = bytes.split_first_chunk_mut()?;
            // Room for the newline belongs to the message whoever receives it.
            let len = write(body.get_mut(..SHORT_BYTES_MAX)?)?;
            *body.get_mut(len)? = b'\n';
            let envelope = finish(len);
            Some((len, envelope.put_prefix(prefix_room), envelope.newline))
        });
        let Some((len, prefix_len, newline)) = written else {
            self.keep_block(block);
            return Ok(None);
        };
        arena.heads[block as usize].next.put(0);
        arena.seal(block, len, prefix_len, newline);
        Ok(Some(Message::new(block, len)))
    }

    /// Puts a message into blocks: room for a prefix, and the body.
    fn store(
        &mut self,
        urgency: Urgency,
        whole: &mut Vec<u8>,
        finish: impl FnOnce(usize) -> Envelope,
    ) -> Result<Message, Full> {
        let len = whole.len().saturating_sub(PREFIX_BYTES);
        let envelope = finish(len);
        let prefix_len = whole
            .first_chunk_mut()
            .map_or(0, |room| envelope.put_prefix(room));
        // Room for the newline belongs to the message whoever receives it.
        whole.push(b'\n');
        let (reserve, _) = self.reserve(urgency);
        let blocks = whole.len().div_ceil(BLOCK_BYTES);
        let arena = self.view.arena;
        if !self.fill_blocks(blocks, reserve) {
            return Err(Full);
        }
        let (mut first, mut last) = (None, None);
        for part in whole.chunks(BLOCK_BYTES) {
            let block = self.blocks.pop().ok_or(Full)?;
            arena.heads[block as usize].next.put(0);
            arena.write(block, 0, part);
            match last {
                None => first = Some(block),
                Some(last) => arena.heads[last as usize].next.put(block + 1),
            }
            last = Some(block);
        }
        let first = first.ok_or(Full)?;
        arena.seal(first, len, prefix_len, envelope.newline);
        Ok(Message::new(first, len))
    }

    /// Gives a message back that was not delivered.
    pub fn discard(&mut self, message: Message) {
        self.free_chain(message.first);
        self.publish_in_hand();
    }

    /// Puts a message into the outbox of each row in `to` that is logged in or open, and returns how many
    /// those were. A row whose outbox would pass the limit, or holds its share, gets [`Order::SLOW`] instead; the limit is four times as
    /// high while the row's socket is not known to be full. Where no process is there to write it, its reader is not to blame: the
    /// message is refused while nobody has it yet (and it is no answer), and otherwise that row gets [`Order::UNSERVED`]. With [`Full`] it is in none.
    pub fn deliver(
        &mut self,
        message: Message,
        to: &[RowHandle],
        urgency: Urgency,
    ) -> Result<u32, Full> {
        let cost = u64::from(message.cost);
        let mut round = self.begin_round(message, to.len(), urgency)?;
        let mut refused = false;
        for (at, &handle) in to.iter().enumerate() {
            if let Some(later) = to.get(at + PREFETCH_AHEAD) {
                self.view.prefetch_row_head(later.row);
            }
            let Some(row) = self.view.row(handle) else {
                continue;
            };
            let Some(word) = row.check(handle) else {
                continue;
            };
            if !matches!(word.state, State::LoggedIn | State::Connected) {
                continue;
            }
            let held = row.pending();
            if held + cost > self.share / 2 {
                let may_refuse = round.delivered == 0 && urgency == Urgency::Message;
                match self.room_past_half(handle, row, word, held, cost, may_refuse) {
                    Room::Enough => {}
                    Room::None => continue,
                    Room::Refused => {
                        refused = true;
                        break;
                    }
                }
            }
            self.push(&mut round, handle, row, word.owner.slot);
        }
        let delivered = self.end_round(round);
        if refused { Err(Full) } else { Ok(delivered) }
    }

    /// Puts a message into the outbox of an own row, in any state before `Done` and whatever its limit: for
    /// answers to a request that is not a message (HTTP), and for the last words to a session.
    pub fn deliver_closing(&mut self, message: Message, to: RowHandle) -> Result<(), Full> {
        let mut round = self.begin_round(message, 1, Urgency::Answer)?;
        if let Some((row, word)) = self.mine(to) {
            self.push(&mut round, to, row, word.owner.slot);
        }
        self.end_round(round);
        Ok(())
    }

    /// Makes a message ready for so many outboxes at most. With [`Full`] it is given back.
    // Always: the round then lives in registers.
    #[inline(always)]
    fn begin_round(
        &mut self,
        message: Message,
        most: usize,
        urgency: Urgency,
    ) -> Result<Round<'t>, Full> {
        let (_, reserve) = self.reserve(urgency);
        if most > 0 && !self.fill_nodes(most, reserve) {
            self.discard(message);
            return Err(Full);
        }
        let head = &self.view.arena.heads[message.first as usize];
        // As if it were in all of them: readers count down while this goes on.
        head.refs.put(most as u32);
        self.share_chain(message.first);
        Ok(Round::new(message, most as u32))
    }

    /// Pushes to the outbox of a row that `slot` owns.
    #[inline(always)]
    pub(super) fn push(&mut self, round: &mut Round<'t>, handle: RowHandle, row: &Row, slot: Slot) {
        let Some(node) = self.nodes.pop() else {
            return;
        };
        let entry = &self.view.nodes[node as usize];
        entry.message.put(round.message.first + 1);
        entry.newer.put(0);
        let cost = u64::from(round.message.cost);
        let is_own = slot == self.me.slot;
        row.count_queued(cost, is_own);
        entry.hold().put(Hold::Shared.word());
        if outbox::push(&row.out_top, self.view.nodes, handle, node).is_err() {
            // The row went to another life; this was never in its outbox.
            row.count_queued(cost.wrapping_neg(), is_own);
            self.nodes.push(self.view.node_pool(), self.me, node);
            return;
        }
        round.delivered += 1;
        if round.slot != slot {
            round.slot = slot;
            round.ready = self.view.ready(slot);
        }
        let Some(ready) = round.ready else {
            return;
        };
        if is_own {
            ready.mark_own(handle.row);
        } else {
            ready.mark(handle.row);
            self.touched |= 1 << slot;
        }
    }

    /// Evens what was begun for more outboxes than took the message, and returns how many did.
    #[inline(always)]
    pub(super) fn end_round(&mut self, round: Round<'_>) -> u32 {
        let surplus = round.most - round.delivered;
        if round.most == 0 {
            self.free_chain(round.message.first);
        } else if surplus > 0 {
            self.release_message(round.message.first + 1, surplus);
            self.nodes.trim(self.view.node_pool());
        }
        self.count(Counter::MessagesOut, u64::from(round.delivered));
        self.publish_in_hand();
        round.delivered
    }

    /// Takes back a node that is in no outbox any more, and its message with the last one.
    #[inline]
    pub(super) fn release_entry(&mut self, node: u32) {
        let message = self.view.nodes[node as usize].message.peek();
        self.nodes.push(self.view.node_pool(), self.me, node);
        self.release_message(message, 1);
    }

    /// Counts so many entries less that refer to a message (index plus one; 0 = none).
    #[inline]
    pub(super) fn release_message(&mut self, message: u32, entries: u32) {
        let Some(first) = message.checked_sub(1) else {
            return;
        };
        let refs = &self.view.arena.heads[first as usize].refs;
        // Alone with it, nobody else can change the count: no exchange is needed.
        if refs.get() == entries || refs.sub(entries) == entries {
            self.free_chain(first);
        }
    }

    pub(super) fn share_chain(&self, first: u32) {
        let mut block = first + 1;
        while block != 0 {
            let head = &self.view.arena.heads[(block - 1) as usize];
            head.hold().put(Hold::Shared.word());
            block = head.next.peek();
        }
    }

    pub(super) fn free_chain(&mut self, first: u32) {
        let mut block = first + 1;
        while block != 0 {
            let next = self.view.arena.heads[(block - 1) as usize].next.peek();
            self.blocks.push(self.view.arena.pool(), self.me, block - 1);
            block = next;
        }
    }
}
