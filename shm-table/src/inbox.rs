//! What came from other hosts lately: per host a ring of ids, by which a message is recognised that is sent again because the
//! process that had taken it died before it could say so.

use crate::text::Text;
use crate::word::Word64;

/// Ids that are remembered of one host.
pub const INBOX_IDS: usize = 2048;

/// A host's record; good for this process's life, unless more hosts are spoken with than the table was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inbox(pub(crate) u32);

/// The record of one host. The link alone writes it.
#[repr(C, align(64))]
#[derive(Debug)]
pub(crate) struct InboxRecord {
    /// The host's name; empty = nobody's.
    pub name: Text,
    /// Table milliseconds when it was last written.
    pub used_at: Word64,
    /// Ids ever noted; the newest is at `count - 1`, modulo the ring.
    pub count: Word64,
    pub ids: [Word64; INBOX_IDS],
}

impl InboxRecord {
    /// Gives the record to a host. Killed in between, it is nobody's.
    pub fn begin(&self, host: &str) {
        self.name.clear();
        self.count.set(0);
        self.name.put(host);
    }

    pub fn note(&self, id: u64, now_ms: u64) {
        let count = self.count.peek();
        self.ids[(count % INBOX_IDS as u64) as usize].put(id);
        self.count.set(count.wrapping_add(1));
        self.used_at.put(now_ms);
    }

    /// Appends the ids, the newest last.
    pub fn read(&self, out: &mut Vec<u64>) {
        let count = self.count.get();
        let first = count.saturating_sub(INBOX_IDS as u64);
        out.extend((first..count).map(|n| self.ids[(n % INBOX_IDS as u64) as usize].peek()));
    }
}
