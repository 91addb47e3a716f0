//! Who is in closed loops with whom, and how they answer.

use std::time::Duration;

use crate::client::Transport;
use crate::random::Random;

/// Who goes on when a message has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Whoever got it: a message answers a message.
    Conversation,
    /// Whoever sent it: the other one never writes.
    Reader,
}

/// Two members, and a number of messages between them that never changes.
#[derive(Clone, Debug)]
pub struct PairPlan {
    /// Who goes on.
    pub kind: Kind,
    /// Messages that the first and the second may have under way at the beginning. The second with 0 writes only answers.
    pub windows: [u32; 2],
    /// How each is connected.
    pub transports: [Transport; 2],
    /// Whether each message is to be acknowledged.
    pub acknowledged: bool,
    /// Characters of a message.
    pub length: usize,
}

/// When a member writes what it may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As soon as it may, after a time to think that ends when all are to hurry.
    Each,
    /// All at once when everything has arrived everywhere: nothing that sleeps is woken by somebody else.
    Volleys,
    /// Each once, at once, every time the gate is opened ([`super::Loops::volley`]).
    Once,
}

/// All loops of a server.
#[derive(Clone, Debug)]
pub struct LoopsPlan {
    /// The pairs.
    pub pairs: Vec<PairPlan>,
    /// When members write.
    pub pace: Pace,
    /// The longest time to think.
    pub think: Duration,
    /// Whether everybody is in one group, and a message to it goes out with each volley: it marks every session at one moment.
    pub choir: bool,
}

impl LoopsPlan {
    /// So many pairs, each with so many messages under way each way, all of one kind.
    pub fn even(pairs: usize, window: u32, pace: Pace, think: Duration) -> LoopsPlan {
        let pair = |number| PairPlan {
            kind: Kind::Conversation,
            windows: [window; 2],
            transports: transports(number),
            acknowledged: false,
            length: 40,
        };
        LoopsPlan {
            pairs: (0..pairs).map(pair).collect(),
            pace,
            think,
            choir: false,
        }
    }

    /// Pairs of all kinds, with 1 to `most` messages under way from the first and 0 to so many from the second.
    pub fn varied(
        pairs: usize,
        most: usize,
        pace: Pace,
        think: Duration,
        random: &mut Random,
    ) -> LoopsPlan {
        let mut pair = |number| {
            let first = 1 + random.below(most) as u32;
            let kind = match random.below(5) {
                0 => Kind::Reader,
                _ => Kind::Conversation,
            };
            // Half of the second ones speak only when spoken to.
            let second = match random.below(2) {
                0 if kind == Kind::Conversation => 1 + random.below(most) as u32,
                _ => 0,
            };
            PairPlan {
                kind,
                windows: [first, second],
                transports: transports(number),
                acknowledged: random.one_in(4),
                length: match random.below(20) {
                    0 => 3_000,
                    _ => random.below(200),
                },
            }
        };
        LoopsPlan {
            pairs: (0..pairs).map(&mut pair).collect(),
            pace,
            think,
            choir: random.one_in(2),
        }
    }

    /// Messages that are under way or may be written, all together: this never changes.
    pub fn messages(&self) -> usize {
        let windows = self.pairs.iter().flat_map(|pair| pair.windows);
        windows.map(|window| window as usize).sum::<usize>() + usize::from(self.choir)
    }
}

/// Each pair is one of the four combinations.
fn transports(number: usize) -> [Transport; 2] {
    use Transport::{Tcp, WebSocket};
    match number % 4 {
        0 => [WebSocket, WebSocket],
        1 => [Tcp, Tcp],
        2 => [WebSocket, Tcp],
        _ => [Tcp, WebSocket],
    }
}
