//! `who`, over all hosts: the table says who is here, the directory who is elsewhere, and other hosts who is in a group there.

use std::collections::{BTreeSet, HashSet};
use std::rc::Rc;

use directory::{Away, Directory, Entry, Key};
use protocol::code::ErrorCode;
use protocol::reply::{self, Device, PresenceUser};

use crate::entry::{SessionEntry, UserEntry};
use crate::lane::Outcome;
use crate::letters::{Question, Sender};
use crate::link::{Done, Link};
use crate::parcel::{Kind, Parcel};

/// Devices told of one user. A user with more sessions than this is not a person with devices.
const DEVICES_MAX: usize = 32;

/// What the directory knows of some users.
#[derive(Debug)]
pub struct Known {
    entries: Vec<Vec<Entry>>,
    last_seen: Vec<Option<u64>>,
}

/// Asks the directory about users.
async fn look_up(directory: Directory, users: Vec<String>) -> Result<Known, Away> {
    let keys: Vec<Key> = users.iter().cloned().map(Key::User).collect();
    let entries = directory.look_up(&keys).await?;
    let last_seen = directory.last_seen(&users).await?;
    Ok(Known { entries, last_seen })
}

impl Link<'_> {
    /// Begins to answer a question. `hosts`: where the group has members, if a group was asked about.
    pub fn ask(&mut self, number: u64, hosts: Option<BTreeSet<Rc<str>>>) {
        let most = self.settings.limits.presence_users;
        let Some(question) = self.letters.find(number).and_then(|l| l.question.as_mut()) else {
            return;
        };
        let Some(group) = question.group.clone() else {
            return self.ask_about_users(number);
        };
        let names = self.names_in(&group);
        let hosts = hosts.unwrap_or_default();
        let parcel = Parcel {
            kind: Kind::Members,
            id: 0,
            to: &group,
            from: "",
            body: &most.saturating_add(1).to_le_bytes(),
        }
        .bytes();
        let mut places = Vec::new();
        let mut partial = false;
        for host in hosts {
            match self.send(&host, number, parcel.clone()) {
                Some(place) => places.push((host, place)),
                None => partial = true,
            }
        }
        let Some(letter) = self.letters.find(number) else {
            return;
        };
        letter.awaited = places.len();
        letter.places = places;
        if let Some(question) = &mut letter.question {
            question.users = names;
            question.partial |= partial;
        }
        if letter.awaited == 0 {
            self.ask_about_users(number);
        }
    }

    /// Asks the directory about the users of a question, who are all known now.
    pub fn ask_about_users(&mut self, number: u64) {
        let most = self.settings.limits.presence_users as usize;
        let Some(question) = self.letters.find(number).and_then(|l| l.question.as_mut()) else {
            return;
        };
        if std::mem::replace(&mut question.looking_up, true) {
            return;
        }
        if question.group.is_some() {
            question.users.sort_unstable();
            question.users.dedup();
        } else {
            let mut seen = HashSet::new();
            question.users.retain(|name| seen.insert(name.clone()));
        }
        let users = question.users.iter().take(most).cloned().collect();
        let directory = self.directory.clone();
        self.tasks.spawn(async move {
            let known = look_up(directory, users).await;
            Done::Asked(number, known)
        });
    }

    /// The directory's answer to that.
    pub fn asked(&mut self, number: u64, known: Result<Known, Away>) {
        let Some(letter) = self.letters.remove(number) else {
            return;
        };
        if let Some(question) = letter.question {
            self.answer_question(&letter.sender, question, known.ok());
        }
        self.hands.settle(letter.mail);
    }

    /// Answers a question with what is known.
    pub fn answer_question(&mut self, sender: &Sender, question: Question, known: Option<Known>) {
        let Question {
            group,
            mut users,
            partial,
            ..
        } = question;
        let told = users
            .len()
            .min(self.settings.limits.presence_users as usize);
        let more = u32::try_from(users.len() - told).unwrap_or(u32::MAX);
        users.truncate(told);
        let partial = partial || known.is_none();
        if let Some(group) = &group
            && users.is_empty()
            && !partial
        {
            tracing::debug!(%group, "nobody is in it");
            return self.refuse(sender, ErrorCode::UnknownGroup, "there is no such group");
        }
        let found: Vec<Found> = users
            .iter()
            .enumerate()
            .map(|(index, name)| self.find(name, index, known.as_ref()))
            .collect();
        let devices: Vec<Vec<Device<'_>>> = found.iter().map(Found::devices).collect();
        let hosts: Vec<Vec<&str>> = found
            .iter()
            .map(|user| user.hosts.iter().map(|host| &**host).collect())
            .collect();
        let users = found.iter().zip(&devices).zip(&hosts);
        let users = users.map(|((user, devices), hosts)| PresenceUser {
            name: user.name,
            online: !hosts.is_empty(),
            devices,
            hosts,
            last_seen_ms: user.last_seen_ms,
        });
        self.say(sender, |w| {
            reply::presence(w, group.as_deref(), users, more, partial)
        });
    }

    fn find<'n>(&self, name: &'n str, index: usize, known: Option<&Known>) -> Found<'n> {
        let here = self.sessions_here(name);
        let mut found = Found {
            name,
            hosts: BTreeSet::new(),
            sessions: Vec::new(),
            last_seen_ms: self.hands.last_seen(name),
        };
        if !here.is_empty() {
            found.hosts.insert(Rc::clone(&self.node));
            found.sessions.extend(here.into_iter().map(|(_, s)| s));
        }
        let entries = known.and_then(|known| known.entries.get(index));
        for entry in entries.into_iter().flatten() {
            if entry.host == *self.node || self.is_known_dead(&entry.host) {
                continue;
            }
            if let Some(user) = UserEntry::read(&entry.value) {
                found.hosts.insert(Rc::from(entry.host.as_str()));
                found.sessions.extend(user.sessions);
            }
        }
        let seen = known.and_then(|known| *known.last_seen.get(index)?);
        found.last_seen_ms = found.last_seen_ms.max(seen);
        if found.last_seen_ms.is_none() && !found.hosts.is_empty() {
            // Of a session elsewhere only its login is known.
            found.last_seen_ms = found.sessions.iter().map(|s| s.since).max();
        }
        found
    }

    /// The names of a group's members here, each once.
    fn names_in(&self, group: &str) -> Vec<String> {
        let mut members = Vec::new();
        self.hands.members_of(group, &mut members);
        let names: BTreeSet<String> = members
            .into_iter()
            .filter_map(|member| Some(self.hands.user_name(member)?.to_string()))
            .collect();
        names.into_iter().collect()
    }

    /// Another host asks who is in a group here.
    pub fn members(&self, parcel: &Parcel<'_>) -> Outcome {
        let most = parcel
            .body
            .first_chunk()
            .map_or(0, |b| u32::from_le_bytes(*b));
        let most = most.min(self.settings.limits.presence_users.saturating_add(1));
        let mut names = self.names_in(parcel.to);
        names.truncate(most as usize);
        // Names always have a JSON form.
        Outcome::Answer(serde_json::to_vec(&names).unwrap_or_default().into())
    }
}

/// One user, looked up.
struct Found<'n> {
    name: &'n str,
    hosts: BTreeSet<Rc<str>>,
    sessions: Vec<SessionEntry>,
    last_seen_ms: Option<u64>,
}

impl Found<'_> {
    fn devices(&self) -> Vec<Device<'_>> {
        let given = |text: &str| !text.is_empty();
        self.sessions
            .iter()
            .take(DEVICES_MAX)
            .map(|session| Device {
                id: Some(session.device.as_str()).filter(|id| given(id)),
                model: Some(session.model.as_str()).filter(|model| given(model)),
            })
            .collect()
    }
}
