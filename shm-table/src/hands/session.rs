//! Sessions in the indexes: login, groups, and who is where.

use super::Hands;
use crate::control::Counter;
use crate::groups::Groups;
use crate::handle::{Link, RowHandle};
use crate::pool::{Hold, Item};
use crate::row::{Order, Row, RowWord, State};
use crate::text::Name;
use crate::users::Users;
use crate::view::host_ms;

/// What happens to a user's older sessions at a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameUser {
    /// They stay.
    Many,
    /// Those with the same device id are replaced.
    OnePerDevice,
    /// All are replaced.
    One,
}

/// A login whose names have been checked (1 to 64 bytes, no control characters).
#[derive(Clone, Copy, Debug)]
pub struct Login<'a> {
    /// The user's name.
    pub user: &'a str,
    /// Empty if the client gave none.
    pub device_id: &'a str,
    /// Empty if the client gave none.
    pub device_model: &'a str,
    /// What happens to the user's older sessions.
    pub policy: SameUser,
    /// How many sessions a user may have, after replacing; 0 = any number.
    pub sessions_per_user: u32,
}

/// A login took place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoggedIn {
    /// Older sessions that got [`Order::REPLACED`].
    pub replaced: u32,
}

/// A login did not take place; the row is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginRefused {
    /// The user has as many sessions as a user may have.
    #[error("the user has as many sessions as allowed")]
    TooManySessions,
    /// The user index is full.
    #[error("the user index is full")]
    Full,
    /// The row is not in state `Connected`, or not this process's.
    #[error("the session cannot log in now")]
    NotConnected,
}

/// Limits on memberships.
#[derive(Clone, Copy, Debug)]
pub struct GroupLimits {
    /// Groups that one session may be in.
    pub per_session: u32,
    /// The session's user may hold at most as much as is free, where groups or memberships are short.
    pub share_of_user: bool,
    /// The same for the client's address.
    pub share_of_address: bool,
}

impl GroupLimits {
    /// So many groups for a session, and no shares.
    pub const fn per_session(per_session: u32) -> Self {
        GroupLimits {
            per_session,
            share_of_user: false,
            share_of_address: false,
        }
    }
}

/// A join took place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joined {
    /// The session is a member now.
    New,
    /// It had been one before.
    Already,
}

/// A join did not take place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinRefused {
    /// As many groups exist as there may be.
    #[error("there are as many groups as allowed")]
    Groups,
    /// As many memberships exist as there may be.
    #[error("there are as many memberships as allowed")]
    Memberships,
    /// The session is in as many groups as it may be.
    #[error("the session is in as many groups as allowed")]
    PerSession,
    /// Groups or memberships are short, and the user holds as many as are free.
    #[error("the user has its share of the groups")]
    ShareOfUser,
    /// The same of the client's address.
    #[error("the address has its share of the groups")]
    ShareOfAddress,
    /// The row is not in state `LoggedIn`, or not this process's.
    #[error("the session is not logged in")]
    NotLoggedIn,
}

/// A leave did not take place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaveRefused {
    /// No such group.
    #[error("no such group")]
    UnknownGroup,
    /// The session is not in it.
    #[error("not a member")]
    NotAMember,
}

impl<'t> Hands<'t> {
    #[inline(always)]
    pub(super) fn users(&self) -> Users<'t> {
        Users(self.view)
    }

    #[inline(always)]
    pub(super) fn groups(&self) -> Groups<'t> {
        Groups(self.view)
    }

    /// Logs a user in on an own row in state `Connected`, which becomes `LoggedIn`.
    pub fn login(
        &mut self,
        handle: RowHandle,
        login: &Login<'_>,
    ) -> Result<LoggedIn, LoginRefused> {
        let (row, word) = self.mine(handle).ok_or(LoginRefused::NotConnected)?;
        if word.state != State::Connected {
            return Err(LoginRefused::NotConnected);
        }
        let users = self.users();
        let hash = self.view.hash(login.user);
        // One try more than it takes: another process may use what was forgotten for it.
        for _ in 0..3 {
            let stripe = self.lock(&self.view.user_locks[Users::stripe(hash)]);
            let Some(user) = users.find_or_insert(self.me, login.user, hash) else {
                drop(stripe);
                if !self.forget_someone() {
                    break;
                }
                continue;
            };
            let replaced = self.replaced_by(user, login);
            let remaining = user
                .target()
                .map_or(0, |(index, _)| self.view.users[index].count.peek())
                .saturating_sub(replaced.len() as u32);
            if login.sessions_per_user != 0 && remaining >= login.sessions_per_user {
                return Err(LoginRefused::TooManySessions);
            }
            if let Some((index, _)) = user.target()
                && self.view.users[index].count.peek() == 0
            {
                // What the link said of earlier sessions counts no more.
                self.view.users[index].elsewhere.put(0);
            }
            row.logged_in_at.put(host_ms());
            row.user_name.put(login.user);
            row.device_id.put(login.device_id);
            row.device_model.put(login.device_model);
            row.word.set(
                RowWord {
                    state: State::LoggedIn,
                    ..word
                }
                .pack(),
            );
            users.insert(user, handle);
            drop(stripe);
            for &older in &replaced {
                self.order(older, Order::REPLACED);
            }
            self.mark_changed(handle.row);
            self.count(Counter::Logins, 1);
            return Ok(LoggedIn {
                replaced: replaced.len() as u32,
            });
        }
        Err(LoginRefused::Full)
    }

    /// Finishes a login on an own row that a predecessor may have left half done: the row is logged in as this user, and whom it
    /// replaces may not have been told.
    pub fn login_again(
        &mut self,
        handle: RowHandle,
        login: &Login<'_>,
    ) -> Result<LoggedIn, LoginRefused> {
        if self.user_name(handle).as_deref() != Some(login.user) {
            return Err(LoginRefused::NotConnected);
        }
        let hash = self.view.hash(login.user);
        let _stripe = self.lock(&self.view.user_locks[Users::stripe(hash)]);
        let mut replaced = Vec::new();
        // One that is itself replaced has been followed by a newer login.
        if !self.orders(handle).has(Order::REPLACED)
            && let Some(user) = self.users().find(login.user, hash)
        {
            replaced = self.replaced_by(user, login);
            replaced.retain(|older| *older != handle);
        }
        for &older in &replaced {
            self.order(older, Order::REPLACED);
        }
        self.mark_changed(handle.row);
        Ok(LoggedIn {
            replaced: replaced.len() as u32,
        })
    }

    /// The sessions that a login takes the place of. Under the stripe's lock.
    fn replaced_by(&self, user: Link, login: &Login<'_>) -> Vec<RowHandle> {
        let mut older = Vec::new();
        match login.policy {
            SameUser::Many => {}
            SameUser::One => {
                self.users().sessions(user, &mut older);
            }
            SameUser::OnePerDevice => {
                self.users().sessions(user, &mut older);
                older.retain(|handle| {
                    self.view.rows[handle.row as usize]
                        .device_id
                        .is(login.device_id)
                });
            }
        }
        older
    }

    /// Frees one remembered user without sessions; false if none was found.
    ///
    /// There are a quarter more entries than rows, so every fifth is of that kind at least: going on where the last search ended, one is found
    /// after five looks on average, though it may take one search many, where thousands of users in a row are logged in.
    fn forget_someone(&mut self) -> bool {
        let entries = self.view.users.len() as u32;
        for _ in 0..entries {
            self.forget_at = (self.forget_at + 1) % entries;
            let user = &self.view.users[self.forget_at as usize];
            let forgettable =
                || user.count.peek() == 0 && Hold::of(user.hold().get()) == Hold::Shared;
            if !forgettable() {
                continue;
            }
            let hash = user.hash.peek();
            let stripe = self.lock(&self.view.user_locks[Users::stripe(hash)]);
            // Looked at again under the lock of the stripe it was in, if it still is.
            let found = forgettable() && user.hash.peek() == hash;
            if found {
                self.users().forget(self.forget_at);
            }
            drop(stripe);
            if found {
                return true;
            }
        }
        false
    }

    /// Takes an own row that was logged in out of every index.
    pub(super) fn depart(&mut self, handle: RowHandle) {
        let Some((row, _)) = self.mine(handle) else {
            return;
        };
        while row.memberships.peek() != 0 {
            self.leave_number(handle, row.memberships.peek() - 1);
        }
        if let Some((index, _)) = Link(row.user.peek()).target() {
            let hash = self.view.users[index].hash.peek();
            let _stripe = self.lock(&self.view.user_locks[Users::stripe(hash)]);
            self.users().remove(row);
        }
    }

    /// Appends the handles of a user's sessions to `out`, each once.
    pub fn sessions_of(&self, user: &str, out: &mut Vec<RowHandle>) {
        self.find_sessions(user, out);
    }

    /// The same, in fewer steps where the user is the one that was asked for before, for the same connection's input.
    #[inline]
    pub fn sessions_of_same(&mut self, user: &str, out: &mut Vec<RowHandle>) {
        if let Some((name, entry)) = &self.asked_for
            && name.is(user)
            && self.users().sessions(*entry, out)
        {
            return;
        }
        self.asked_for = self
            .find_sessions(user, out)
            .map(|entry| (Name::cut(user), entry));
    }

    /// Appends the sessions of a user; the entry that has them.
    fn find_sessions(&self, user: &str, out: &mut Vec<RowHandle>) -> Option<Link> {
        let hash = self.view.hash(user);
        let users = self.users();
        loop {
            let entry = users.find(user, hash)?;
            if users.sessions(entry, out) {
                return Some(entry);
            }
            // It ended between the two steps; it may have been made anew by a login since.
        }
    }

    /// Appends the handles of the other sessions of an own row's user to `out`, each once.
    #[inline]
    pub fn other_sessions(&self, handle: RowHandle, out: &mut Vec<RowHandle>) {
        let Some((row, _)) = self.mine(handle) else {
            return;
        };
        // The entry lives as long as this session is in it.
        let user = Link(row.user.peek());
        let count = user
            .target()
            .map_or(0, |(index, _)| self.view.users[index].count.peek());
        // Counted before a session can be found and until after it no longer is, so one is this one.
        if count > 1 {
            self.add_other_sessions(user, handle, out);
        }
    }

    #[inline(never)]
    fn add_other_sessions(&self, user: Link, handle: RowHandle, out: &mut Vec<RowHandle>) {
        let start = out.len();
        self.users().sessions(user, out);
        if let Some(own) = out.iter().skip(start).position(|other| *other == handle) {
            out.swap_remove(start + own);
        }
    }

    /// Appends the handles of all logged-in sessions to `out`.
    pub fn everyone(&self, out: &mut Vec<RowHandle>) {
        let rows = self.view.rows.iter().enumerate();
        out.extend(rows.filter_map(|(row, contents)| {
            let word = contents.state();
            (word.state == State::LoggedIn).then_some(RowHandle {
                row: row as u32,
                generation: word.generation,
            })
        }));
    }

    /// When a user was last seen, in Unix milliseconds: also after logout, while there is room to remember.
    pub fn last_seen(&self, user: &str) -> Option<u64> {
        self.users().last_seen(user)
    }

    /// The number of an own row's membership in a group.
    fn membership(&self, handle: RowHandle, group: Link) -> Option<u32> {
        let (row, _) = self.mine(handle)?;
        let mut number = row.memberships.peek();
        while number != 0 {
            let (of, _) = self.groups().hash_of(number - 1)?;
            if of == group {
                return Some(number - 1);
            }
            number = self.groups().membership(number - 1).next.peek();
        }
        None
    }

    /// What comes before a membership in its row's list: another one's number plus one, or 0; `None`: it is not in the list.
    fn before_in_list(&self, row: &Row, number: u32) -> Option<u32> {
        let (mut previous, mut at) = (0, row.memberships.peek());
        while at != number + 1 {
            if at == 0 {
                return None;
            }
            previous = at;
            at = self.groups().membership(at - 1).next.peek();
        }
        Some(previous)
    }

    /// Makes an own, logged-in row a member of a group, which need not have existed.
    pub fn join(
        &mut self,
        handle: RowHandle,
        group: &str,
        limits: GroupLimits,
    ) -> Result<Joined, JoinRefused> {
        let (row, word) = self.mine(handle).ok_or(JoinRefused::NotLoggedIn)?;
        if word.state != State::LoggedIn {
            return Err(JoinRefused::NotLoggedIn);
        }
        let groups = self.groups();
        let hash = self.view.hash(group);
        let found = groups.find(group, hash);
        if found.is_some_and(|found| self.membership(handle, found).is_some()) {
            return Ok(Joined::Already);
        }
        if row.membership_count.peek() >= limits.per_session {
            return Err(JoinRefused::PerSession);
        }
        self.within_shares(row, found.is_none(), limits)?;
        let header = self.view.header;
        let stripe = self.lock(&self.view.group_locks[Groups::stripe(hash)]);
        let memberships = header.memberships_used.add(1) + 1;
        if memberships > header.memberships.peek() {
            header.memberships_used.sub(1);
            return Err(JoinRefused::Memberships);
        }
        header.memberships_high_water.raise(memberships);
        let Some(link) = groups.find_or_insert(self.me, group, hash) else {
            header.memberships_used.sub(1);
            return Err(JoinRefused::Groups);
        };
        let Some(number) = groups.insert(self.me, link, handle) else {
            groups.remove_if_empty(link);
            header.memberships_used.sub(1);
            return Err(JoinRefused::Memberships);
        };
        groups.membership(number).next.put(row.memberships.peek());
        row.memberships.set(number + 1);
        row.membership_count.put(row.membership_count.peek() + 1);
        drop(stripe);
        self.count_join(row, found.is_none());
        self.mark_changed(handle.row);
        Ok(Joined::New)
    }

    /// Ends an own row's membership in a group.
    pub fn leave(&mut self, handle: RowHandle, group: &str) -> Result<(), LeaveRefused> {
        let hash = self.view.hash(group);
        let link = self
            .groups()
            .find(group, hash)
            .ok_or(LeaveRefused::UnknownGroup)?;
        let number = self
            .membership(handle, link)
            .ok_or(LeaveRefused::NotAMember)?;
        self.leave_number(handle, number);
        Ok(())
    }

    fn leave_number(&mut self, handle: RowHandle, number: u32) {
        let Some((row, _)) = self.mine(handle) else {
            return;
        };
        let groups = self.groups();
        let hash = groups.hash_of(number).map(|(_, hash)| hash);
        let stripe = hash.map(|hash| self.lock(&self.view.group_locks[Groups::stripe(hash)]));
        // Only now: a recovery in the wait puts the list together anew, and ends the membership of a row that is not logged in any more.
        let Some(previous) = self.before_in_list(row, number) else {
            return;
        };
        let next = groups.membership(number).next.peek();
        match previous {
            0 => row.memberships.set(next),
            previous => groups.membership(previous - 1).next.set(next),
        }
        row.membership_count
            .put(row.membership_count.peek().saturating_sub(1));
        if stripe.is_some() {
            groups.remove(number);
            self.view.header.memberships_used.sub(1);
        }
        drop(stripe);
        self.mark_changed(handle.row);
    }

    /// Appends the handles of a group's members to `out`, each once; false: there is no such group.
    pub fn members_of(&self, group: &str, out: &mut Vec<RowHandle>) -> bool {
        let hash = self.view.hash(group);
        let groups = self.groups();
        while let Some(found) = groups.find(group, hash) {
            if groups.members(found, out) {
                return true;
            }
        }
        false
    }
}
