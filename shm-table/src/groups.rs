//! The group index: name to members, and row to memberships.
//!
//! A group's members lie in a chain of chunks with holes: a membership never moves, so a reader who walks the
//! chain without a lock finds every member who was there before it began. The membership slots are the
//! truth; chains, counts and the lists per row can be rebuilt from them. Writers take the group's stripe lock.

use std::ops::Deref;

use crate::handle::{Link, ProcessId, RowHandle};
use crate::named::{Buckets, Named};
use crate::pool::{Hold, Item};
use crate::row::State;
use crate::view::View;
use crate::word::{Word32, Word64, load_fence};

/// Memberships in a chunk.
pub(crate) const CHUNK_SLOTS: usize = 16;

const FULL: u32 = (1 << CHUNK_SLOTS) - 1;

/// A group that has a member.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Group {
    named: Named,
    /// First chunk.
    pub chunks: Word64,
    /// First chunk with a hole, plus one. Lock holders only.
    pub partial: Word32,
    /// [`crate::Elsewhere`]: 0 unknown, 1 no, 2 yes. The link.
    pub elsewhere: Word32,
}

impl Item for Group {
    fn hold(&self) -> &Word32 {
        &self.named.hold
    }

    fn link(&self) -> &Word32 {
        &self.named.link
    }
}

impl AsRef<Named> for Group {
    fn as_ref(&self) -> &Named {
        &self.named
    }
}

impl Deref for Group {
    type Target = Named;

    fn deref(&self) -> &Named {
        &self.named
    }
}

/// One membership: a row in the chunk's group.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Membership {
    /// Link to the row; 0 is a hole.
    pub row: Word64,
    /// The row's next membership, plus one. The row's owner only.
    pub next: Word32,
    pub reserved: Word32,
}

/// Some memberships of one group.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Chunk {
    hold: Word32,
    link: Word32,
    pub generation: Word32,
    /// A bit per membership in use. Lock holders only.
    pub used: Word32,
    /// Link to the group.
    pub group: Word64,
    /// Next chunk of the group.
    pub next: Word64,
    /// Previous chunk of the group, plus one. Lock holders only.
    pub previous: Word32,
    pub reserved: Word32,
    /// Neighbours among the group's chunks with holes, plus one. Lock holders only.
    pub partial_next: Word32,
    pub partial_previous: Word32,
    pub slots: [Membership; CHUNK_SLOTS],
}

impl Item for Chunk {
    fn hold(&self) -> &Word32 {
        &self.hold
    }

    fn link(&self) -> &Word32 {
        &self.link
    }
}

/// The group index of one segment.
#[derive(Clone, Copy)]
pub(crate) struct Groups<'t>(pub View<'t>);

impl<'t> Groups<'t> {
    fn buckets(&self) -> Buckets<'t, Group> {
        Buckets {
            heads: self.0.group_buckets,
            entries: self.0.groups,
        }
    }

    /// The stripe of a hash: all writers of its group lock this.
    pub fn stripe(hash: u64) -> usize {
        Buckets::<Group>::stripe(hash)
    }

    /// The group of a name. Takes no lock.
    pub fn find(&self, name: &str, hash: u64) -> Option<Link> {
        self.buckets().find(name, hash)
    }

    fn chunk(&self, index: u32) -> &'t Chunk {
        &self.0.chunks[index as usize]
    }

    /// A membership by its number (chunk times [`CHUNK_SLOTS`] plus slot).
    pub fn membership(&self, number: u32) -> &'t Membership {
        &self.0.chunks[number as usize / CHUNK_SLOTS].slots[number as usize % CHUNK_SLOTS]
    }

    /// Appends the logged-in members of a group to `out`; false if the group is gone. Takes no lock.
    pub fn members(&self, group: Link, out: &mut Vec<RowHandle>) -> bool {
        let Some((index, generation)) = group.target() else {
            return false;
        };
        let group = &self.0.groups[index];
        let start = out.len();
        'again: loop {
            out.truncate(start);
            let mut link = Link(group.chunks.get());
            load_fence();
            if group.generation.get() != generation {
                return false;
            }
            while let Some((index, generation)) = link.target() {
                let chunk = &self.0.chunks[index];
                for slot in &chunk.slots {
                    let Some(handle) = Link(slot.row.get()).row() else {
                        continue;
                    };
                    let word = self.0.rows[handle.row as usize].state();
                    if word.generation == handle.generation && word.state == State::LoggedIn {
                        out.push(handle);
                    }
                }
                let next = Link(chunk.next.get());
                load_fence();
                if chunk.generation.get() != generation {
                    continue 'again;
                }
                link = next;
            }
            return true;
        }
    }

    /// The group of a name, made if there is none. Under the stripe's lock. `None`: no group is free.
    pub fn find_or_insert(&self, me: ProcessId, name: &str, hash: u64) -> Option<Link> {
        if let Some(found) = self.find(name, hash) {
            return Some(found);
        }
        let index = self.0.group_pool().take_one(me)?;
        let group = &self.0.groups[index as usize];
        group.begin_life(name, hash);
        group.chunks.put(0);
        group.partial.put(0);
        group.elsewhere.put(0);
        group.hold.put(Hold::Shared.word());
        self.chain(index);
        Some(Link::to(index, group.generation.peek()))
    }

    /// Puts a group at the head of its bucket. Under the stripe's lock, or in recovery.
    pub fn chain(&self, index: u32) {
        self.buckets().chain(index);
    }

    /// Puts a row into a group; returns the membership's number. Under the stripe's lock. `None`: no chunk is
    /// free.
    pub fn insert(&self, me: ProcessId, group_link: Link, handle: RowHandle) -> Option<u32> {
        let (index, _) = group_link.target()?;
        let group = &self.0.groups[index];
        if group.partial.peek() == 0 {
            let fresh = self.0.chunk_pool().take_one(me)?;
            let chunk = self.chunk(fresh);
            for slot in &chunk.slots {
                slot.row.put(0);
            }
            chunk.used.put(0);
            chunk.group.put(group_link.0);
            chunk.hold.put(Hold::Shared.word());
            self.attach(index, fresh);
        }
        let chunk_index = group.partial.peek() - 1;
        let chunk = self.chunk(chunk_index);
        let used = chunk.used.peek();
        let slot = used.trailing_ones() as usize;
        let membership = chunk.slots.get(slot)?;
        chunk.used.put(used | 1 << slot);
        if used | 1 << slot == FULL {
            self.no_longer_partial(group, chunk_index);
        }
        let count = group.count.peek() + 1;
        group.count.put(count);
        membership.row.set(handle.link().0);
        if count == 1 {
            self.0.header.groups_changes.add(1);
        }
        Some(chunk_index * CHUNK_SLOTS as u32 + slot as u32)
    }

    /// Puts a chunk in front of its group's chunks, and among those with holes if it has one. Under the
    /// stripe's lock, or in recovery.
    pub fn attach(&self, group: usize, index: u32) {
        let group = &self.0.groups[group];
        let chunk = self.chunk(index);
        let first = Link(group.chunks.peek());
        chunk.next.put(first.0);
        chunk.previous.put(0);
        if let Some((first, _)) = first.target() {
            self.0.chunks[first].previous.put(index + 1);
        }
        if chunk.used.peek() != FULL {
            self.now_partial(group, index);
        }
        group.chunks.set(Link::to(index, chunk.generation.peek()).0);
    }

    fn now_partial(&self, group: &Group, index: u32) {
        let chunk = self.chunk(index);
        let first = group.partial.peek();
        chunk.partial_previous.put(0);
        chunk.partial_next.put(first);
        if first != 0 {
            self.chunk(first - 1).partial_previous.put(index + 1);
        }
        group.partial.put(index + 1);
    }

    fn no_longer_partial(&self, group: &Group, index: u32) {
        let chunk = self.chunk(index);
        let (previous, next) = (chunk.partial_previous.peek(), chunk.partial_next.peek());
        match previous {
            0 => group.partial.put(next),
            previous => self.chunk(previous - 1).partial_next.put(next),
        }
        if next != 0 {
            self.chunk(next - 1).partial_previous.put(previous);
        }
    }

    /// The hash of the group that a membership is in, for its stripe.
    pub fn hash_of(&self, number: u32) -> Option<(Link, u64)> {
        let link = Link(self.chunk(number / CHUNK_SLOTS as u32).group.peek());
        let (index, _) = link.target()?;
        Some((link, self.0.groups[index].hash.peek()))
    }

    /// Ends a membership, and with the last one its chunk and its group. Under the stripe's lock.
    pub fn remove(&self, number: u32) {
        let index = number / CHUNK_SLOTS as u32;
        let chunk = self.chunk(index);
        let Some((group_index, _)) = Link(chunk.group.peek()).target() else {
            return;
        };
        let group = &self.0.groups[group_index];
        self.membership(number).row.set(0);
        let used = chunk.used.peek();
        let left = used & !(1 << (number as usize % CHUNK_SLOTS));
        chunk.used.put(left);
        let count = group.count.peek().saturating_sub(1);
        group.count.put(count);
        if used == FULL {
            self.now_partial(group, index);
        }
        if left == 0 {
            self.no_longer_partial(group, index);
            self.detach(group, index);
            self.release_chunk(index);
        }
        if count == 0 {
            self.end(group_index as u32);
        }
    }

    /// Ends a group that was made for a member who then did not fit. Under the stripe's lock.
    pub fn remove_if_empty(&self, group: Link) {
        let Some((index, _)) = group.target() else {
            return;
        };
        if self.0.groups[index].count.peek() == 0 {
            self.end(index as u32);
        }
    }

    fn detach(&self, group: &Group, index: u32) {
        let chunk = self.chunk(index);
        let (previous, next) = (chunk.previous.peek(), chunk.next.peek());
        match previous {
            0 => group.chunks.set(next),
            previous => self.chunk(previous - 1).next.set(next),
        }
        if let Some((next, _)) = Link(next).target() {
            self.0.chunks[next].previous.put(previous);
        }
    }

    fn end(&self, index: u32) {
        self.buckets().unchain(index);
        self.0.group_pool().give(&[index]);
        self.0.header.groups_changes.add(1);
    }

    /// Ends a chunk's life. It must not be in a group's chain any more.
    pub fn release_chunk(&self, index: u32) {
        let chunk = self.chunk(index);
        chunk
            .generation
            .set(chunk.generation.peek().wrapping_add(1));
        self.0.chunk_pool().give(&[index]);
    }
}
