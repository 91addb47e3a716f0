//! Who is there: for questions about many users, each looked up once.

use super::Hands;
use crate::handle::{Link, RowHandle};
use crate::prefetch::prefetch;
use crate::row::{Row, State};
use crate::text::Name;
use crate::users::User;

/// How many entries ahead of the present one are asked for.
const AHEAD: usize = 8;

/// A user's entry, as it was found: it may have ended since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserEntry(Link);

/// Some users of a group.
#[derive(Debug, Default)]
pub struct GroupUsers {
    /// The first ones by name, each once and in this order.
    pub users: Vec<(Name, UserEntry)>,
    /// How many there are beside these.
    pub more: u32,
}

impl Hands<'_> {
    /// The entry of a user who has a session, or is remembered.
    pub fn find_user(&self, name: &str) -> Option<UserEntry> {
        self.users().find(name, self.view.hash(name)).map(UserEntry)
    }

    /// Appends the handles of a user's sessions to `out`, and returns when the user was last seen, in Unix milliseconds; `None`: that is not known.
    pub fn presence_of(&self, user: UserEntry, out: &mut Vec<RowHandle>) -> Option<u64> {
        let start = out.len();
        if !self.users().sessions(user.0, out) {
            return None;
        }
        let present = out[start..]
            .iter()
            .map(|session| self.view.rows[session.row as usize].last_seen.peek())
            .max();
        let remembered = || {
            let (index, _) = user.0.target()?;
            Some(self.view.users[index].last_seen.peek())
        };
        present.or_else(remembered).filter(|&ms| ms != 0)
    }

    /// The users who have sessions in a group: the first `most` by name, and how many more there are. `None`: there is no such group. It takes some
    /// 50 ns a member, whatever is told of them.
    pub fn users_in(&self, group: &str, most: usize) -> Option<GroupUsers> {
        let mut members = Vec::new();
        if !self.members_of(group, &mut members) {
            return None;
        }
        let mut entries: Vec<u64> = Vec::with_capacity(members.len());
        for (at, member) in members.iter().enumerate() {
            if let Some(later) = members.get(at + AHEAD) {
                let row = &self.view.rows[later.row as usize];
                prefetch(row, std::mem::offset_of!(Row, stream));
            }
            let row = &self.view.rows[member.row as usize];
            let user = row.user.peek();
            // It may leave in this moment.
            let stays = row
                .check(*member)
                .is_some_and(|word| word.state == State::LoggedIn);
            if user != 0 && stays {
                entries.push(user);
            }
        }
        entries.sort_unstable();
        entries.dedup();
        let mut users: Vec<(u64, u64)> = Vec::with_capacity(entries.len());
        for (at, &entry) in entries.iter().enumerate() {
            if let Some(later) = entries.get(at + AHEAD)
                && let Some((index, _)) = Link(*later).target()
            {
                prefetch(&self.view.users[index], size_of::<User>());
            }
            users.push((self.user_of(entry).name.first_bytes(), entry));
        }
        let by_name = |one: &(u64, u64), other: &(u64, u64)| {
            one.0.cmp(&other.0).then_with(|| {
                let [one, other] = [one, other].map(|(_, entry)| self.user_of(*entry).name.read());
                (*one).cmp(&*other)
            })
        };
        let more = users.len().saturating_sub(most);
        if more > 0 {
            if most > 0 {
                users.select_nth_unstable_by(most - 1, by_name);
            }
            users.truncate(most);
        }
        users.sort_unstable_by(by_name);
        let users = users
            .into_iter()
            .map(|(_, entry)| (self.user_of(entry).name.read(), UserEntry(Link(entry))));
        Some(GroupUsers {
            users: users.collect(),
            more: more as u32,
        })
    }

    fn user_of(&self, entry: u64) -> &User {
        let index = Link(entry).target().map_or(0, |(index, _)| index);
        &self.view.users[index]
    }
}
