//! The user index: name to sessions.
//!
//! A hash table of user entries; each entry heads a list of its sessions' rows. Writers take the name's stripe
//! lock. Readers take nothing: they follow links that carry generations, check them after reading, and begin
//! again when what they stood on has gone to another life. Every forward link is changed by one store, so
//! at each instant a reader finds every session that is in the list, whether the writer lives or not.
//! The rows are the truth; all of this can be rebuilt from them.

use crate::handle::{Link, ProcessId, RowHandle};
use crate::pool::{Hold, Item};
use crate::row::{Row, State};
use crate::text::Text;
use crate::view::{View, unix_ms};
use crate::word::{Word32, Word64, load_fence};

/// A user who has a session, or had one and is remembered while there is room.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct User {
    hold: Word32,
    link: Word32,
    /// Which life of the entry.
    pub generation: Word32,
    /// Sessions in the list.
    pub count: Word32,
    pub hash: Word64,
    /// Next entry of the bucket.
    pub next: Word64,
    /// First session's row.
    pub sessions: Word64,
    /// Unix milliseconds when the last session left; meaningful while there is none.
    pub last_seen: Word64,
    pub name: Text,
}

impl Item for User {
    fn hold(&self) -> &Word32 {
        &self.hold
    }

    fn link(&self) -> &Word32 {
        &self.link
    }
}

/// The user index of one segment.
#[derive(Clone, Copy)]
pub(crate) struct Users<'t>(pub View<'t>);

impl<'t> Users<'t> {
    /// The stripe of a hash: all writers of its bucket, its entry and that entry's sessions lock this.
    pub fn stripe(hash: u64) -> usize {
        hash as usize % crate::layout::STRIPES
    }

    fn bucket(&self, hash: u64) -> &'t Word64 {
        &self.0.user_buckets[hash as usize & (self.0.user_buckets.len() - 1)]
    }

    /// The entry of a name. Takes no lock.
    pub fn find(&self, name: &str, hash: u64) -> Option<Link> {
        'again: loop {
            let mut link = Link(self.bucket(hash).get());
            while let Some((index, generation)) = link.target() {
                let user = &self.0.users[index];
                let found = user.hash.peek() == hash && user.name.is(name);
                let next = Link(user.next.get());
                load_fence();
                if user.generation.get() != generation {
                    continue 'again;
                }
                if found {
                    return Some(link);
                }
                link = next;
            }
            return None;
        }
    }

    /// Appends the sessions of an entry to `out`; false if the entry has gone to another life. Takes no lock.
    pub fn sessions(&self, user: Link, out: &mut Vec<RowHandle>) -> bool {
        let Some((index, generation)) = user.target() else {
            return false;
        };
        let user = &self.0.users[index];
        let start = out.len();
        'again: loop {
            out.truncate(start);
            let mut link = Link(user.sessions.get());
            load_fence();
            if user.generation.get() != generation {
                return false;
            }
            while let Some(handle) = link.row() {
                let row = &self.0.rows[handle.row as usize];
                let next = Link(row.user_next.get());
                load_fence();
                let word = row.state();
                if word.generation != handle.generation || word.state == State::Free {
                    continue 'again;
                }
                if word.state == State::LoggedIn {
                    out.push(handle);
                }
                link = next;
            }
            return true;
        }
    }

    /// The entry of a name, made if there is none. Under the stripe's lock. `None`: no entry is free.
    pub fn find_or_insert(&self, me: ProcessId, name: &str, hash: u64) -> Option<Link> {
        if let Some(found) = self.find(name, hash) {
            return Some(found);
        }
        let index = self.0.user_pool().take_one(me)?;
        let user = &self.0.users[index as usize];
        user.name.put(name);
        user.hash.put(hash);
        user.count.put(0);
        user.sessions.put(0);
        user.last_seen.put(0);
        user.hold.put(Hold::Shared.word());
        self.chain(index);
        Some(Link::to(index, user.generation.peek()))
    }

    /// Puts an entry at the head of its bucket. Under the stripe's lock, or in recovery.
    pub fn chain(&self, index: u32) {
        let user = &self.0.users[index as usize];
        let bucket = self.bucket(user.hash.peek());
        user.next.put(bucket.peek());
        bucket.set(Link::to(index, user.generation.peek()).0);
    }

    /// Puts a row at the head of its user's sessions. Under the stripe's lock, or in recovery.
    pub fn insert(&self, user: Link, handle: RowHandle) {
        let Some((index, _)) = user.target() else {
            return;
        };
        let entry = &self.0.users[index];
        let row = &self.0.rows[handle.row as usize];
        let first = Link(entry.sessions.peek());
        row.user.put(user.0);
        row.user_prev.put(0);
        row.user_next.put(first.0);
        if let Some(next) = first.row() {
            self.0.rows[next.row as usize].user_prev.put(handle.row + 1);
        }
        entry.count.put(entry.count.peek() + 1);
        entry.sessions.set(handle.link().0);
    }

    /// Takes a row out of its user's sessions. Under the stripe's lock. The entry stays and remembers when.
    pub fn remove(&self, row: &Row) {
        let Some((index, _)) = Link(row.user.peek()).target() else {
            return;
        };
        let entry = &self.0.users[index];
        let next = row.user_next.peek();
        let previous = row.user_prev.peek();
        entry.last_seen.put(unix_ms());
        match previous {
            0 => entry.sessions.set(next),
            previous => self.0.rows[(previous - 1) as usize].user_next.set(next),
        }
        if let Some(next) = Link(next).row() {
            self.0.rows[next.row as usize].user_prev.put(previous);
        }
        entry.count.put(entry.count.peek().saturating_sub(1));
        // The row keeps its forward link: a reader standing on it goes on from there.
        row.user.set(0);
    }

    /// Frees a remembered entry without sessions. Under its stripe's lock.
    pub fn forget(&self, index: u32) {
        let user = &self.0.users[index as usize];
        let gone = Link::to(index, user.generation.peek()).0;
        let mut at = self.bucket(user.hash.peek());
        while at.peek() != gone {
            let Some((next, _)) = Link(at.peek()).target() else {
                return;
            };
            at = &self.0.users[next].next;
        }
        at.set(user.next.peek());
        self.release(index);
    }

    /// Ends an entry's life and gives it back. It must not be in a bucket any more.
    pub fn release(&self, index: u32) {
        let user = &self.0.users[index as usize];
        user.generation.set(user.generation.peek().wrapping_add(1));
        self.0.user_pool().give(&[index]);
    }

    /// When a user was last seen, in Unix milliseconds; `None` if neither present nor remembered.
    pub fn last_seen(&self, name: &str) -> Option<u64> {
        let link = self.find(name, self.0.hash(name))?;
        let (index, _) = link.target()?;
        let mut rows = Vec::new();
        self.sessions(link, &mut rows);
        let present = rows
            .iter()
            .map(|handle| self.0.rows[handle.row as usize].last_seen.peek())
            .max();
        present
            .or_else(|| Some(self.0.users[index].last_seen.peek()))
            .filter(|&ms| ms != 0)
    }
}
