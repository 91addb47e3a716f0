//! The outbox of a row: many writers, one reader, nothing to lose when any of them dies.
//!
//! Writers push onto a stack whose top carries the row's generation, one exchange each. The reader, the row's
//! owner, does not take entries off: it reads the stack down to the entry it saw last, writes the opposite
//! links beside the stack's own, and commits how far it got with its [`Stream`](crate::Stream). Done again
//! after a crash, that gives the same result. When all is written the stack is emptied by one exchange.

use crate::arena::Arena;
use crate::handle::RowHandle;
use crate::pool::Item;
use crate::two_copies::Stream;
use crate::word::{Word32, Word64};

/// An entry: which message, and its neighbours in the row's outbox.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Node {
    hold: Word32,
    /// The entry pushed before this one, plus one (or the pool's own link).
    pub older: Word32,
    /// The entry pushed after this one, plus one; written by the reader.
    pub newer: Word32,
    /// First block of the message, plus one; 0 = the message was dropped from the middle of the outbox.
    pub message: Word32,
}

impl Item for Node {
    fn hold(&self) -> &Word32 {
        &self.hold
    }

    fn link(&self) -> &Word32 {
        &self.older
    }
}

impl Node {
    #[cfg(loom)]
    pub fn new() -> Self {
        let zero = || Word32::new(0);
        Node {
            hold: zero(),
            older: zero(),
            newer: zero(),
            message: zero(),
        }
    }
}

/// The low half of a top that takes no more entries.
pub(crate) const CLOSED: u32 = u32::MAX;

/// Nothing was pushed: the row is in another life, or its outbox is closed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refused;

/// The word of an empty outbox in one life of its row.
pub(crate) fn empty(generation: u32) -> u64 {
    u64::from(generation) << 32
}

/// Pushes a node that the caller holds and has filled. Anybody.
#[inline]
pub(crate) fn push(top: &Word64, nodes: &[Node], to: RowHandle, node: u32) -> Result<(), Refused> {
    let mut seen = top.get();
    loop {
        if (seen >> 32) as u32 != to.generation || seen as u32 == CLOSED {
            return Err(Refused);
        }
        nodes[node as usize].older.put(seen as u32);
        match top.exchange(seen, empty(to.generation) | u64::from(node + 1)) {
            Ok(()) => return Ok(()),
            Err(now) => seen = now,
        }
    }
}

/// Puts what was pushed since the last call into order behind what the stream already has. Owner only.
///
/// Changes nodes only in a way that is the same when done again; the caller commits the stream.
#[inline]
pub(crate) fn take_new(top: &Word64, nodes: &[Node], stream: &mut Stream) {
    let newest = top.get() as u32;
    if newest == stream.out_taken || newest == CLOSED {
        return;
    }
    let mut at = newest;
    let mut after = 0;
    while at != 0 && at != stream.out_taken {
        let node = &nodes[(at - 1) as usize];
        node.newer.put(after);
        after = at;
        at = node.older.peek();
    }
    if newest == 0 {
        // The stack was emptied but the stream not committed: its owner died in between. All was written.
        stream.out_first = 0;
        stream.out_offset = 0;
    } else if stream.out_taken == 0 || at == 0 {
        // Nothing was left before these (or the entry seen last is no longer in the stack, hence written).
        stream.out_first = after;
        stream.out_offset = if stream.out_taken == 0 {
            stream.out_offset
        } else {
            0
        };
    } else {
        nodes[(stream.out_taken - 1) as usize].newer.put(after);
        if stream.out_first == 0 {
            stream.out_first = after;
        }
    }
    stream.out_taken = newest;
}

/// Called when the oldest entry has been written whole: moves on to the next one. Owner only.
///
/// Returns false when the outbox is now empty. The node left behind may be given back once the stream is
/// committed, not before: until then the committed record refers to it.
#[inline]
pub(crate) fn advance(top: &Word64, nodes: &[Node], generation: u32, stream: &mut Stream) -> bool {
    let done = stream.out_first;
    stream.out_offset = 0;
    if done != stream.out_taken {
        stream.out_first = nodes[(done - 1) as usize].newer.peek();
        return true;
    }
    let last = empty(generation) | u64::from(done);
    if top.exchange(last, empty(generation)).is_ok() {
        stream.out_first = 0;
        stream.out_taken = 0;
        return false;
    }
    // Something was pushed meanwhile (the top cannot be closed by anyone else): go on behind it.
    take_new(top, nodes, stream);
    stream.out_first = nodes[(done - 1) as usize].newer.peek();
    stream.out_first != 0
}

/// The nodes that the stream has in order and that are not written completely, oldest first.
pub(crate) fn ordered(nodes: &[Node], stream: &Stream) -> impl Iterator<Item = u32> {
    let (mut at, last) = (stream.out_first, stream.out_taken);
    std::iter::from_fn(move || {
        let node = at.checked_sub(1)?;
        at = if at == last {
            0
        } else {
            nodes[node as usize].newer.peek()
        };
        Some(node)
    })
    .take(nodes.len())
}

/// The nodes that were pushed since the stream was put in order, newest first; and whether what it has in order is
/// still in the stack.
fn fresh(top: u64, nodes: &[Node], stream: &Stream) -> (Vec<u32>, bool) {
    let mut fresh = Vec::new();
    let mut at = if top as u32 == CLOSED { 0 } else { top as u32 };
    while at != 0 && at != stream.out_taken && fresh.len() <= nodes.len() {
        fresh.push(at - 1);
        at = nodes[(at - 1) as usize].older.peek();
    }
    (fresh, at != 0)
}

/// Every node of the outbox, oldest first, without changing anything: for recovery and audit.
pub(crate) fn entries(top: u64, nodes: &[Node], stream: &Stream) -> Vec<u32> {
    let (fresh, has_old) = fresh(top, nodes, stream);
    let mut all = Vec::new();
    if has_old {
        all.extend(ordered(nodes, stream));
    }
    all.extend(fresh.into_iter().rev());
    all
}

/// True if the stream names entries that are no longer in the stack: their owner had written (or dropped) all of
/// them and died before it could commit that.
pub(crate) fn is_behind(top: u64, nodes: &[Node], stream: &Stream) -> bool {
    stream.out_taken != 0 && !fresh(top, nodes, stream).1
}

/// What an entry counts against what its row's session may hold: the blocks of its message.
#[inline]
pub(crate) fn entry_cost(node: &Node, arena: &Arena<'_>) -> u64 {
    match node.message.peek() {
        0 => 0,
        message => arena.occupied_bytes(message - 1).into(),
    }
}

/// Both: bytes that a row of this kind receives, and what the entry counts.
#[inline]
pub(crate) fn entry_measure(node: &Node, arena: &Arena<'_>, websocket: bool) -> (usize, u64) {
    match node.message.peek() {
        0 => (0, 0),
        message => arena.measure(message - 1, websocket),
    }
}

/// Bytes of an entry's message that a row of this kind receives.
#[inline]
pub(crate) fn entry_bytes(node: &Node, arena: &Arena<'_>, websocket: bool) -> usize {
    match node.message.peek() {
        0 => 0,
        message => arena.message_bytes(message - 1, websocket),
    }
}
