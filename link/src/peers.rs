//! The other hosts, each with a lane there and a lane from there.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::Hasher;
use std::rc::Rc;

use bytes::Bytes;
use directory::Key;
use shm_table::{Counter, INBOX_IDS, Inbox, MailAccounts};
use siphasher::sip::SipHasher13;

use crate::fair::FairQueue;
use crate::lane::{
    Data, Incoming, Judgement, Outcome, Outgoing, Reader, Section, write_acknowledgement,
    write_unknown,
};
use crate::letters::Place;
use crate::link::Link;
use crate::mail::ITEM_COST;
use crate::parcel::{self, Kind};

/// Hints that may wait for one host, each about another key.
const HINTS_MAX: usize = 65_536;

/// Bytes of frames that have come and wait for their host's turn. Past it the bus keeps them.
const FRAMES_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Names of dead hosts that are remembered.
const DEAD_MAX: usize = 1_024;

/// What a frame is filled up to. A larger parcel has a frame of its own.
const FRAME_BYTES: usize = 60 * 1024;

/// What waits in front of a lane.
enum Waiting {
    /// A letter, by number.
    Letter(u64),
    /// A hint that a key has changed.
    Hint(Key),
}

/// One other host.
pub struct Peer {
    outgoing: Outgoing,
    /// Letters that an earlier link may have put on its lane: before all others, as the other host remembers only the last ids.
    again: VecDeque<u64>,
    /// In front of the lane, with a turn for each sender: a letter waits for those of others no longer than one of their turns and what
    /// is on the lane.
    queue: FairQueue<Waiting>,
    /// The keys of the hints in it.
    hints: HashSet<Key>,
    incoming: Incoming,
    /// A lane that was spoken of and is not known here.
    unknown: Option<u64>,
    /// Since when the directory does not name it among the living, in table milliseconds.
    unlisted_ms: Option<u64>,
    ids: Ids,
}

impl Peer {
    /// What goes on the lane next.
    fn next(&mut self) -> Option<Waiting> {
        let again = self.again.pop_front().map(Waiting::Letter);
        again.or_else(|| self.queue.pop())
    }
}

/// The ids of what came lately, as the table remembers them.
#[derive(Default)]
struct Ids {
    inbox: Option<Inbox>,
    /// Whether somebody it was for has it.
    known: HashMap<u64, bool>,
    order: VecDeque<u64>,
}

impl Ids {
    /// Adds one as the table has it: the lowest bit says whether somebody it was for has it.
    fn add(&mut self, noted: u64) {
        let id = noted & !1;
        if self.known.insert(id, noted & 1 != 0).is_some() {
            return;
        }
        self.order.push_back(id);
        if self.order.len() > INBOX_IDS
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

/// Every other host that was spoken with since it was last gone.
pub struct Peers {
    peers: HashMap<Rc<str>, Peer>,
    /// Hosts that are gone and have not come again.
    dead: HashSet<Rc<str>>,
    lanes: u64,
    /// Frames that have come and wait for their host's turn, and their bytes.
    frames: FairQueue<bus::Incoming>,
    frames_bytes: usize,
}

impl Peers {
    /// None yet, for the link that is number `life` of the segment `boot`.
    pub fn new(boot: u64, life: u64) -> Self {
        let mut hasher = SipHasher13::new();
        hasher.write_u64(boot);
        hasher.write_u64(life);
        Peers {
            // Any number tells the lanes of this link from those of others: of 64 bits, only what is counted from here is used.
            lanes: hasher.finish(),
            peers: HashMap::new(),
            dead: HashSet::new(),
            frames: FairQueue::default(),
            frames_bytes: 0,
        }
    }

    /// A number for a lane that no other lane has.
    fn next_lane(&mut self) -> u64 {
        // 0 is none.
        self.lanes = self.lanes.wrapping_add(1).max(1);
        self.lanes
    }

    /// True if a frame that comes may be taken in.
    pub fn takes_frames(&self) -> bool {
        self.frames_bytes < FRAMES_BYTES_MAX
    }

    /// Puts a frame into its host's place among the others.
    pub fn take_frame(&mut self, frame: bus::Incoming) {
        let mut hasher = SipHasher13::new();
        hasher.write(frame.from.as_bytes());
        let host = hasher.finish() as u16;
        let bytes = frame.payload.len();
        self.frames_bytes += bytes;
        let cost = u32::try_from(bytes).unwrap_or(u32::MAX).max(ITEM_COST);
        self.frames.push_from(host, frame, cost);
    }

    /// The next frame, one host's after another's.
    pub fn next_frame(&mut self) -> Option<bus::Incoming> {
        let frame = self.frames.pop()?;
        self.frames_bytes -= frame.payload.len();
        Some(frame)
    }

    /// When the next repetition is due.
    pub fn next_ms(&self) -> Option<u64> {
        let times = self.peers.values().filter_map(|p| p.outgoing.next_ms());
        times.min()
    }

    /// Everything unanswered is to be sent again: the bus may have lost it.
    pub fn repeat_all(&mut self) {
        for peer in self.peers.values_mut() {
            peer.outgoing.repeat();
        }
    }
}

impl Link<'_> {
    /// True for a host that was there and is not.
    pub fn is_known_dead(&self, host: &str) -> bool {
        self.peers.dead.contains(host) && !self.hosts.borrow().contains_key(host)
    }

    /// The record of a host, made if there is none and there is room for one more.
    fn peer(&mut self, host: &str) -> Option<&mut Peer> {
        if !self.peers.peers.contains_key(host) {
            if self.peers.peers.len() >= usize::from(self.settings.cluster.hosts) {
                return None;
            }
            let lane = self.peers.next_lane();
            let in_use = |name: &str| self.peers.peers.contains_key(name);
            let mut ids = Ids {
                inbox: self.hands.inbox(host, in_use),
                ..Ids::default()
            };
            if let Some(inbox) = ids.inbox {
                let mut remembered = Vec::new();
                self.hands.remembered(inbox, &mut remembered);
                for noted in remembered {
                    ids.add(noted);
                }
            }
            let peer = Peer {
                outgoing: Outgoing::new(lane),
                again: VecDeque::new(),
                queue: FairQueue::default(),
                hints: HashSet::new(),
                incoming: Incoming::default(),
                unknown: None,
                unlisted_ms: None,
                ids,
            };
            self.peers.dead.remove(host);
            self.peers.peers.insert(Rc::from(host), peer);
        }
        self.peers.peers.get_mut(host)
    }

    /// Puts a letter into the queue in front of the lane to a host; `again`: it may have been sent before. False: as many hosts are spoken
    /// with as may be.
    pub fn send(
        &mut self,
        host: &str,
        from: MailAccounts,
        number: u64,
        cost: u32,
        again: bool,
    ) -> bool {
        let Some(peer) = self.peer(host) else {
            tracing::warn!(host, "no room for a message to this host");
            return false;
        };
        match again {
            true => peer.again.push_back(number),
            false => peer.queue.push(from, Waiting::Letter(number), cost),
        }
        true
    }

    /// Hints a host that a key has changed; once, however often it changes before the hint is on its way.
    pub fn send_hint(&mut self, host: &str, key: &Key) {
        let peer = self.peer(host);
        let Some(peer) = peer.filter(|peer| peer.hints.len() < HINTS_MAX) else {
            tracing::warn!(host, "no room for a hint to this host");
            return;
        };
        if peer.hints.insert(key.clone()) {
            peer.queue.push_own(Waiting::Hint(key.clone()), ITEM_COST);
        }
    }

    /// Puts on the lanes what they have room for, a sender's after another's.
    fn fill_lanes(&mut self) {
        let names_max = self.settings.limits.presence_users.saturating_add(1);
        let mut too_large = Vec::new();
        let mut bytes = std::mem::take(&mut self.scratch);
        for (host, peer) in &mut self.peers.peers {
            while peer.outgoing.has_room()
                && let Some(waiting) = peer.next()
            {
                let number = match waiting {
                    Waiting::Letter(number) => number,
                    Waiting::Hint(key) => {
                        peer.hints.remove(&key);
                        peer.outgoing.push(0, parcel::changed(&key));
                        continue;
                    }
                };
                // One that was late is not there any more.
                let Some(letter) = self.letters.find(number) else {
                    continue;
                };
                bytes.clear();
                self.hands.read_mail(letter.mail, &mut bytes);
                let read = protocol::letter::read(&bytes);
                let parcel = read.map(|read| parcel::of_letter(&read, names_max));
                let parcel = parcel.filter(|parcel| parcel.len() <= self.parcel_bytes_max);
                let Some(parcel) = parcel else {
                    too_large.push(number);
                    continue;
                };
                self.hands.mark_sent(letter.mail);
                let place = Place::Lane(peer.outgoing.push(number, parcel));
                let here = letter.places.iter_mut().find(|(name, _)| name == host);
                if let Some((_, waits)) = here {
                    *waits = place;
                }
            }
        }
        self.scratch = bytes;
        for number in too_large {
            tracing::warn!("a message is too large for another host");
            self.answered(number, Outcome::Full);
        }
    }

    /// Forgets what waits in front of a lane and has been settled.
    pub fn tidy_lanes(&mut self) {
        let letters = &self.letters;
        for peer in self.peers.peers.values_mut() {
            if peer.queue.len() > letters.len() + peer.hints.len() {
                peer.queue.retain(|waiting| match waiting {
                    Waiting::Letter(number) => letters.contains(*number),
                    Waiting::Hint(_) => true,
                });
            }
        }
    }

    /// Takes back what a parcel says, if it is still under way.
    pub fn give_up(&mut self, host: &str, ticket: u64, place: u64) {
        if let Some(peer) = self.peers.peers.get_mut(host) {
            peer.outgoing.give_up(ticket, place);
        }
    }

    /// A host is gone: what was on its way there has nobody to come to.
    pub fn host_gone(&mut self, host: &str) {
        self.nothing_at(host);
        let Some((name, mut peer)) = self.peers.peers.remove_entry(host) else {
            return;
        };
        if self.peers.dead.len() >= DEAD_MAX {
            // They were only a hint: their entries are long removed.
            self.peers.dead.clear();
        }
        self.peers.dead.insert(name);
        let waiting = std::iter::from_fn(|| peer.next());
        let waiting = waiting.filter_map(|waiting| match waiting {
            Waiting::Letter(number) => Some(number),
            Waiting::Hint(_) => None,
        });
        let waiting: Vec<u64> = waiting.collect();
        for ticket in peer.outgoing.into_tickets().chain(waiting) {
            self.answered(ticket, Outcome::Nobody);
        }
    }

    /// Looks after hosts that the directory does not name: one that is not named for a lease is gone.
    pub fn watch_peers(&mut self) {
        let lease_ms = u64::from(self.settings.cluster.lease_ms);
        let hosts = self.hosts.borrow_and_update().clone();
        let mut gone = Vec::new();
        for (name, peer) in &mut self.peers.peers {
            if hosts.contains_key(&**name) || !self.directory_up {
                peer.unlisted_ms = None;
                continue;
            }
            let since = *peer.unlisted_ms.get_or_insert(self.now_ms);
            if self.now_ms > since + lease_ms {
                gone.push(Rc::clone(name));
            }
        }
        for host in gone {
            self.host_gone(&host);
        }
    }

    /// Takes in a frame from another host.
    pub fn receive(&mut self, from: &str, payload: Bytes) {
        if self.peer(from).is_none() {
            return;
        }
        for section in Reader(payload) {
            match section {
                Section::Data(data) => self.receive_data(from, &data),
                Section::Acknowledgement(acknowledgement) => {
                    let now_ms = self.now_ms;
                    let mut answered = std::mem::take(&mut self.answers);
                    let new_lane = self.peers.next_lane();
                    if let Some(peer) = self.peers.peers.get_mut(from) {
                        let outgoing = &mut peer.outgoing;
                        let each = |ticket, outcome| answered.push((ticket, outcome));
                        if outgoing
                            .acknowledged(acknowledgement, now_ms, each)
                            .is_err()
                        {
                            tracing::warn!(from, "a lane is begun anew: its answers do not fit");
                            outgoing.begin_anew(new_lane);
                        }
                    }
                    for (ticket, outcome) in answered.drain(..) {
                        self.answered(ticket, outcome);
                    }
                    self.answers = answered;
                }
                Section::Unknown { lane } => {
                    let new_lane = self.peers.next_lane();
                    if let Some(peer) = self.peers.peers.get_mut(from)
                        && peer.outgoing.is(lane)
                    {
                        peer.outgoing.begin_anew(new_lane);
                    }
                }
            }
        }
    }

    fn receive_data(&mut self, from: &str, data: &Data) {
        let Some(peer) = self.peers.peers.get_mut(from) else {
            return;
        };
        let skip = match peer.incoming.judge(data) {
            Judgement::Handle { skip } => skip,
            Judgement::Unknown => {
                peer.unknown = Some(data.lane);
                return;
            }
        };
        for bytes in data.parcels.get(skip..).unwrap_or_default() {
            let outcome = self.take_parcel(from, bytes);
            if let Some(peer) = self.peers.peers.get_mut(from) {
                peer.incoming.handled(outcome);
            }
        }
    }

    /// Does what another host asks.
    fn take_parcel(&mut self, from: &str, bytes: &[u8]) -> Outcome {
        let Some(parcel) = parcel::read(bytes) else {
            return Outcome::Nobody;
        };
        match parcel.kind {
            Kind::Void => Outcome::Nobody,
            Kind::User | Kind::Group | Kind::Everyone => {
                let known = |peer: &Peer| peer.ids.known.get(&(parcel.id & !1)).copied();
                if let Some(reached) = self.peers.peers.get(from).and_then(known) {
                    self.hands.count(Counter::Repeated, 1);
                    return if reached {
                        Outcome::Reached
                    } else {
                        Outcome::Nobody
                    };
                }
                let outcome = self.deliver(&parcel);
                if outcome != Outcome::Full {
                    let reached = outcome == Outcome::Reached;
                    self.remember(from, parcel.id & !1 | u64::from(reached));
                }
                outcome
            }
            Kind::Members => self.members(&parcel),
            Kind::UserChanged => {
                self.hinted(&Key::User(parcel.to.to_owned()));
                Outcome::Reached
            }
            Kind::GroupChanged => {
                self.hinted(&Key::Group(parcel.to.to_owned()));
                Outcome::Reached
            }
        }
    }

    /// Notes that a message is delivered. A death before this line has it delivered once more, with the same id; one
    /// that came first would have had it lost.
    fn remember(&mut self, from: &str, noted: u64) {
        if let Some(peer) = self.peers.peers.get_mut(from) {
            if let Some(inbox) = peer.ids.inbox {
                self.hands.remember(inbox, noted);
            }
            peer.ids.add(noted);
        }
    }

    /// Sends what is to be sent: answers first, then parcels, in as few frames as hold them. What the bus has no room for stays.
    pub fn flush(&mut self) {
        self.fill_lanes();
        let now_ms = self.now_ms;
        let mut frame = std::mem::take(&mut self.scratch);
        for (host, peer) in &mut self.peers.peers {
            peer.outgoing.settle_time(now_ms);
            loop {
                frame.clear();
                if let Some(lane) = peer.unknown {
                    write_unknown(&mut frame, lane);
                }
                if peer.incoming.is_due() {
                    write_acknowledgement(&mut frame, &peer.incoming);
                }
                let sent = peer.outgoing.position();
                peer.outgoing.write(&mut frame, FRAME_BYTES, now_ms);
                if frame.is_empty() {
                    break;
                }
                if self.bus.send(host, Bytes::copy_from_slice(&frame)).is_err() {
                    peer.outgoing.return_to(sent);
                    self.crowded = true;
                    break;
                }
                peer.unknown = None;
                peer.incoming.acknowledged();
                if !peer.outgoing.has_new() {
                    break;
                }
            }
        }
        self.scratch = frame;
    }
}
