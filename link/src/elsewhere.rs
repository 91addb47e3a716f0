//! Which of the users and groups that are here are on other hosts too, and what follows: the marks in the table by which workers
//! know whom to hand over, hints to the other hosts, and newer logins elsewhere (`limits.same_user`).

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use config::SameUser;
use directory::{Entry, Event, Key};
use shm_table::Order;

use crate::entry::{SessionEntry, UserEntry};
use crate::link::Link;
use crate::presence::is_newer;

/// The other hosts of each key that is here.
#[derive(Debug, Default)]
pub struct Elsewhere {
    /// As last read from the directory. A key that is here and not in this map has not been read yet.
    hosts: HashMap<Key, BTreeSet<Rc<str>>>,
}

impl Elsewhere {
    /// The other hosts of a key, if they are known without asking.
    pub fn known(&self, key: &Key) -> Option<&BTreeSet<Rc<str>>> {
        self.hosts.get(key)
    }

    /// A key is not here any more.
    pub fn forget(&mut self, key: &Key) {
        self.hosts.remove(key);
    }
}

impl Link<'_> {
    /// Takes over what the directory says.
    pub fn hear_directory(&mut self, event: Event) {
        match event {
            Event::Written { key, news, entries } => {
                if news {
                    self.hint(&key, &entries);
                }
                // One that has gone since is removed next, and must not be remembered here.
                if self.is_here(&key) {
                    self.learn(&key, &entries);
                }
            }
            Event::Removed { key, entries } => {
                self.hint(&key, &entries);
                if !self.is_here(&key) {
                    self.elsewhere.forget(&key);
                }
            }
            Event::Came(host) => {
                tracing::info!(host, "a host is there");
            }
            Event::Gone(host) => {
                tracing::info!(host, "a host is gone");
                self.host_gone(&host);
            }
        }
    }

    /// Tells the hosts that have a key too that our entry has changed.
    fn hint(&mut self, key: &Key, entries: &[Entry]) {
        let node = Rc::clone(&self.node);
        for entry in entries.iter().filter(|entry| entry.host != *node) {
            self.send_hint(&entry.host, key);
        }
    }

    /// Another host's entry of a key has changed, as that host says. Ours is written once more, if there is one: what the others have is
    /// read behind that write, in one order with all other writes.
    pub fn hinted(&mut self, key: &Key) {
        if !self.is_here(key) {
            return;
        }
        match key {
            Key::User(name) => self.tell_user(name),
            Key::Group(name) => self.tell_group(name),
        }
    }

    fn is_here(&self, key: &Key) -> bool {
        match key {
            Key::User(name) => {
                let mut sessions = Vec::new();
                self.hands.sessions_of(name, &mut sessions);
                !sessions.is_empty()
            }
            Key::Group(name) => {
                let mut members = Vec::new();
                self.hands.members_of(name, &mut members)
            }
        }
    }

    /// Takes over the entries of a key that is here.
    fn learn(&mut self, key: &Key, entries: &[Entry]) {
        let others: BTreeSet<Rc<str>> = entries
            .iter()
            .filter(|entry| entry.host != *self.node)
            .map(|entry| Rc::from(entry.host.as_str()))
            .collect();
        self.mark(key, !others.is_empty());
        if let (Key::User(user), false) = (key, others.is_empty()) {
            self.replace_older(user, entries);
        }
        self.elsewhere.hosts.insert(key.clone(), others);
    }

    fn mark(&mut self, key: &Key, elsewhere: bool) {
        match key {
            Key::User(name) => self.hands.set_user_elsewhere(name, elsewhere),
            Key::Group(name) => self.hands.set_group_elsewhere(name, elsewhere),
        }
    }

    /// A host is gone, and with it all that it had.
    pub fn nothing_at(&mut self, host: &str) {
        let mut alone = Vec::new();
        for (key, hosts) in &mut self.elsewhere.hosts {
            if hosts.remove(host) && hosts.is_empty() {
                alone.push(key.clone());
            }
        }
        for key in alone {
            self.mark(&key, false);
        }
    }

    /// Sessions here of which a newer one exists on another host, where the newer is to replace the older.
    fn replace_older(&mut self, user: &str, entries: &[Entry]) {
        let policy = self.settings.limits.same_user;
        if policy == SameUser::Many {
            return;
        }
        let theirs: Vec<SessionEntry> = entries
            .iter()
            .filter(|entry| entry.host != *self.node)
            .filter_map(|entry| UserEntry::read(&entry.value))
            .flat_map(|entry| entry.sessions)
            .collect();
        for (handle, ours) in self.sessions_here(user) {
            let replaces = |other: &SessionEntry| {
                let same = policy == SameUser::One || other.device == ours.device;
                same && is_newer(other, &ours)
            };
            if theirs.iter().any(replaces) {
                self.hands.order(handle, Order::REPLACED);
            }
        }
    }
}
