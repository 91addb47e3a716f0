//! Finding things by name: a hash table whose readers take no lock.
//!
//! Writers of a bucket hold its stripe's lock. Readers follow links that carry generations, check them after
//! reading, and begin again when what they stood on has gone to another life. A chain changes by one store, so a
//! reader finds every entry that is in it, whether the writer lives or not.

use crate::handle::Link;
use crate::layout::STRIPES;
use crate::text::Text;
use crate::word::{Word32, Word64, load_fence};

/// What a user and a group have in common: a name, a place in a bucket, and something that is counted.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Named {
    /// The pool's.
    pub hold: Word32,
    /// The pool's.
    pub link: Word32,
    /// Which life of the entry.
    pub generation: Word32,
    /// Sessions of the user, members of the group. Lock holders only.
    pub count: Word32,
    pub hash: Word64,
    /// Next entry of the bucket.
    pub next: Word64,
    pub name: Text,
}

/// A table of named entries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Buckets<'t, E> {
    /// Links to the first entry of each bucket; their number is a power of two.
    pub heads: &'t [Word64],
    pub entries: &'t [E],
}

impl<'t, E: AsRef<Named>> Buckets<'t, E> {
    /// The stripe of a hash: all writers of its bucket, and of what hangs on its entry, lock this.
    pub fn stripe(hash: u64) -> usize {
        hash as usize % STRIPES
    }

    fn head(&self, hash: u64) -> &'t Word64 {
        &self.heads[hash as usize & (self.heads.len() - 1)]
    }

    fn entry(&self, index: usize) -> &'t Named {
        self.entries[index].as_ref()
    }

    /// The entry of a name. Takes no lock.
    pub fn find(&self, name: &str, hash: u64) -> Option<Link> {
        'again: loop {
            let mut link = Link(self.head(hash).get());
            while let Some((index, generation)) = link.target() {
                let entry = self.entry(index);
                let found = entry.hash.peek() == hash && entry.name.is(name);
                let next = Link(entry.next.get());
                load_fence();
                if entry.generation.get() != generation {
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

    /// Puts an entry at the head of its bucket. Under the stripe's lock, or in recovery.
    pub fn chain(&self, index: u32) {
        let entry = self.entry(index as usize);
        let head = self.head(entry.hash.peek());
        entry.next.put(head.peek());
        head.set(Link::to(index, entry.generation.peek()).0);
    }

    /// Takes an entry out of its bucket and ends its life. Under the stripe's lock.
    pub fn unchain(&self, index: u32) {
        let entry = self.entry(index as usize);
        let gone = Link::to(index, entry.generation.peek()).0;
        let mut at = self.head(entry.hash.peek());
        while at.peek() != gone {
            let Some((next, _)) = Link(at.peek()).target() else {
                debug_assert!(false, "an entry that is not in its bucket");
                return;
            };
            at = &self.entry(next).next;
        }
        at.set(entry.next.peek());
        entry.end_life();
    }
}

impl Named {
    /// Fills a fresh entry; the caller chains it.
    pub fn begin_life(&self, name: &str, hash: u64) {
        self.name.put(name);
        self.hash.put(hash);
        self.count.put(0);
    }

    /// Makes every link to the entry stale.
    pub fn end_life(&self) {
        self.generation.set(self.generation.peek().wrapping_add(1));
    }
}
