//! From the mailbox to the lanes: letters are taken in, the directory is asked whom they concern, and each goes to every host
//! that it does. In order: a letter waits while an older one is being looked up.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::Hasher;
use std::rc::Rc;

use directory::{Away, Entry, Key};
use protocol::code::ErrorCode;
use protocol::letter::{self, Kind};
use shm_table::{Counter, RowHandle};
use siphasher::sip::SipHasher13;

use crate::letters::{Letter, Question, Sender};
use crate::link::{Done, Link};
use crate::parcel::{self, Parcel};

/// Letters that one question to the directory is about.
const BATCH: usize = 512;

/// Letters that are under way at a time; the rest waits in the mailbox.
const UNDER_WAY_MAX: usize = 16_384;

/// How long a question to the directory is not repeated that it could not answer.
const PAUSE_MS: u64 = 100;

/// Letters whose recipients are being looked up.
#[derive(Debug, Default)]
pub struct Routing {
    /// In order.
    waiting: VecDeque<u64>,
    asking: bool,
    /// Table milliseconds before which the directory is not asked again.
    not_before_ms: u64,
}

impl Link<'_> {
    /// True if what is left in the mailbox has to wait.
    pub fn is_laden(&self) -> bool {
        self.letters.len() >= UNDER_WAY_MAX
    }

    /// Takes letters out of the mailbox.
    pub fn take_mail(&mut self) {
        while !self.is_laden()
            && let Some(mail) = self.hands.next_mail()
        {
            let mut bytes = std::mem::take(&mut self.scratch);
            bytes.clear();
            self.hands.read_mail(mail, &mut bytes);
            match letter::read(&bytes) {
                Some(read) => {
                    let letter = self.understand(mail, &read);
                    let number = self.letters.push(letter);
                    self.routing.waiting.push_back(number);
                }
                None => {
                    tracing::error!(bytes = bytes.len(), "a letter cannot be read");
                    self.hands.count(Counter::Undelivered, 1);
                    self.hands.settle(mail);
                }
            }
            self.scratch = bytes;
        }
    }

    fn understand(&self, mail: shm_table::Mail, read: &letter::Letter<'_>) -> Letter {
        let kind = match read.kind {
            Kind::User => Some(parcel::Kind::User),
            Kind::Group => Some(parcel::Kind::Group),
            Kind::Everyone => Some(parcel::Kind::Everyone),
            Kind::WhoUsers | Kind::WhoGroup => None,
        };
        let parcel = kind.map(|kind| {
            Parcel {
                kind,
                id: id_of(read.message_id),
                to: read.to,
                from: read.from,
                body: read.body,
            }
            .bytes()
        });
        let question = match read.kind {
            Kind::WhoUsers => Some(Question {
                users: serde_json::from_slice(read.body).unwrap_or_default(),
                ..Question::default()
            }),
            Kind::WhoGroup => Some(Question {
                group: Some(read.to.to_owned()),
                ..Question::default()
            }),
            _ => None,
        };
        let timeout_ms = u64::from(self.settings.cluster.timeout_ms);
        // A question is answered with what is known by then.
        let timeout_ms = match (timeout_ms, &question) {
            (0, None) => None,
            (0, Some(_)) => Some(QUESTION_MS),
            (some, _) => Some(some),
        };
        let (row, generation) = read.sender;
        Letter {
            mail,
            kind: read.kind,
            to: read.to.into(),
            from: read.from.into(),
            sender: Sender {
                session: RowHandle { row, generation },
                id: read.id.map(Into::into),
                message_id: read.message_id.into(),
                quiet: read.quiet,
                reached: read.reached,
            },
            parcel: parcel.unwrap_or_default(),
            deadline_ms: timeout_ms.map(|ms| read.handed_over_ms + ms),
            places: Vec::new(),
            awaited: 0,
            taken: false,
            refused: false,
            question,
        }
    }

    /// Sends what waits on its way, as far as it is known where to.
    pub fn route(&mut self) {
        while !self.routing.asking && !self.routing.waiting.is_empty() {
            let batch: Vec<u64> = self.routing.waiting.iter().take(BATCH).copied().collect();
            let mut keys = BTreeSet::new();
            for &number in &batch {
                if let Some(letter) = self.letters.find(number) {
                    keys.extend(keys_of(letter));
                }
            }
            keys.retain(|key| self.elsewhere.known(key).is_none());
            if keys.is_empty() {
                self.send_batch(&batch, &HashMap::new());
                continue;
            }
            if self.now_ms < self.routing.not_before_ms {
                return;
            }
            self.routing.asking = true;
            let directory = self.directory.clone();
            let keys: Vec<Key> = keys.into_iter().collect();
            self.tasks.spawn(async move {
                let entries = directory.look_up(&keys).await;
                Done::Routed(batch, keys, entries)
            });
        }
    }

    /// The directory's answer.
    pub fn routed(
        &mut self,
        batch: Vec<u64>,
        keys: Vec<Key>,
        entries: Result<Vec<Vec<Entry>>, Away>,
    ) {
        self.routing.asking = false;
        let Ok(entries) = entries else {
            // They wait, each until its deadline.
            self.routing.not_before_ms = self.now_ms + PAUSE_MS;
            return;
        };
        let found = keys.into_iter().zip(entries).collect();
        self.send_batch(&batch, &found);
    }

    fn send_batch(&mut self, batch: &[u64], found: &HashMap<Key, Vec<Entry>>) {
        for &number in batch {
            if self.routing.waiting.front() == Some(&number) {
                self.routing.waiting.pop_front();
            }
            // One that was late is not there any more.
            let Some(letter) = self.letters.find(number) else {
                continue;
            };
            if letter.question.is_some() {
                let group = letter.question.as_ref().and_then(|q| q.group.clone());
                let hosts = group.map(|group| {
                    let key = Key::Group(group);
                    self.hosts_of([key].into_iter(), found)
                });
                self.ask(number, hosts);
                continue;
            }
            let everyone = letter.kind == Kind::Everyone;
            let keys = keys_of(letter);
            let parcel = letter.parcel.clone();
            let hosts = if everyone {
                self.all_hosts()
            } else {
                self.hosts_of(keys, found)
            };
            let mut places = Vec::with_capacity(hosts.len());
            let mut refused = false;
            for host in hosts {
                match self.send(&host, number, parcel.clone()) {
                    Some(place) => places.push((host, place)),
                    None => refused = true,
                }
            }
            let Some(letter) = self.letters.find(number) else {
                continue;
            };
            letter.awaited = places.len();
            letter.places = places;
            letter.refused |= refused;
            // Only the lanes need it now.
            letter.parcel = Default::default();
            if letter.awaited == 0 {
                self.settle(number);
            }
        }
    }

    fn hosts_of(
        &self,
        keys: impl Iterator<Item = Key>,
        found: &HashMap<Key, Vec<Entry>>,
    ) -> BTreeSet<Rc<str>> {
        let mut hosts = BTreeSet::new();
        for key in keys {
            if let Some(known) = self.elsewhere.known(&key) {
                hosts.extend(known.iter().cloned());
            } else if let Some(entries) = found.get(&key) {
                let others = entries.iter().filter(|entry| entry.host != *self.node);
                hosts.extend(others.map(|entry| Rc::from(entry.host.as_str())));
            }
        }
        hosts.retain(|host| !self.is_known_dead(host));
        hosts
    }

    fn all_hosts(&self) -> BTreeSet<Rc<str>> {
        let hosts = self.hosts.borrow();
        hosts.keys().map(|host| Rc::from(host.as_str())).collect()
    }

    /// Settles what is past its deadline: its sender is told so.
    pub fn settle_late(&mut self) {
        for number in self.letters.late(self.now_ms) {
            let Some(letter) = self.letters.find(number) else {
                continue;
            };
            letter.refused = true;
            if let Some(question) = &mut letter.question {
                question.partial = true;
            }
            let places = std::mem::take(&mut letter.places);
            for (host, place) in places {
                self.give_up(&host, number, place);
            }
            self.settle(number);
        }
    }

    /// A letter is done with: its sender is told, and the mailbox has its room back.
    pub fn settle(&mut self, number: u64) {
        let Some(letter) = self.letters.remove(number) else {
            return;
        };
        if let Some(question) = letter.question {
            self.answer_question(&letter.sender, question, None);
        } else if letter.taken {
            self.tell(&letter.sender, protocol::reply::Status::Routed);
        } else if letter.refused {
            self.hands.count(Counter::Undelivered, 1);
            if !letter.sender.reached {
                let sentence = "the other host has not taken this message in time";
                self.refuse(&letter.sender, ErrorCode::Overloaded, sentence);
            }
        } else {
            self.tell(&letter.sender, protocol::reply::Status::Offline);
        }
        self.hands.settle(letter.mail);
    }
}

/// A question's limit where messages may wait for ever.
const QUESTION_MS: u64 = 5_000;

/// The keys whose entries say where a letter goes.
fn keys_of(letter: &Letter) -> impl Iterator<Item = Key> + use<> {
    let user = |name: &str| Key::User(name.to_owned());
    let (to, from) = match (letter.kind, &letter.question) {
        (Kind::User, _) if letter.to == letter.from => (Some(user(&letter.to)), None),
        (Kind::User, _) => (Some(user(&letter.to)), Some(user(&letter.from))),
        (Kind::Group | Kind::WhoGroup, _) => (Some(Key::Group(letter.to.to_string())), None),
        (Kind::Everyone | Kind::WhoUsers, _) => (None, None),
    };
    to.into_iter().chain(from)
}

/// What tells a message from every other: a hash of its id, which is unique over all hosts and restarts. Two of the last
/// few thousand of one host share a hash once in about 10^13 cases.
fn id_of(message_id: &str) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(message_id.as_bytes());
    // 0 means that there is none, and the lowest bit is the receiver's.
    hasher.finish().max(2)
}
