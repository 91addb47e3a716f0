//! From the mailbox to the hosts: letters are taken in as they come, the directory is asked whom they concern, and each goes into the queue
//! in front of the lane to every host that it does.
//!
//! The letters of one session stay in order: one waits while an older one of the same session is being looked up. Those of different
//! sessions do not wait for each other, and where something has to wait, at the directory or in front of a lane, senders have their turns.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::rc::Rc;

use directory::{Away, Entry, Key};
use protocol::code::ErrorCode;
use protocol::letter::{self, Kind};
use shm_table::{Counter, Mail, MailAccounts, RowHandle, Share};
use tokio::time::{Duration, Instant};

use crate::fair::FairQueue;
use crate::letters::{Letter, Place, Sender};
use crate::link::{Done, Link};

/// How long letters are taken out of the mailbox, and how long they are sent on their way, before the rest of a turn: the lease and the bus
/// want their turns too.
const SLICE: Duration = Duration::from_millis(3);

/// Letters between two looks at the clock.
const AT_ONCE: usize = 32;

/// Keys that the directory is asked about at once, for letters. What comes meanwhile waits for two such answers at most.
const KEYS_MAX: usize = 128;

/// How long a question to the directory is not repeated that it could not answer.
const PAUSE_MS: u64 = 100;

/// A question's limit where messages may wait for ever.
const QUESTION_MS: u64 = 5_000;

/// A letter that an earlier link has left: number, sender, and whether it may have been sent.
type Left = (u64, MailAccounts, bool);

/// A letter and the account of its session.
type Waiting = (u64, u16);

/// Letters whose recipients are not known, or behind such of the same session.
#[derive(Default)]
pub struct Routing {
    /// What an earlier link has left, until all of it was taken in.
    left: Vec<Left>,
    left_max: usize,
    has_all: bool,
    /// Letters that it may have sent, before all others; and whether such are in the batch.
    again: VecDeque<Waiting>,
    batch_again: bool,
    queue: FairQueue<Waiting>,
    /// Those that the directory is, or is to be, asked about, and their keys.
    batch: Vec<(Waiting, Vec<Key>)>,
    asking: bool,
    /// Table milliseconds before which the directory is not asked again.
    not_before_ms: u64,
    /// How many there are of each session.
    sessions: HashMap<u16, usize>,
}

impl Routing {
    /// For a link whose predecessors have left so many letters at most.
    pub fn new(left_max: usize) -> Self {
        Routing {
            left_max,
            ..Routing::default()
        }
    }

    /// True if a letter that comes now has to wait.
    fn holds(&self, accounts: MailAccounts) -> bool {
        self.batch_again || !self.again.is_empty() || self.has_of(accounts)
    }

    fn has_of(&self, accounts: MailAccounts) -> bool {
        let session = accounts.number(Share::Session);
        self.sessions.contains_key(&session)
    }

    fn push(&mut self, accounts: MailAccounts, number: u64) {
        let session = accounts.number(Share::Session);
        *self.sessions.entry(session).or_default() += 1;
        self.queue.push(accounts, (number, session), 1);
    }

    fn next(&mut self) -> Option<Waiting> {
        let again = self.again.pop_front();
        self.batch_again |= again.is_some();
        again.or_else(|| self.queue.pop())
    }

    fn leaves(sessions: &mut HashMap<u16, usize>, session: u16) {
        if let Some(count) = sessions.get_mut(&session) {
            *count -= 1;
            if *count == 0 {
                sessions.remove(&session);
            }
        }
    }
}

/// What goes around a letter's text is not its sender's to save; and an empty one is not free.
pub const ITEM_COST: u32 = 256;

impl Link<'_> {
    /// Takes letters out of the mailbox. True: more are in it.
    pub fn take_mail(&mut self) -> bool {
        let began = Instant::now();
        for n in 1.. {
            if n % AT_ONCE == 0 && began.elapsed() > SLICE {
                break;
            }
            let Some(mail) = self.hands.next_mail() else {
                self.sort_left();
                return false;
            };
            let mut bytes = std::mem::take(&mut self.scratch);
            bytes.clear();
            let accounts = self.hands.read_mail(mail, &mut bytes);
            match letter::read(&bytes) {
                Some(read) => self.take_letter(mail, accounts, &read, bytes.len()),
                None => {
                    tracing::error!(bytes = bytes.len(), "a letter cannot be read");
                    self.hands.count(Counter::Undelivered, 1);
                    self.hands.settle(mail);
                }
            }
            self.scratch = bytes;
        }
        self.hands.has_mail()
    }

    fn take_letter(
        &mut self,
        mail: Mail,
        accounts: MailAccounts,
        read: &letter::Letter<'_>,
        bytes: usize,
    ) {
        let is_question = matches!(read.kind, Kind::WhoUsers | Kind::WhoGroup);
        // A question is answered with what is known by then.
        let timeout_ms = match u64::from(self.settings.cluster.timeout_ms) {
            0 if is_question => Some(QUESTION_MS),
            0 => None,
            some => Some(some),
        };
        let number = self.letters.push(Letter {
            mail,
            accounts,
            kind: read.kind,
            cost: u32::try_from(bytes).unwrap_or(u32::MAX).max(ITEM_COST),
            deadline_ms: timeout_ms.map(|ms| read.handed_over_ms + ms),
            places: Vec::new(),
            awaited: 0,
            taken: false,
            refused: false,
            question: None,
        });
        if is_question {
            return self.questions.push(accounts, number);
        }
        if !self.routing.has_all {
            let sent = self.hands.was_sent(mail);
            self.routing.left.push((number, accounts, sent));
            if self.routing.left.len() >= self.routing.left_max {
                self.sort_left();
            }
            return;
        }
        if self.routing.holds(accounts) {
            return self.routing.push(accounts, number);
        }
        let keys = keys_of(read);
        let known = |key| self.elsewhere.known(key).is_some();
        if keys.iter().all(known) {
            self.dispatch(number, &keys, &HashMap::new());
        } else {
            self.routing.push(accounts, number);
        }
    }

    /// What an earlier link has left is there now. What that may have sent goes first, in order, and before it what the same session had sent
    /// before: the other hosts remember only the last ids.
    fn sort_left(&mut self) {
        let routing = &mut self.routing;
        if std::mem::replace(&mut routing.has_all, true) {
            return;
        }
        let left = std::mem::take(&mut routing.left);
        let sent = left.iter().filter(|(.., sent)| *sent);
        let last: HashMap<u16, u64> = sent
            .map(|(number, accounts, _)| (accounts.number(Share::Session), *number))
            .collect();
        for (number, accounts, _) in left {
            let session = accounts.number(Share::Session);
            if last.get(&session).is_some_and(|last| number <= *last) {
                *routing.sessions.entry(session).or_default() += 1;
                routing.again.push_back((number, session));
            } else {
                routing.push(accounts, number);
            }
        }
    }

    /// Sends what waits on its way, as far as it is known where to. True: there is more to do now.
    pub fn route(&mut self) -> bool {
        let began = Instant::now();
        while self.routing.has_all && !self.routing.asking {
            if began.elapsed() > SLICE {
                return true;
            }
            self.fill_batch();
            if self.routing.batch.is_empty() {
                return false;
            }
            let batch = self.routing.batch.iter();
            let open = batch.filter(|((number, _), _)| self.letters.contains(*number));
            let keys: BTreeSet<&Key> = open.flat_map(|(_, keys)| keys).collect();
            let unknown = keys
                .into_iter()
                .filter(|key| self.elsewhere.known(key).is_none());
            let unknown: Vec<Key> = unknown.cloned().collect();
            if unknown.is_empty() {
                self.send_batch(&HashMap::new());
                continue;
            }
            if self.now_ms < self.routing.not_before_ms {
                return false;
            }
            self.routing.asking = true;
            let directory = self.directory.clone();
            self.tasks.spawn(async move {
                let entries = directory.look_up(&unknown).await;
                Done::Routed(unknown, entries)
            });
        }
        false
    }

    /// The next letters, a sender's after another's, unless there are such already.
    fn fill_batch(&mut self) {
        if !self.routing.batch.is_empty() {
            return;
        }
        let mut keys = 0;
        while keys < KEYS_MAX
            && let Some(waiting) = self.routing.next()
        {
            let of_letter = self.letters.find(waiting.0).map(|letter| letter.mail);
            let of_letter = of_letter.map(|mail| self.with_letter(mail, keys_of));
            let of_letter = of_letter.flatten().unwrap_or_default();
            keys += of_letter.len();
            self.routing.batch.push((waiting, of_letter));
        }
    }

    /// The directory's answer.
    pub fn routed(&mut self, keys: Vec<Key>, entries: Result<Vec<Vec<Entry>>, Away>) {
        self.routing.asking = false;
        let Ok(entries) = entries else {
            // They wait, each until its deadline.
            self.routing.not_before_ms = self.now_ms + PAUSE_MS;
            return;
        };
        let found = keys.into_iter().zip(entries).collect();
        self.send_batch(&found);
    }

    fn send_batch(&mut self, found: &HashMap<Key, Vec<Entry>>) {
        self.routing.batch_again = false;
        for ((number, session), keys) in std::mem::take(&mut self.routing.batch) {
            Routing::leaves(&mut self.routing.sessions, session);
            // One that was late is not there any more.
            if self.letters.contains(number) {
                self.dispatch(number, &keys, found);
            }
        }
    }

    /// Puts a letter into the queue to each host that it concerns.
    fn dispatch(&mut self, number: u64, keys: &[Key], found: &HashMap<Key, Vec<Entry>>) {
        let Some(letter) = self.letters.find(number) else {
            return;
        };
        let hosts = if letter.kind == Kind::Everyone {
            self.all_hosts()
        } else {
            self.hosts_of(keys.iter(), found)
        };
        if self.send_to(number, hosts) == 0 {
            self.settle(number);
        }
    }

    /// Puts a letter into the queue to each of these hosts; to how many it is on its way now.
    pub fn send_to(&mut self, number: u64, hosts: BTreeSet<Rc<str>>) -> usize {
        let (mut places, mut refused) = (Vec::with_capacity(hosts.len()), false);
        if let Some(letter) = self.letters.find(number) {
            let (accounts, cost) = (letter.accounts, letter.cost);
            let again = self.hands.was_sent(letter.mail);
            for host in hosts {
                match self.send(&host, accounts, number, cost, again) {
                    true => places.push((host, Place::Queued)),
                    false => refused = true,
                }
            }
        }
        let Some(letter) = self.letters.find(number) else {
            return 0;
        };
        letter.awaited = places.len();
        letter.places = places;
        letter.refused |= refused;
        letter.awaited
    }

    /// The other hosts of these keys, as the directory has just said or as it is known.
    pub fn hosts_of<'k>(
        &self,
        keys: impl Iterator<Item = &'k Key>,
        found: &HashMap<Key, Vec<Entry>>,
    ) -> BTreeSet<Rc<str>> {
        let mut hosts = BTreeSet::new();
        for key in keys {
            if let Some(known) = self.elsewhere.known(key) {
                hosts.extend(known.iter().cloned());
            } else if let Some(entries) = found.get(key) {
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

    /// Reads a letter in the mailbox. `None`: it cannot be read, which was told when it was taken.
    pub fn with_letter<R>(
        &mut self,
        mail: Mail,
        with: impl FnOnce(&letter::Letter<'_>) -> R,
    ) -> Option<R> {
        let mut bytes = std::mem::take(&mut self.read);
        bytes.clear();
        self.hands.read_mail(mail, &mut bytes);
        let result = letter::read(&bytes).map(|letter| with(&letter));
        self.read = bytes;
        result
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
                if let Place::Lane(place) = place {
                    self.give_up(&host, number, place);
                }
            }
            self.settle(number);
        }
    }

    /// A letter is done with: its sender is told, and the mailbox has its room back.
    pub fn settle(&mut self, number: u64) {
        let Some(letter) = self.letters.remove(number) else {
            return;
        };
        let is_question = matches!(letter.kind, Kind::WhoUsers | Kind::WhoGroup);
        if let Some(sender) = self.with_letter(letter.mail, sender_of) {
            if is_question {
                self.close_question(&sender, letter);
                return;
            }
            if letter.taken {
                self.tell(&sender, protocol::reply::Status::Routed);
            } else if letter.refused {
                self.hands.count(Counter::Undelivered, 1);
                if !sender.reached {
                    let sentence = "the other host has not taken this message in time";
                    self.refuse(&sender, ErrorCode::Overloaded, sentence);
                }
            } else {
                self.tell(&sender, protocol::reply::Status::Offline);
            }
        }
        self.hands.settle(letter.mail);
    }

    /// Forgets what waits for its turn and has been settled.
    pub fn tidy_routing(&mut self) {
        let (letters, routing) = (&self.letters, &mut self.routing);
        if routing.queue.len() > letters.len() {
            let sessions = &mut routing.sessions;
            routing.queue.retain(|(number, session)| {
                let keeps = letters.contains(*number);
                if !keeps {
                    Routing::leaves(sessions, *session);
                }
                keeps
            });
        }
    }
}

/// What a letter's sender is to be told.
fn sender_of(read: &letter::Letter<'_>) -> Sender {
    let (row, generation) = read.sender;
    Sender {
        session: RowHandle { row, generation },
        id: read.id.map(Into::into),
        message_id: read.message_id.into(),
        quiet: read.quiet,
        reached: read.reached,
    }
}

/// The keys whose entries say where a letter goes.
fn keys_of(letter: &letter::Letter<'_>) -> Vec<Key> {
    let user = |name: &str| Key::User(name.to_owned());
    match letter.kind {
        Kind::User if letter.to == letter.from => vec![user(letter.to)],
        Kind::User => vec![user(letter.to), user(letter.from)],
        Kind::Group | Kind::WhoGroup => vec![Key::Group(letter.to.to_owned())],
        Kind::Everyone | Kind::WhoUsers => Vec::new(),
    }
}
