//! The arena: received bytes of incomplete messages, and outgoing messages, in blocks of one size.
//!
//! Blocks of one size need no compaction and cannot fragment; a message larger than a block is a chain. An
//! outgoing message is encoded once. Its first block keeps room for a WebSocket header in front of the body,
//! and the body may end in a newline, so that WebSocket and TCP recipients are served from the same bytes.

use std::cell::UnsafeCell;

use crate::pool::{Item, Pool, PoolHead};
use crate::word::Word32;

/// Bytes in a block.
pub(crate) const BLOCK_BYTES: usize = 256;

/// Room for a WebSocket header in front of a message (RFC 6455 section 5.2: at most 10 bytes unmasked).
pub(crate) const PREFIX_BYTES: usize = 10;

const NEWLINE: u32 = 1 << 8;

/// The message is a pong: a newer one may take its place while nobody has read it.
const PONG: u32 = 1 << 9;

/// Bytes that a message with a body of so many occupies, in whole blocks: room for a prefix and a newline belongs to it whoever
/// receives it.
#[inline]
pub(crate) fn occupied_by(len: usize) -> u32 {
    (PREFIX_BYTES + len + 1).next_multiple_of(BLOCK_BYTES) as u32
}

/// A letter may have been sent to another host.
const SENT: u32 = 1 << 10;

/// What the arena knows of a block.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct BlockHead {
    hold: Word32,
    /// Next block of the message or the receive buffer, plus one (or the pool's own link).
    pub next: Word32,
    /// First block of a message: how many outbox entries refer to it.
    pub refs: Word32,
    /// First block of a message: bytes of the body, the newline not counted.
    pub len: Word32,
    /// First block of a message: length of the prefix (bits 0 to 7), whether a newline follows (bit 8), whether it is a pong (bit 9); of a
    /// letter, whether it may have been sent (bit 10).
    pub shape: Word32,
}

impl Item for BlockHead {
    fn hold(&self) -> &Word32 {
        &self.hold
    }

    fn link(&self) -> &Word32 {
        &self.next
    }
}

/// The bytes of a block.
#[repr(C, align(64))]
pub(crate) struct Block(UnsafeCell<[u8; BLOCK_BYTES]>);

// SAFETY: a block's bytes are written only by the process that holds the block (its head's `hold` names it),
// before the block is reachable for anybody else, and read only while it is reachable or held; every hand-over
// goes through an exchange on a word of the segment, which orders the two.
unsafe impl Sync for Block {}

/// The arena: heads and bytes.
#[derive(Clone, Copy)]
pub(crate) struct Arena<'t> {
    pub head: &'t PoolHead,
    pub heads: &'t [BlockHead],
    pub blocks: &'t [Block],
}

impl<'t> Arena<'t> {
    pub fn pool(&self) -> Pool<'t, BlockHead> {
        Pool {
            head: self.head,
            items: self.heads,
        }
    }

    /// Writes into a block that the caller holds. `at + bytes.len()` must be within the block.
    pub fn write(&self, block: u32, at: usize, bytes: &[u8]) {
        assert!(
            at + bytes.len() <= BLOCK_BYTES,
            "a write past the end of its block"
        );
        let target = self.blocks[block as usize].0.get().cast::<u8>();
        // SAFETY: the range is within the block (checked above); the caller holds the block, or owns the row
        // whose receive buffer it is part of, so nobody reads or writes it meanwhile; the source is not in
        // it, as every source is private memory or a read window.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), target.add(at), bytes.len()) };
    }

    /// Has `write` fill a block that the caller holds. It must not reach for the arena itself.
    #[inline]
    pub fn fill<R>(&self, block: u32, write: impl FnOnce(&mut [u8; BLOCK_BYTES]) -> R) -> R {
        // SAFETY: the caller holds the block, so nobody else reads or writes it meanwhile; in this process it is reached only through
        // here until `write`, which has no other way to it, has returned.
        write(unsafe { &mut *self.blocks[block as usize].0.get() })
    }

    /// The bytes of a block that is reachable for the caller and not being written.
    pub fn bytes(&self, block: u32) -> &'t [u8; BLOCK_BYTES] {
        // SAFETY: callers read only blocks that they hold, that are in a receive buffer of a row they own, or
        // that belong to a message in an outbox they own; none of these is written until it is given back.
        unsafe { &*self.blocks[block as usize].0.get() }
    }

    /// Fixes what the first block of a finished message says about it: the lengths of its prefix and of its body, and whether a
    /// newline stands behind.
    pub fn seal(&self, first: u32, len: usize, prefix_len: usize, newline: bool) {
        let head = &self.heads[first as usize];
        head.len.put(len as u32);
        head.shape
            .put(prefix_len as u32 | if newline { NEWLINE } else { 0 });
    }

    /// Bytes that a message occupies: what it counts for everybody who has it in his outbox.
    #[inline]
    pub fn occupied_bytes(&self, first: u32) -> u32 {
        occupied_by(self.heads[first as usize].len.peek() as usize)
    }

    /// Both: bytes that a recipient gets, and bytes that the message occupies.
    #[inline]
    pub fn measure(&self, first: u32, websocket: bool) -> (usize, u64) {
        let head = &self.heads[first as usize];
        let (len, shape) = (head.len.peek() as usize, head.shape.peek());
        // The same for every message of a row, which is found out once for all of them.
        let (shift, mask) = if websocket { (0, 0xff) } else { (8, 1) };
        let around = shape >> shift & mask;
        (len + around as usize, occupied_by(len).into())
    }

    /// Says of a sealed message that it is a pong.
    pub fn mark_pong(&self, first: u32) {
        let shape = &self.heads[first as usize].shape;
        shape.put(shape.peek() | PONG);
    }

    /// True for a message that was marked as a pong.
    pub fn is_pong(&self, first: u32) -> bool {
        self.heads[first as usize].shape.peek() & PONG != 0
    }

    /// Notes that a letter may have been sent. Only the link, of one in its mailbox.
    pub fn mark_sent(&self, first: u32) {
        let shape = &self.heads[first as usize].shape;
        shape.put(shape.peek() | SENT);
    }

    pub fn was_sent(&self, first: u32) -> bool {
        self.heads[first as usize].shape.peek() & SENT != 0
    }

    /// Bytes that a recipient gets: prefix and body, or body and newline.
    pub fn message_bytes(&self, first: u32, websocket: bool) -> usize {
        let head = &self.heads[first as usize];
        let (start, end) = self.range(head, websocket);
        end - start
    }

    /// Start and end of a message's bytes for one kind of recipient, counted from the first block's start.
    fn range(&self, head: &BlockHead, websocket: bool) -> (usize, usize) {
        let end = PREFIX_BYTES + head.len.peek() as usize;
        let shape = head.shape.peek();
        if websocket {
            (PREFIX_BYTES - (shape & 0xff) as usize, end)
        } else {
            (PREFIX_BYTES, end + usize::from(shape & NEWLINE != 0))
        }
    }

    /// The message's bytes from `skip` on if they lie in one block.
    #[inline]
    pub fn piece(&self, first: u32, websocket: bool, skip: usize) -> Option<&'t [u8]> {
        let (start, end) = self.range(&self.heads[first as usize], websocket);
        if end > BLOCK_BYTES {
            return None;
        }
        self.bytes(first).get(start + skip..end)
    }

    /// Hands the message's bytes from `skip` on to `take`, piece by piece, as long as it takes them; returns whether it took all.
    #[inline]
    pub fn pieces(
        &self,
        first: u32,
        websocket: bool,
        skip: usize,
        mut take: impl FnMut(&[u8]) -> bool,
    ) -> bool {
        let (start, mut end) = self.range(&self.heads[first as usize], websocket);
        let mut from = start + skip;
        let mut block = first;
        loop {
            if from < BLOCK_BYTES.min(end) {
                if !take(&self.bytes(block)[from..end.min(BLOCK_BYTES)]) {
                    return false;
                }
                from = 0;
            } else {
                from = from.saturating_sub(BLOCK_BYTES);
            }
            if end <= BLOCK_BYTES {
                return true;
            }
            end -= BLOCK_BYTES;
            block = self.heads[block as usize].next.peek() - 1;
        }
    }
}
