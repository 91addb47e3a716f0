//! Between the workers and the link: who may be on other hosts, whose sessions have changed, and what came from where.

use super::Hands;
use crate::handle::{LINK, RowHandle};
use crate::inbox::{Inbox, InboxRecord};
use crate::pool::{Hold, Item};
use crate::row::State;
use crate::text::Name;
use crate::word::Word32;

/// Whether a user or a group that is here is on other hosts as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elsewhere {
    /// The link has not said so yet, or there is no such user or group here.
    Unknown,
    /// Only here.
    No,
    /// On other hosts too.
    Yes,
}

impl Elsewhere {
    fn of(word: &Word32) -> Self {
        match word.peek() {
            1 => Elsewhere::No,
            2 => Elsewhere::Yes,
            _ => Elsewhere::Unknown,
        }
    }

    fn word(elsewhere: bool) -> u32 {
        1 + u32::from(elsewhere)
    }
}

impl<'t> Hands<'t> {
    /// Whether a user may have sessions on other hosts.
    #[inline]
    pub fn user_elsewhere(&self, user: &str) -> Elsewhere {
        let found = self.users().find(user, self.view.hash(user));
        match found.and_then(|link| link.target()) {
            Some((index, _)) => Elsewhere::of(&self.view.users[index].elsewhere),
            None => Elsewhere::Unknown,
        }
    }

    /// Whether a group may have members on other hosts.
    #[inline]
    pub fn group_elsewhere(&self, group: &str) -> Elsewhere {
        let found = self.groups().find(group, self.view.hash(group));
        match found.and_then(|link| link.target()) {
            Some((index, _)) => Elsewhere::of(&self.view.groups[index].elsewhere),
            None => Elsewhere::Unknown,
        }
    }

    /// True while the link cannot ask the directory.
    #[inline]
    pub fn directory_away(&self) -> bool {
        self.view.cluster.directory.up.peek() == 0
    }

    /// For the link: says whether a user who is here is on other hosts too. Nothing happens if there is no such user.
    pub fn set_user_elsewhere(&mut self, user: &str, elsewhere: bool) {
        let hash = self.view.hash(user);
        let stripe = crate::users::Users::stripe(hash);
        // Under the lock, so that the entry cannot go to another life meanwhile.
        let _stripe = self.lock(&self.view.user_locks[stripe]);
        let found = self.users().find(user, hash);
        if let Some((index, _)) = found.and_then(|link| link.target()) {
            let entry = &self.view.users[index];
            if entry.count.peek() != 0 {
                entry.elsewhere.put(Elsewhere::word(elsewhere));
            }
        }
    }

    /// For the link: the same of a group.
    pub fn set_group_elsewhere(&mut self, group: &str, elsewhere: bool) {
        let hash = self.view.hash(group);
        let stripe = crate::groups::Groups::stripe(hash);
        let _stripe = self.lock(&self.view.group_locks[stripe]);
        let found = self.groups().find(group, hash);
        if let Some((index, _)) = found.and_then(|link| link.target()) {
            self.view.groups[index]
                .elsewhere
                .put(Elsewhere::word(elsewhere));
        }
    }

    /// Lets the link know that a row's session, or a group that it is in, may have begun or ended.
    #[inline]
    pub(super) fn mark_changed(&mut self, row: u32) {
        if self.view.header.linked.peek() != 0
            && let Some(ready) = self.view.ready(LINK)
        {
            ready.mark(row);
            self.touched |= 1 << LINK;
        }
    }

    /// For the link: the next row whose session may have begun or ended; each once until it changes again. `None` ends a round.
    pub fn next_changed(&mut self) -> Option<u32> {
        self.walk.next(self.view.ready(LINK)?)
    }

    /// The handle of a row on which a user is logged in.
    pub fn logged_in(&self, row: u32) -> Option<RowHandle> {
        let word = self.view.rows.get(row as usize)?.state();
        (word.state == State::LoggedIn).then_some(RowHandle {
            row,
            generation: word.generation,
        })
    }

    /// When a row's user logged in, by the host's clock ([`crate::host_ms`]); `None`: stale, or nobody is logged in.
    pub fn logged_in_at(&self, handle: RowHandle) -> Option<u64> {
        let row = self.view.row(handle)?;
        let at = row.logged_in_at.peek();
        crate::word::load_fence();
        row.check(handle)
            .filter(|word| word.state == State::LoggedIn)
            .map(|_| at)
    }

    /// Counts up, wrapping, after each beginning and each end of a group.
    pub fn groups_changes(&self) -> u64 {
        self.view.header.groups_changes.get()
    }

    /// Appends the name of every group that has a member.
    pub fn groups_here(&self, out: &mut Vec<Name>) {
        for group in self.view.groups {
            let generation = group.generation.get();
            if Hold::of(group.hold().get()) != Hold::Shared || group.count.peek() == 0 {
                continue;
            }
            let name = group.name.read();
            crate::word::load_fence();
            if group.generation.get() == generation && !name.is_empty() {
                out.push(name);
            }
        }
    }

    /// Tells this life of the segment from every other.
    pub fn boot(&self) -> u64 {
        self.view.header.boot.peek()
    }

    /// For the link: the record of what came from a host, made if there is none. If all are taken, it takes the place of the one longest
    /// unused of those whose host is not `in_use`. `None`: there is no such one, or the table was made for one host.
    pub fn inbox(&mut self, host: &str, in_use: impl Fn(&str) -> bool) -> Option<Inbox> {
        let records: &'t [InboxRecord] = self.view.inboxes;
        let find = |name: &str| records.iter().position(|record| record.name.is(name));
        if let Some(index) = find(host) {
            return Some(Inbox(index as u32));
        }
        let oldest = || {
            let used = records.iter().enumerate();
            used.filter(|(_, record)| !in_use(&record.name.read()))
                .min_by_key(|(_, record)| record.used_at.peek())
                .map(|(index, _)| index)
        };
        let index = find("").or_else(oldest)?;
        records[index].begin(host);
        records[index].used_at.put(self.view.now_ms());
        Some(Inbox(index as u32))
    }

    /// For the link: appends the ids that are remembered of a host, at most [`crate::INBOX_IDS`], the newest last.
    pub fn remembered(&self, inbox: Inbox, out: &mut Vec<u64>) {
        self.view.inboxes[inbox.0 as usize].read(out);
    }

    /// For the link: remembers one id more; the oldest gives way. After the message is delivered.
    pub fn remember(&mut self, inbox: Inbox, id: u64) {
        self.view.inboxes[inbox.0 as usize].note(id, self.view.now_ms());
    }
}
