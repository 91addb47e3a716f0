//! The user index: name to sessions.
//!
//! Entries are found by name ([`crate::named`]); each heads a list of its sessions' rows. Writers take the name's
//! stripe lock, readers none: every forward link is changed by one store, so at each instant a reader finds every
//! session that is in the list, whether the writer lives or not.
//! The rows are the truth; all of this can be rebuilt from them.

use std::ops::Deref;

use crate::handle::{Link, ProcessId, RowHandle};
use crate::named::{Buckets, Named};
use crate::pool::{Hold, Item};
use crate::row::{Row, State};
use crate::view::{View, unix_ms};
use crate::word::{Word32, Word64, load_fence};

/// A user who has a session, or had one and is remembered while there is room.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct User {
    named: Named,
    /// First session's row.
    pub sessions: Word64,
    /// Unix milliseconds when the last session left; meaningful while there is none.
    pub last_seen: Word64,
    /// [`crate::Elsewhere`]: 0 unknown, 1 no, 2 yes. The link, and whoever logs the first session in.
    pub elsewhere: Word32,
    pub reserved: Word32,
}

impl Item for User {
    fn hold(&self) -> &Word32 {
        &self.named.hold
    }

    fn link(&self) -> &Word32 {
        &self.named.link
    }
}

impl AsRef<Named> for User {
    fn as_ref(&self) -> &Named {
        &self.named
    }
}

impl Deref for User {
    type Target = Named;

    fn deref(&self) -> &Named {
        &self.named
    }
}

/// The user index of one segment.
#[derive(Clone, Copy)]
pub(crate) struct Users<'t>(pub View<'t>);

impl<'t> Users<'t> {
    fn buckets(&self) -> Buckets<'t, User> {
        Buckets {
            heads: self.0.user_buckets,
            entries: self.0.users,
        }
    }

    /// The stripe of a hash: all writers of its entry and that entry's sessions lock this.
    pub fn stripe(hash: u64) -> usize {
        Buckets::<User>::stripe(hash)
    }

    /// The entry of a name. Takes no lock.
    pub fn find(&self, name: &str, hash: u64) -> Option<Link> {
        self.buckets().find(name, hash)
    }

    /// Appends the sessions of an entry to `out`; false if the entry has gone to another life. Takes no lock.
    // Always: the view is not copied then.
    #[inline(always)]
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
        user.begin_life(name, hash);
        user.sessions.put(0);
        user.last_seen.put(0);
        user.elsewhere.put(0);
        user.hold.put(Hold::Shared.word());
        self.chain(index);
        Some(Link::to(index, user.generation.peek()))
    }

    /// Puts an entry at the head of its bucket. Under the stripe's lock, or in recovery.
    pub fn chain(&self, index: u32) {
        self.buckets().chain(index);
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
        self.buckets().unchain(index);
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
