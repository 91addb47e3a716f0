//! From the table to the directory: who is logged in here, and which groups have members here.
//!
//! Workers mark a row when its session begins or ends; what that means for the directory is read from the table when the
//! mark is seen, so that many changes of one user are one. A slow walk over all rows finds what no mark told.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::rc::Rc;

use directory::{Key, Reading};
use shm_table::{RowHandle, Transport};

use crate::clock::Change;
use crate::entry::{GroupEntry, SessionEntry, UserEntry, value};
use crate::link::Link;

/// Rows that one step of the slow walk looks at.
const WALK_ROWS: u32 = 2_048;

/// Rows that are looked at in one turn at the start.
const TELL_ROWS: u32 = 16_384;

/// How far the directory was told what there is.
#[derive(Debug)]
enum Told {
    RowsTo(u32),
    Everything,
}

impl Default for Told {
    fn default() -> Self {
        Told::RowsTo(0)
    }
}

/// What the directory was last told.
#[derive(Debug, Default)]
pub struct Presence {
    told: Told,
    /// The session of each row: which life, and whose.
    rows: HashMap<u32, (u32, Rc<str>)>,
    groups: HashSet<Rc<str>>,
    groups_changes: Option<u64>,
    walked: u32,
}

impl Link<'_> {
    /// At the start, tells the directory everything, some rows a turn: other things go on meanwhile, however large the table is. True
    /// while there is more to do now.
    pub fn tell_more(&mut self) -> bool {
        let from = match self.presence.told {
            Told::Everything => return false,
            Told::RowsTo(from) => from,
        };
        let sessions = self.table.capacity().sessions;
        if from < sessions {
            let to = from.saturating_add(TELL_ROWS).min(sessions);
            self.look_at_rows(from..to);
            self.presence.told = Told::RowsTo(to);
            return true;
        }
        // Nobody's sessions are told before the clock is known by which they are compared.
        if self.clock.is_known() {
            self.look_at_groups();
            self.directory.complete();
            self.presence.told = Told::Everything;
        }
        false
    }

    /// Tells the directory what has changed. True if there was something.
    pub fn tell_changes(&mut self) -> bool {
        let mut users = HashSet::new();
        while let Some(row) = self.hands.next_changed() {
            self.look_at_row(row, &mut users);
        }
        let any = !users.is_empty();
        self.tell_users(users);
        if self.presence.groups_changes != Some(self.hands.groups_changes()) {
            self.look_at_groups();
        }
        any
    }

    /// One step of the slow walk.
    pub fn walk_rows(&mut self) {
        let sessions = self.table.capacity().sessions;
        let from = self.presence.walked;
        let to = from.saturating_add(WALK_ROWS).min(sessions);
        self.look_at_rows(from..to);
        self.presence.walked = if to == sessions { 0 } else { to };
    }

    /// Takes over what the directory's clock is ahead of the host's: what is told otherwise by it is told anew.
    pub fn follow_clock(&mut self, reading: Reading) {
        let change = self.clock.measured(reading);
        if change == Change::None {
            return;
        }
        self.table.set_clock_marks(self.clock.marks());
        if change == Change::Earlier {
            let users = self.presence.rows.values();
            let users = users.map(|(_, user)| Rc::clone(user)).collect();
            self.tell_users(users);
        }
    }

    fn look_at_rows(&mut self, rows: Range<u32>) {
        let mut users = HashSet::new();
        for row in rows {
            self.look_at_row(row, &mut users);
        }
        self.tell_users(users);
    }

    /// Compares a row with what is known of it; adds the users whose sessions have changed.
    fn look_at_row(&mut self, row: u32, users: &mut HashSet<Rc<str>>) {
        let session = self
            .hands
            .logged_in(row)
            .and_then(|handle| Some((handle.generation, self.hands.user_name(handle)?)));
        let known = self.presence.rows.get(&row);
        match (&session, known) {
            (None, None) => return,
            (Some((generation, _)), Some((was, _))) if generation == was => return,
            _ => {}
        }
        if let Some((_, user)) = self.presence.rows.remove(&row) {
            users.insert(user);
        }
        if let Some((generation, name)) = session {
            let user: Rc<str> = Rc::from(&*name);
            users.insert(Rc::clone(&user));
            self.presence.rows.insert(row, (generation, user));
        }
    }

    fn tell_users(&mut self, users: HashSet<Rc<str>>) {
        for user in users {
            self.tell_user(&user);
        }
    }

    /// Tells the directory what sessions a user has here.
    pub fn tell_user(&mut self, user: &str) {
        if !self.clock.is_known() {
            // All are told once it is.
            return;
        }
        let sessions = self.sessions_here(user);
        let entry = (!sessions.is_empty()).then(|| {
            value(&UserEntry {
                boot: self.boot.clone(),
                sessions: sessions.into_iter().map(|(_, session)| session).collect(),
            })
        });
        let key = Key::User(user.to_owned());
        if entry.is_none() {
            self.elsewhere.forget(&key);
        }
        self.directory.set(key, entry);
    }

    /// Tells the directory that a group has members here.
    pub fn tell_group(&mut self, group: &str) {
        let entry = value(&GroupEntry {
            boot: self.boot.clone(),
        });
        self.directory
            .set(Key::Group(group.to_owned()), Some(entry));
    }

    /// A user's sessions here, as the directory has them, the oldest first.
    pub fn sessions_here(&self, user: &str) -> Vec<(RowHandle, SessionEntry)> {
        let mut handles = Vec::new();
        self.hands.sessions_of(user, &mut handles);
        let mut sessions: Vec<_> = handles
            .into_iter()
            .filter_map(|handle| Some((handle, self.session_entry(handle)?)))
            .collect();
        sessions.sort_by(|(_, a), (_, b)| (a.since, &a.id).cmp(&(b.since, &b.id)));
        sessions
    }

    fn session_entry(&self, handle: RowHandle) -> Option<SessionEntry> {
        let at = self.hands.logged_in_at(handle)?;
        // Where the clock is not known, nobody elsewhere is told, and here only who it is counts.
        let since = self.clock.told(at).unwrap_or(at);
        Some(SessionEntry {
            id: self.hands.session_id(handle).to_string(),
            device: self.hands.device_id(handle)?.to_string(),
            model: self.hands.device_model(handle)?.to_string(),
            since,
            transport: match self.hands.transport(handle)? {
                Transport::WebSocket => "websocket".into(),
                Transport::Tcp => "tcp".into(),
            },
        })
    }

    fn look_at_groups(&mut self) {
        // Read first: what changes while the groups are looked at is looked at again.
        self.presence.groups_changes = Some(self.hands.groups_changes());
        let mut names = Vec::new();
        self.hands.groups_here(&mut names);
        let now: HashSet<Rc<str>> = names.iter().map(|name| Rc::from(&**name)).collect();
        for ended in self.presence.groups.difference(&now) {
            let key = Key::Group(ended.to_string());
            self.elsewhere.forget(&key);
            self.directory.set(key, None);
        }
        let begun: Vec<_> = now.difference(&self.presence.groups).cloned().collect();
        for group in begun {
            self.tell_group(&group);
        }
        self.presence.groups = now;
    }
}

/// Whether two entries are of the same moment: sessions that log in on two hosts have an order, whoever compares them.
pub fn is_newer(a: &SessionEntry, b: &SessionEntry) -> bool {
    (a.since, &a.id) > (b.since, &b.id)
}
