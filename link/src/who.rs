//! `who`, over all hosts: the table says who is here, the directory who is elsewhere, and other hosts who is in a group there.
//!
//! A question waits until its sender's turn has come; then it is one of a bounded number that are open, of which a sender has a part
//! ([`Questions::may_open`]). An open one is answered in steps, so many users at a time, and the steps of all take turns too: what the directory
//! is asked for others meanwhile never waits for more than two of them.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::rc::Rc;

use directory::{Away, Directory, Entry, Key};
use protocol::code::ErrorCode;
use protocol::letter::Kind;
use protocol::reply::{self, Device, PresenceUser};
use shm_table::{MailAccounts, Share};
use tokio::time::{Duration, Instant};

use crate::entry::{SessionEntry, UserEntry};
use crate::fair::FairQueue;
use crate::lane::Outcome;
use crate::letters::{Letter, Sender};
use crate::link::{Done, Link};
use crate::parcel::Parcel;

/// Devices told of one user. A user with more sessions than this is not a person with devices.
const DEVICES_MAX: usize = 32;

/// Users that one step asks the directory about: with one command each, or two where nobody of the name is there.
const STEP_USERS: usize = 64;

/// Steps that are under way at a time.
const STEPS_MAX: usize = 2;

/// How long questions are worked on before the rest of a turn.
const SLICE: Duration = Duration::from_millis(1);

/// A question under way.
#[derive(Debug, Default)]
pub struct Question {
    /// The group that was asked about.
    pub group: Option<String>,
    /// The users to tell about, as far as they are known.
    pub users: Vec<String>,
    /// What is known of the first of them.
    known: Vec<Known>,
    /// Some host could not be asked.
    pub partial: bool,
    /// Which users there are is known, and they are being asked about.
    complete: bool,
}

/// What the directory knows of a user.
#[derive(Debug, Default)]
pub struct Known {
    entries: Vec<Entry>,
    last_seen: Option<u64>,
}

/// Questions that wait, and those that are open.
#[derive(Default)]
pub struct Questions {
    waiting: FairQueue<u64>,
    /// Open ones whose next step is due.
    steps: FairQueue<u64>,
    /// Steps that the directory has been asked for.
    under_way: usize,
    open: usize,
    /// How many are open of each account.
    open_of: HashMap<(Share, u16), usize>,
}

impl Questions {
    /// Takes in a question.
    pub fn push(&mut self, accounts: MailAccounts, number: u64) {
        self.waiting.push(accounts, number, 1);
    }

    /// The next question that may be opened: of `most`, an address has a quarter at most, a user an eighth, a session a sixteenth, and each at
    /// least one.
    fn next_waiting(&mut self, most: usize) -> Option<u64> {
        if self.open >= most {
            return None;
        }
        let open_of = &self.open_of;
        self.waiting.pop_if(|share, number| {
            let part = match share {
                Share::Session => most / 16,
                Share::User => most / 8,
                Share::Address => most / 4,
            };
            let open = open_of.get(&(share, number)).copied().unwrap_or(0);
            open < part.max(1)
        })
    }

    fn opened(&mut self, accounts: MailAccounts) {
        self.open += 1;
        for share in Share::ALL {
            *self
                .open_of
                .entry((share, accounts.number(share)))
                .or_default() += 1;
        }
    }

    fn closed(&mut self, accounts: MailAccounts) {
        self.open -= 1;
        for share in Share::ALL {
            let key = (share, accounts.number(share));
            if let Some(open) = self.open_of.get_mut(&key) {
                *open -= 1;
                if *open == 0 {
                    self.open_of.remove(&key);
                }
            }
        }
    }
}

/// Asks the directory about users.
async fn look_up(directory: Directory, users: Vec<String>) -> Result<Vec<Known>, Away> {
    let keys: Vec<Key> = users.iter().cloned().map(Key::User).collect();
    let mut known: Vec<Known> = directory
        .look_up(&keys)
        .await?
        .into_iter()
        .map(|entries| Known {
            entries,
            last_seen: None,
        })
        .collect();
    // Of one who is there, the session says when.
    let absent: Vec<usize> = (0..known.len())
        .filter(|&at| known.get(at).is_some_and(|user| user.entries.is_empty()))
        .collect();
    let names: Vec<String> = absent
        .iter()
        .filter_map(|&at| users.get(at).cloned())
        .collect();
    if !names.is_empty() {
        let seen = directory.last_seen(&names).await?;
        for (at, seen) in absent.into_iter().zip(seen) {
            if let Some(user) = known.get_mut(at) {
                user.last_seen = seen;
            }
        }
    }
    Ok(known)
}

impl Link<'_> {
    /// Works on questions for a slice of time. True: there is more to do now.
    pub fn ask_questions(&mut self) -> bool {
        let began = Instant::now();
        let most = usize::from(self.settings.cluster.questions);
        while self.questions.under_way < STEPS_MAX {
            if let Some(number) = self.questions.steps.pop() {
                self.step(number);
            } else if let Some(number) = self.questions.next_waiting(most) {
                self.open(number);
            } else {
                return false;
            }
            if began.elapsed() > SLICE {
                return self.questions.under_way < STEPS_MAX;
            }
        }
        // Those whose names come from other hosts do not wait for the directory.
        false
    }

    /// Begins to answer a question.
    fn open(&mut self, number: u64) {
        let Some(letter) = self.letters.find(number) else {
            return;
        };
        let (mail, accounts) = (letter.mail, letter.accounts);
        let question = self.with_letter(mail, |read| {
            let (row, generation) = read.sender;
            let session = shm_table::RowHandle { row, generation };
            let question = match read.kind {
                Kind::WhoGroup => Question {
                    group: Some(read.to.to_owned()),
                    ..Question::default()
                },
                _ => {
                    let mut users: Vec<String> =
                        serde_json::from_slice(read.body).unwrap_or_default();
                    let mut seen = HashSet::new();
                    users.retain(|name| seen.insert(name.clone()));
                    Question {
                        users,
                        complete: true,
                        ..Question::default()
                    }
                }
            };
            (session, question)
        });
        let Some((session, question)) = question else {
            return self.settle(number);
        };
        if self.hands.user_name(session).is_none() {
            // Nobody is there to hear the answer.
            self.letters.remove(number);
            return self.hands.settle(mail);
        }
        if let Some(letter) = self.letters.find(number) {
            letter.question = Some(Box::new(question));
        }
        self.questions.opened(accounts);
        self.step(number);
    }

    /// The next step of an open question.
    fn step(&mut self, number: u64) {
        let most = self.settings.limits.presence_users as usize;
        let Some(question) = self.letters.find(number).and_then(|l| l.question.as_mut()) else {
            return;
        };
        if let (Some(group), false) = (&question.group, question.complete) {
            let key = Key::Group(group.clone());
            return self.find_group(number, key);
        }
        let told = question.users.len().min(most);
        let step = question.users.iter().take(told).skip(question.known.len());
        let users: Vec<String> = step.take(STEP_USERS).cloned().collect();
        if users.is_empty() {
            return self.settle(number);
        }
        let only_here = |name: &String| {
            let key = Key::User(name.clone());
            self.elsewhere.known(&key).is_some_and(BTreeSet::is_empty)
        };
        if users.iter().all(only_here) {
            let known = users.iter().map(|_| Known::default()).collect();
            return self.learn_users(number, known);
        }
        self.questions.under_way += 1;
        let directory = self.directory.clone();
        self.tasks.spawn(async move {
            let known = look_up(directory, users).await;
            Done::Users(number, known)
        });
    }

    /// The directory's answer to a step.
    pub fn users_known(&mut self, number: u64, known: Result<Vec<Known>, Away>) {
        self.questions.under_way -= 1;
        match known {
            Ok(known) => self.learn_users(number, known),
            Err(Away) => {
                if let Some(question) = self.letters.find(number).and_then(|l| l.question.as_mut())
                {
                    question.partial = true;
                    self.settle(number);
                }
            }
        }
    }

    fn learn_users(&mut self, number: u64, known: Vec<Known>) {
        let Some(letter) = self.letters.find(number) else {
            return;
        };
        if let Some(question) = &mut letter.question {
            let cost = u32::try_from(known.len()).unwrap_or(u32::MAX);
            question.known.extend(known);
            // Its session's other questions have their turn too.
            self.questions
                .steps
                .push(letter.accounts, number, cost.saturating_mul(64));
        }
    }

    /// Finds out which hosts have members of a group that is asked about.
    fn find_group(&mut self, number: u64, key: Key) {
        if self.elsewhere.known(&key).is_some() {
            return self.ask_members(number, &key, &HashMap::new());
        }
        self.questions.under_way += 1;
        let directory = self.directory.clone();
        self.tasks.spawn(async move {
            let keys = [key];
            let entries = directory.look_up(&keys).await;
            let entries = entries.map(|mut entries| entries.pop().unwrap_or_default());
            let [key] = keys;
            Done::Group(number, key, entries)
        });
    }

    /// The directory's answer to that.
    pub fn group_known(&mut self, number: u64, key: Key, entries: Result<Vec<Entry>, Away>) {
        self.questions.under_way -= 1;
        let Some(question) = self.letters.find(number).and_then(|l| l.question.as_mut()) else {
            return;
        };
        let found = entries.map(|entries| HashMap::from([(key.clone(), entries)]));
        question.partial |= found.is_err();
        self.ask_members(number, &key, &found.unwrap_or_default());
    }

    /// Asks the other hosts of a group who is in it there.
    fn ask_members(&mut self, number: u64, key: &Key, found: &HashMap<Key, Vec<Entry>>) {
        let hosts = self.hosts_of([key].into_iter(), found);
        let Key::Group(group) = key else { return };
        let names = self.names_in(group);
        if let Some(question) = self.letters.find(number).and_then(|l| l.question.as_mut()) {
            question.users = names;
        }
        if self.send_to(number, hosts) == 0 {
            self.members_known(number);
        }
    }

    /// Every host has said who is in the group there, or has not.
    pub fn members_known(&mut self, number: u64) {
        let Some(letter) = self.letters.find(number) else {
            return;
        };
        let refused = letter.refused;
        let Some(question) = &mut letter.question else {
            return;
        };
        question.partial |= refused;
        question.users.sort_unstable();
        question.users.dedup();
        question.complete = true;
        self.questions.steps.push(letter.accounts, number, 1);
    }

    /// Answers a question that was taken out of the letters with what is known by now.
    pub fn close_question(&mut self, sender: &Sender, letter: Letter) {
        let question = match letter.question {
            Some(question) => {
                self.questions.closed(letter.accounts);
                *question
            }
            // Its turn has not come in time.
            None => {
                let sentence = "too many questions wait for other hosts; try again later";
                self.refuse(sender, ErrorCode::Overloaded, sentence);
                return self.hands.settle(letter.mail);
            }
        };
        self.answer_question(sender, question);
        self.hands.settle(letter.mail);
    }

    /// Forgets what waits for its turn and has been settled.
    pub fn tidy_questions(&mut self) {
        let (letters, questions) = (&self.letters, &mut self.questions);
        for queue in [&mut questions.waiting, &mut questions.steps] {
            if queue.len() > letters.len() {
                queue.retain(|number| letters.contains(*number));
            }
        }
    }

    /// Answers a question with what is known.
    fn answer_question(&mut self, sender: &Sender, question: Question) {
        let Question {
            group,
            mut users,
            known,
            partial,
            ..
        } = question;
        let told = users
            .len()
            .min(self.settings.limits.presence_users as usize);
        let more = u32::try_from(users.len() - told).unwrap_or(u32::MAX);
        users.truncate(told);
        let partial = partial || known.len() < told;
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
            .map(|(index, name)| self.find(name, known.get(index)))
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

    /// What is known of one user.
    fn find<'n>(&self, name: &'n str, known: Option<&Known>) -> Found<'n> {
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
        for entry in known.into_iter().flat_map(|known| &known.entries) {
            if entry.host == *self.node || self.is_known_dead(&entry.host) {
                continue;
            }
            if let Some(user) = UserEntry::read(&entry.value) {
                found.hosts.insert(Rc::from(entry.host.as_str()));
                found.sessions.extend(user.sessions);
            }
        }
        let seen = known.and_then(|known| known.last_seen);
        // Of a session elsewhere only its login is known.
        let login = found.sessions.iter().map(|session| session.since).max();
        found.last_seen_ms = found.last_seen_ms.or(login).max(seen);
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
