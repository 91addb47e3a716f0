//! Two ends and a bus between them that loses, repeats and delays.

use std::collections::VecDeque;

use bytes::Bytes;

use super::outgoing::Broken;
use super::*;
use crate::parcel;

/// A small generator (xorshift64), so that a failure can be repeated by its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

struct Pair {
    sender: Outgoing,
    receiver: Incoming,
    there: VecDeque<Bytes>,
    back: VecDeque<Bytes>,
    heard: Vec<u64>,
    answered: Vec<u64>,
    now_ms: u64,
    lanes: u64,
    /// What the receiver's table would remember.
    ids: Vec<u64>,
}

impl Pair {
    fn new() -> Self {
        Pair {
            sender: Outgoing::new(1),
            receiver: Incoming::default(),
            there: VecDeque::new(),
            back: VecDeque::new(),
            heard: Vec::new(),
            answered: Vec::new(),
            now_ms: 1,
            lanes: 1,
            ids: Vec::new(),
        }
    }

    fn send(&mut self, ticket: u64) {
        let bytes = Bytes::copy_from_slice(&ticket.to_le_bytes());
        self.sender.push(ticket, bytes);
    }

    fn write(&mut self) {
        self.sender.settle_time(self.now_ms);
        loop {
            let mut frame = Vec::new();
            if !self.sender.write(&mut frame, 100, self.now_ms) {
                break;
            }
            self.there.push_back(frame.into());
        }
    }

    fn receive(&mut self, frame: Bytes) {
        for section in Reader(frame) {
            let Section::Data(data) = section else {
                panic!("{section:?}")
            };
            let mut answer = Vec::new();
            match self.receiver.judge(&data) {
                Judgement::Unknown => write_unknown(&mut answer, data.lane),
                Judgement::Handle { skip } => {
                    for parcel in &data.parcels[skip..] {
                        let ticket = u64::from_le_bytes(parcel[..].try_into().unwrap());
                        if !self.ids.contains(&ticket) {
                            self.heard.push(ticket);
                            self.ids.push(ticket);
                        }
                        let outcome = match ticket % 3 {
                            0 => Outcome::Nobody,
                            1 => Outcome::Reached,
                            _ => Outcome::Answer(parcel.clone()),
                        };
                        self.receiver.handled(outcome);
                    }
                    write_acknowledgement(&mut answer, &self.receiver);
                    self.receiver.acknowledged();
                }
            }
            self.back.push_back(answer.into());
        }
    }

    fn hear(&mut self, frame: Bytes) {
        for section in Reader(frame) {
            match section {
                Section::Acknowledgement(acknowledgement) => {
                    let answered = &mut self.answered;
                    let each = |ticket: u64, outcome| {
                        assert_eq!(outcome == Outcome::Nobody, ticket.is_multiple_of(3));
                        answered.push(ticket);
                    };
                    let result = self.sender.acknowledged(acknowledgement, self.now_ms, each);
                    if result == Err(Broken) {
                        self.lanes += 1;
                        self.sender.begin_anew(self.lanes);
                    }
                }
                Section::Unknown { lane } if self.sender.is(lane) => {
                    self.lanes += 1;
                    self.sender.begin_anew(self.lanes);
                }
                Section::Unknown { .. } => {}
                Section::Data(data) => panic!("{data:?}"),
            }
        }
    }
}

#[test]
fn everything_arrives_once_and_in_order_whatever_the_bus_does() {
    for seed in 1..200 {
        let mut random = Random(u64::wrapping_mul(seed, 0x9e37_79b9_7f4a_7c15));
        let mut pair = Pair::new();
        let mut sent = 0;
        let mut steps = 0;
        while pair.answered.len() < 500 {
            steps += 1;
            assert!(steps < 200_000, "seed {seed} does not end");
            pair.now_ms += random.below(30);
            match random.below(10) {
                0..3 if sent < 500 => {
                    sent += 1;
                    pair.send(sent);
                }
                0..4 => pair.write(),
                4..7 => {
                    if let Some(frame) = pair.there.pop_front() {
                        match random.below(12) {
                            0 => {}
                            1 => {
                                pair.receive(frame.clone());
                                pair.there.push_back(frame);
                            }
                            _ => pair.receive(frame),
                        }
                    }
                }
                7..9 => {
                    if let Some(frame) = pair.back.pop_front()
                        && random.below(12) != 0
                    {
                        pair.hear(frame);
                    }
                }
                _ if random.below(40) == 0 => pair.receiver = Incoming::default(),
                _ => {}
            }
        }
        let all: Vec<u64> = (1..=500).collect();
        assert_eq!(pair.heard, all, "seed {seed}");
        assert_eq!(pair.answered, all, "seed {seed}");
    }
}

#[test]
fn no_more_than_the_window_is_under_way() {
    let mut pair = Pair::new();
    for ticket in 0..3 * WINDOW as u64 {
        pair.send(ticket);
    }
    pair.write();
    let under_way: usize = pair
        .there
        .drain(..)
        .flat_map(Reader)
        .map(|section| match section {
            Section::Data(data) => data.parcels.len(),
            other => panic!("{other:?}"),
        })
        .sum();
    assert_eq!(under_way, WINDOW);
}

#[test]
fn what_was_given_up_keeps_its_number_and_says_nothing() {
    let mut sender = Outgoing::new(1);
    let first = sender.push(7, Bytes::from_static(b"first"));
    sender.push(8, Bytes::from_static(b"second"));
    sender.give_up(8, first);
    sender.give_up(7, first);
    let mut frame = Vec::new();
    assert!(sender.write(&mut frame, 1000, 0));
    let Some(Section::Data(data)) = Reader(frame.into()).next() else {
        panic!("no data")
    };
    assert_eq!(
        data.parcels,
        [parcel::void(), Bytes::from_static(b"second")]
    );
    let mut answered = Vec::new();
    let both = acknowledgement(1, 2, 0, vec![Outcome::Nobody, Outcome::Reached]);
    let each = |ticket, _| answered.push(ticket);
    sender.acknowledged(both, 0, each).unwrap();
    assert_eq!(answered, [0, 8]);
    sender.give_up(7, first);
}

#[test]
fn answers_to_what_was_not_sent_break_the_lane() {
    let mut sender = Outgoing::new(5);
    sender.push(1, Bytes::from_static(b"x"));
    let never = |_, _| panic!("nothing was answered");
    let too_many = acknowledgement(5, 2, 0, vec![Outcome::Reached; 2]);
    assert_eq!(sender.acknowledged(too_many, 0, never), Err(Broken));
    let too_late = acknowledgement(5, 1, 1, vec![]);
    assert_eq!(sender.acknowledged(too_late, 0, never), Err(Broken));
    let of_another = acknowledgement(4, 9, 0, vec![]);
    assert_eq!(sender.acknowledged(of_another, 0, never), Ok(()));
}

fn acknowledgement(lane: u64, next: u64, first: u64, outcomes: Vec<Outcome>) -> Acknowledgement {
    Acknowledgement {
        lane,
        next,
        first,
        gap: false,
        outcomes,
    }
}

#[test]
fn broken_payloads_end_and_nothing_more() {
    let mut random = Random(42);
    let mut frame = Vec::new();
    let mut sender = Outgoing::new(1);
    for ticket in 0..3 {
        sender.push(ticket, Bytes::from_static(b"parcel"));
    }
    assert!(sender.write(&mut frame, 1000, 0));
    write_unknown(&mut frame, 3);
    for _ in 0..20_000 {
        let mut broken = frame.clone();
        for _ in 0..=random.below(3) {
            let at = random.below(broken.len() as u64) as usize;
            broken[at] = random.below(256) as u8;
        }
        broken.truncate(random.below(broken.len() as u64 + 1) as usize);
        assert!(Reader(broken.into()).count() <= 100);
    }
}
