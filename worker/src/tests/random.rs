//! Everything at once, by chance: clients of both kinds come, talk, break off, do not read, are given
//! orders, all with small limits. Nothing panics, nothing is torn, nothing stays behind.

use config::SameUser;
use shm_table::{Order, Transport};

use super::frames::{REQUEST, frame};
use super::house::{Client, House, settings, table_with_arena};

/// Xorshift: the same seed gives the same story.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % end
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

struct Person {
    client: Client,
    transport: Transport,
    /// Input that is still to be sent.
    todo: Vec<u8>,
    heard: Vec<u8>,
}

impl Person {
    fn arrive(house: &mut House<'_>, chance: &mut Chance) -> Person {
        let transport = chance.one(&[Transport::Tcp, Transport::WebSocket]);
        let client = house.connect(chance.below(2), transport);
        let todo = match transport {
            Transport::Tcp => Vec::new(),
            Transport::WebSocket => REQUEST.as_bytes().to_vec(),
        };
        Person {
            client,
            transport,
            todo,
            heard: Vec::new(),
        }
    }

    fn think(&mut self, chance: &mut Chance) {
        let name = chance.one(&["ada", "bob", "eve"]);
        let group = chance.one(&["g", "h"]);
        let content = "x".repeat(chance.one(&[1, 100, 1_000, 3_500]));
        let text = match chance.below(14) {
            0..3 => format!(r#"{{"type":"login","userName":"{name}","deviceId":"{group}"}}"#),
            3..6 => format!(r#"{{"type":"sendto","to":"{name}","content":"{content}"}}"#),
            6 => format!(r#"{{"type":"sendto","to":"{name}","content":"{content}","id":1}}"#),
            7 => format!(r#"{{"type":"join","group":"{group}"}}"#),
            8 => format!(r#"{{"type":"sendgroup","to":"{group}","content":"{content}"}}"#),
            9 => format!(r#"{{"type":"leave","group":"{group}"}}"#),
            10 => format!(r#"{{"type":"who","group":"{group}"}}"#),
            11 => format!(r#"{{"type":"broadcast","content":"{content}"}}"#),
            12 => "{broken".to_owned(),
            _ => chance
                .one(&[r#"{"type":"ping"}"#, r#"{"type":"logout"}"#])
                .to_owned(),
        };
        if self.transport == Transport::Tcp {
            self.todo.extend(text.as_bytes());
            self.todo.push(b'\n');
            return;
        }
        let half = text.len() / 2;
        match chance.below(12) {
            0 => self.todo.extend(frame(0x89, b"ping")),
            1 => self.todo.extend(frame(0x88, b"\x03\xe8")),
            2 => self.todo.extend([0x81, 0]),
            3 => {
                self.todo.extend(frame(1, &text.as_bytes()[..half]));
                self.todo.extend(frame(0x89, b"between"));
                self.todo.extend(frame(0x80, &text.as_bytes()[half..]));
            }
            _ => self.todo.extend(frame(0x81, text.as_bytes())),
        }
    }

    fn send(&mut self, chance: &mut Chance) {
        let some = 1 + chance.below(self.todo.len().max(1));
        let sent = self
            .client
            .try_send(&self.todo[..some.min(self.todo.len())]);
        self.todo.drain(..sent);
    }

    /// What was heard is whole lines, or whole frames behind a whole head, but for the end.
    fn check(&mut self) {
        self.heard.extend(self.client.bytes());
        if self.transport == Transport::Tcp {
            let end = self
                .heard
                .iter()
                .rposition(|byte| *byte == b'\n')
                .map_or(0, |at| at + 1);
            for line in self.heard[..end].split_inclusive(|byte| *byte == b'\n') {
                assert!(line.starts_with(b"{\"type\":") && line.ends_with(b"}\n"));
            }
            self.heard.drain(..end);
            return;
        }
        if self.heard.starts_with(b"HTTP") {
            let Some(end) = self.heard.windows(4).position(|it| it == b"\r\n\r\n") else {
                return;
            };
            if !self.heard.starts_with(b"HTTP/1.1 101 ") {
                return;
            }
            self.heard.drain(..end + 4);
        }
        loop {
            let (header, len) = match self.heard[..] {
                [_, len @ 0..126, ..] => (2, usize::from(len)),
                [_, 126, high, low, ..] => (4, usize::from(u16::from_be_bytes([high, low]))),
                _ => return,
            };
            let first = self.heard[0];
            assert!(matches!(first, 0x81 | 0x88 | 0x8a), "{first:#x}");
            let Some(payload) = self.heard.get(header..header + len) else {
                return;
            };
            if first == 0x81 {
                assert!(payload.starts_with(b"{\"type\":") && payload.ends_with(b"}"));
            }
            self.heard.drain(..header + len);
        }
    }
}

fn story(seed: u64, arena_bytes: u64) {
    let chance = &mut Chance(seed);
    let mut settings = settings();
    settings.limits.message_bytes = 4_000;
    settings.limits.outbox_bytes = 20_000;
    settings.limits.groups_per_session = 1;
    settings.limits.sessions_per_user = 5;
    settings.limits.same_user =
        chance.one(&[SameUser::Many, SameUser::OnePerDevice, SameUser::One]);
    settings.auth.admins = vec!["ada".into()];
    let table = table_with_arena(12, arena_bytes);
    let mut house = House::new(&table, &settings);
    let mut people: Vec<Person> = Vec::new();
    for _ in 0..1_500 {
        if people.len() < 10 && chance.below(4) == 0 && house.seats.seated() < 12 {
            people.push(Person::arrive(&mut house, chance));
        }
        if people.is_empty() {
            continue;
        }
        let who = chance.below(people.len());
        let person = &mut people[who];
        match chance.below(40) {
            0..12 => person.think(chance),
            12..30 => person.send(chance),
            30..35 => person.check(),
            35 => {
                people.swap_remove(who);
            }
            36 => {
                let order = chance.one(&[
                    Order::DEADLINE,
                    Order::REPLACED,
                    Order::SLOW,
                    Order::KICKED,
                    Order::SHUTDOWN,
                ]);
                let handle = person.client.handle;
                let worker = chance.below(2);
                house.works[worker].hands.order(handle, order);
            }
            _ => house.settle(),
        }
    }
    house.settle();
    for person in &mut people {
        person.check();
    }
    assert_eq!(table.audit(), Vec::<String>::new(), "seed {seed}");
    drop(people);
    house.assert_empty();
}

#[test]
fn any_story_ends_well() {
    for seed in 1..=40 {
        story(seed, 4 << 20);
    }
}

#[test]
fn even_where_there_is_hardly_any_room() {
    for seed in 100..=140 {
        story(seed, 32 << 10);
    }
}
