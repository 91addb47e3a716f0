//! Messages cut into pieces at random places, messages with random changes, and no messages at all.

use bytes::{Bytes, BytesMut};

use super::{
    decoder::Decoder,
    message::{Kind, hosts, hosts_body, put},
};
use crate::envelope::route;

/// Numbers that are the same in every run (xorshift).
struct Dice(u64);

impl Dice {
    fn throw(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.throw() % end as u64).unwrap()
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        let length = self.below(most);
        (0..length).map(|_| self.throw() as u8).collect()
    }
}

const KINDS: [Kind; 6] = [
    Kind::Hello,
    Kind::Proof,
    Kind::Refused,
    Kind::Alive,
    Kind::Frame,
    Kind::Hosts,
];

fn some_messages(dice: &mut Dice) -> (BytesMut, Vec<(Kind, Bytes)>) {
    let (mut all, mut messages) = (BytesMut::new(), Vec::new());
    for _ in 0..dice.below(20) {
        let kind = KINDS[dice.below(KINDS.len())];
        let most = if dice.below(10) == 0 { 200_000 } else { 300 };
        let body = dice.bytes(most);
        put(&mut all, kind, &body);
        messages.push((kind, body.into()));
    }
    (all, messages)
}

/// What comes out when the bytes arrive in pieces; `Err`: what came out until they were refused.
fn decode(
    dice: &mut Dice,
    mut bytes: &[u8],
    decoder: &mut Decoder,
) -> Result<Vec<(Kind, Bytes)>, usize> {
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        let (piece, rest) = bytes.split_at(1 + dice.below(bytes.len().min(70_000)));
        bytes = rest;
        let room = decoder.room();
        room.extend_from_slice(piece);
        loop {
            match decoder.next() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(_) => return Err(messages.len()),
            }
        }
    }
    Ok(messages)
}

#[test]
fn messages_arrive_whole_however_they_are_cut() {
    let mut dice = Dice(0x5eed);
    for _ in 0..300 {
        let (bytes, messages) = some_messages(&mut dice);
        let mut decoder = Decoder::stranger();
        decoder.trust();
        assert_eq!(decode(&mut dice, &bytes, &mut decoder), Ok(messages));
    }
}

#[test]
fn no_bytes_make_it_panic_or_take_what_it_was_not_given() {
    let mut dice = Dice(0xbad);
    for round in 0..3000 {
        let mut bytes = if round % 2 == 0 {
            some_messages(&mut dice).0.to_vec()
        } else {
            dice.bytes(3000)
        };
        for _ in 0..dice.below(8) {
            if !bytes.is_empty() {
                let at = dice.below(bytes.len());
                bytes[at] = dice.throw() as u8;
            }
        }
        let mut decoder = Decoder::stranger();
        if round % 3 == 0 {
            decoder.trust();
        }
        if let Ok(messages) = decode(&mut dice, &bytes, &mut decoder) {
            assert!(
                messages
                    .iter()
                    .map(|(_, body)| body.len() + 5)
                    .sum::<usize>()
                    <= bytes.len()
            );
            for (_, body) in messages {
                let _ = (hosts(&body), route(&body));
            }
        }
        let _ = (hosts(&bytes), route(&bytes));
    }
}

#[test]
fn a_stranger_gets_no_room_for_what_it_announces() {
    let mut decoder = Decoder::stranger();
    decoder
        .room()
        .extend_from_slice(&[0, 0x10, 0, 0, Kind::Frame as u8]);
    assert!(decoder.next().is_err());
    let mut friend = Decoder::stranger();
    friend.trust();
    friend
        .room()
        .extend_from_slice(&[4, 0, 0, 0, Kind::Frame as u8]);
    assert!(matches!(friend.next(), Ok(None)));
    assert!(
        friend.room().capacity() < 1 << 20,
        "room is made for what has not come"
    );
    let mut liar = Decoder::stranger();
    liar.trust();
    liar.room()
        .extend_from_slice(&[0xff, 0xff, 0xff, 0xff, Kind::Frame as u8]);
    assert!(liar.next().is_err());
}

#[test]
fn names_are_read_as_they_were_written() {
    let names = ["a", "", "host.of-a_long_name"];
    assert_eq!(hosts(&hosts_body(names.into_iter())).unwrap(), names);
    assert_eq!(hosts(b"\x05abc"), None);
    assert_eq!(hosts(b"\x01\xff"), None);
}
