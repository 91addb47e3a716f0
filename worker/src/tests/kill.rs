//! A worker dies after each of its stores to the segment and each of its system calls, in every turn of a story; a successor
//! takes over, and the clients must hear what they would have heard: everything once and in order, but for the message
//! in progress, of which they may hear again, with the same id.

use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;
use shm_table::{Order, Transport, kill_point};

use super::frames::{CLOSE, FINAL, PING, REQUEST, TEXT, frame, frames, text};
use super::house::{Client, House, settings, table_with_arena};
use handover::After;

mod handover;

const VICTIM: usize = 0;
const SURVIVOR: usize = 1;

/// Something that happens, after which the victim has a turn.
enum Step {
    /// A client of the victim comes.
    Arrive(usize, Transport),
    /// A client sends bytes.
    Send(usize, Vec<u8>),
    /// Bytes come in which a proxy says that this is the client's address.
    Named(usize, Vec<u8>, &'static str),
    /// The survivor orders something of the victim's client.
    Order(usize, Order),
    /// A client of the victim ends its direction.
    End(usize),
}

/// The people of the story: two of the victim's on each transport, one of the survivor's.
const PEOPLE: usize = 5;
const ADA: usize = 0;
const GRACE: usize = 1;
const EVE: usize = 2;
const JOAN: usize = 3;
const BOB: usize = 4;

fn line(text: &str) -> Vec<u8> {
    format!("{text}\n").into_bytes()
}

/// Cuts bytes in two.
fn halves(bytes: &[u8], at: usize) -> [Vec<u8>; 2] {
    let (one, two) = bytes.split_at(at);
    [one.to_vec(), two.to_vec()]
}

fn story() -> Vec<Step> {
    use Step::{Arrive, End, Named, Order, Send};
    let long = "x".repeat(1500);
    let request = REQUEST.replace("\r\n\r\n", "\r\nX-Forwarded-For: 198.51.100.3\r\n\r\n");
    let [head, tail] = halves(request.as_bytes(), request.len() / 2);
    // The proxy's own connection, by version 2.
    let head = [b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", &head[..]].concat();
    let [start, login] = halves(
        b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 80\r\n\
          {\"type\":\"login\",\"userName\":\"ada\",\"deviceId\":\"d\",\"deviceModel\":\"m\"}\n",
        20,
    );
    let mut half_frame = text(r#"{"type":"sendto","to":"ada","content":"in two reads","id":3}"#);
    let rest_of_frame = half_frame.split_off(20);
    let mut half_line =
        line(r#"{"type":"sendto","to":"grace","content":"a line in two reads","id":4}"#);
    let rest_of_line = half_line.split_off(30);
    let two_lines = [
        line(r#"{"type":"sendto","to":"grace","content":"first of two","id":5}"#),
        line(r#"{"type":"sendto","to":"bob","content":"second of two","id":6}"#),
    ]
    .concat();
    let fragmented = format!(r#"{{"type":"sendgroup","to":"all","content":"{long}","id":7}}"#);
    let fragmented = fragmented.as_bytes();
    let pieces = [
        frame(TEXT, &fragmented[..400]),
        frame(0, &fragmented[400..900]),
        frame(FINAL, &fragmented[900..]),
    ];
    let mut steps = vec![
        Arrive(ADA, Transport::Tcp),
        Send(ADA, start),
        Named(ADA, login, "192.0.2.7:4711"),
        Arrive(GRACE, Transport::WebSocket),
        Send(GRACE, head),
        Named(GRACE, tail, "198.51.100.3:0"),
        Send(GRACE, text(r#"{"type":"login","userName":"grace"}"#)),
        Send(ADA, line(r#"{"type":"join","group":"all"}"#)),
        Send(GRACE, text(r#"{"type":"join","group":"all"}"#)),
        Send(
            ADA,
            line(r#"{"type":"sendto","to":"grace","content":"hello","id":1}"#),
        ),
        Send(
            GRACE,
            text(r#"{"type":"sendto","to":"bob","content":"to the other worker","id":2}"#),
        ),
        Send(GRACE, half_frame),
        Send(GRACE, rest_of_frame),
        Send(ADA, half_line),
        Send(ADA, rest_of_line),
        Send(ADA, two_lines),
    ];
    steps.extend(pieces.into_iter().map(|piece| Send(GRACE, piece)));
    steps.extend([
        Send(
            BOB,
            line(r#"{"type":"sendgroup","to":"all","content":"from outside","id":8}"#),
        ),
        Send(
            ADA,
            line(&format!(
                r#"{{"type":"sendto","to":"grace","content":"{long}","id":9}}"#
            )),
        ),
        Send(ADA, line(r#"{"type":"leave","group":"all"}"#)),
        Send(GRACE, frame(FINAL | PING, b"are you there?")),
        Send(GRACE, text(r#"{"type":"nonsense","id":10}"#)),
        Send(
            ADA,
            line(r#"{"type":"who","users":["ada","grace","bob"],"id":11}"#),
        ),
        Arrive(EVE, Transport::WebSocket),
        Send(EVE, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        Arrive(JOAN, Transport::Tcp),
        Named(
            JOAN,
            b"PROXY TCP6 2001:db8::7 ::1 4711 80\r\n".to_vec(),
            "[2001:db8::7]:4711",
        ),
        Send(JOAN, line(r#"{"type":"login","userName":"joan"}"#)),
        Order(JOAN, shm_table::Order::KICKED),
        End(JOAN),
        Send(ADA, line(r#"{"type":"logout"}"#)),
        End(ADA),
        Send(GRACE, frame(FINAL | CLOSE, &[0x03, 0xE8])),
    ]);
    steps
}

struct World<'t> {
    house: House<'t>,
    /// Who serves those of the victim.
    server: usize,
    /// The death while taking over took place.
    died_again: bool,
    people: Vec<Option<Client>>,
    heard: Vec<Vec<u8>>,
}

impl<'t> World<'t> {
    fn new(table: &'t shm_table::Table) -> Self {
        let mut settings = settings();
        settings.limits.outbox_bytes = 1 << 16;
        settings.server.proxies = vec!["127.0.0.0/8".parse().unwrap()];
        let mut house = House::new(table, &settings);
        // So that what goes to two is a fan-out.
        house.set_at_once(1);
        // Over the network, so that a successor of the survivor can take it over too.
        let mut bob = house.dial(SURVIVOR, Transport::Tcp);
        house.hand_over_dialled(SURVIVOR, bob.handle);
        bob.say(r#"{"type":"login","userName":"bob"}"#);
        house.settle();
        assert_eq!(bob.lines().len(), 2);
        let mut people: Vec<Option<Client>> = (0..PEOPLE).map(|_| None).collect();
        people[BOB] = Some(bob);
        let mut world = World {
            house,
            server: VICTIM,
            died_again: false,
            people,
            heard: vec![Vec::new(); PEOPLE],
        };
        world.client(BOB).say(r#"{"type":"join","group":"all"}"#);
        world.house.settle();
        world
    }

    fn client(&mut self, person: usize) -> &mut Client {
        self.people[person].as_mut().expect("not come yet")
    }

    /// What the outside does, and then the victim's turn, in which it dies after so many stores and calls; true if it
    /// did.
    fn step(&mut self, step: &Step, dies_after: Option<u64>, then: After) -> bool {
        let server = self.server;
        match step {
            Step::Arrive(person, transport) => {
                self.people[*person] = Some(self.house.dial(server, *transport));
            }
            Step::Send(person, bytes) | Step::Named(person, bytes, _) => {
                self.client(*person).send(bytes);
            }
            Step::Order(person, order) => {
                let row = self.client(*person).handle;
                self.house.works[SURVIVOR].hands.order(row, *order);
            }
            Step::End(person) => self.client(*person).end(),
        }
        if matches!(step, Step::Send(BOB, _)) {
            self.house.turn(SURVIVOR);
        }
        if let Some(after) = dies_after {
            kill_point::arm(after);
        }
        let house = &mut self.house;
        let people = &self.people;
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            if let Step::Arrive(person, _) = step {
                let row = people[*person].as_ref().map(|client| client.handle);
                house.hand_over_dialled(server, row.expect("came"));
            }
            house.turn(server);
            house.turn(server);
        }));
        let killed = kill_point::revive();
        if let Err(payload) = outcome {
            assert!(killed && payload.is::<kill_point::Killed>(), "it panicked");
        }
        if killed {
            self.go_on(then);
        }
        self.house.settle();
        self.house.assert_exact();
        if let Step::Named(person, _, peer) = step
            && !self.is_poisoned()
        {
            let handle = self.client(*person).handle;
            let victim = &self.house.works[self.server];
            let peer: std::net::SocketAddr = peer.parse().unwrap();
            assert_eq!(victim.hands.peer(handle), Some(peer));
            let told = victim
                .clients
                .iter()
                .rev()
                .find(|(seat, _)| seat.row == handle.row);
            assert_eq!(told.map(|(_, address)| *address), Some(peer.ip()));
        }
        for (heard, client) in self.heard.iter_mut().zip(&mut self.people) {
            if let Some(client) = client {
                heard.extend(client.bytes());
            }
        }
        killed
    }

    /// Everybody goes, and nothing may be left.
    fn end(mut self) -> Vec<Vec<String>> {
        for (person, client) in self.people.iter_mut().enumerate() {
            if let Some(client) = client
                && person != BOB
            {
                client.end();
            }
        }
        self.client(BOB).end();
        self.house.settle();
        self.people.clear();
        self.house.assert_empty();
        let mut transcripts = Vec::new();
        for (person, heard) in self.heard.iter().enumerate() {
            transcripts.push(match person {
                GRACE | EVE => websocket_transcript(heard),
                _ => heard
                    .split_inclusive(|&byte| byte == b'\n')
                    .map(|line| {
                        assert!(line.ends_with(b"\n"), "half a line at the end");
                        normal(line)
                    })
                    .collect(),
            });
        }
        transcripts
    }
}

/// A message without what differs from run to run: the time, and the part of ids that the table's start decides.
fn normal(message: &[u8]) -> String {
    let mut message: Value = serde_json::from_slice(message)
        .unwrap_or_else(|error| panic!("{error} in {:?}", String::from_utf8_lossy(message)));
    if let Some(fields) = message.as_object_mut() {
        fields.retain(|name, _| !["time", "session", "users"].contains(&name.as_str()));
        for name in ["id", "messageId"] {
            if let Some(id) = fields.get(name).and_then(Value::as_str) {
                let ordinal = id.rsplit('.').next().unwrap_or_default().to_owned();
                fields.insert(name.to_owned(), ordinal.into());
            }
        }
    }
    message.to_string().replace(&"x".repeat(100), "")
}

/// The head of the answer, then each frame; nothing else, and nothing cut off.
fn websocket_transcript(heard: &[u8]) -> Vec<String> {
    let end = heard
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .map_or(heard.len(), |at| at + 4);
    let (head, rest) = heard.split_at(end);
    let mut transcript = vec![String::from_utf8_lossy(head).into_owned()];
    if !head.starts_with(b"HTTP/1.1 101") {
        transcript.push(String::from_utf8_lossy(rest).into_owned());
        return transcript;
    }
    for (opcode, payload) in frames(rest) {
        transcript.push(match opcode {
            TEXT => normal(&payload),
            opcode => format!("{opcode} {}", payload.escape_ascii()),
        });
    }
    transcript
}

/// Each once, in the order of their first coming.
fn once(transcript: &[String]) -> Vec<String> {
    let mut seen: Vec<String> = Vec::new();
    for message in transcript {
        if !seen.contains(message) {
            seen.push(message.clone());
        }
    }
    seen
}

/// A death in a step after so many stores and calls.
type Death = (usize, u64, After);

/// What everybody heard, and how many deaths there were. Where two deaths running over one message have cost its sender's session, as they
/// are to, the story ends there and what was heard is not told.
fn tell(steps: &[Step], dies: Option<Death>) -> (Vec<Vec<String>>, usize) {
    let table = table_with_arena(8, 1 << 18);
    let mut world = World::new(&table);
    let mut killed = false;
    for (number, step) in steps.iter().enumerate() {
        let death = dies.filter(|(at, ..)| *at == number);
        let (after, then) = match death {
            Some((_, after, then)) => (Some(after), then),
            None => (None, After::Successor),
        };
        killed |= world.step(step, after, then);
        if world.died_again && world.is_poisoned() {
            world.end();
            return (Vec::new(), 2);
        }
    }
    let deaths = usize::from(killed) + usize::from(world.died_again);
    (world.end(), deaths)
}

/// Dies in every step, as `die_in` says; returns how many deaths those were.
fn die_everywhere(die_in: impl Fn(&[Step], usize, &[Vec<String>]) -> u64 + Sync) -> u64 {
    let steps = story();
    let (expected, _) = tell(&steps, None);
    let expected: Vec<Vec<String>> = expected.iter().map(|heard| once(heard)).collect();
    assert!(expected[GRACE].len() > 10 && expected[ADA].len() > 10);
    // Each thread takes the next step whose deaths nobody looks after yet.
    let next = AtomicUsize::new(0);
    let (steps, expected, die_in) = (&steps, &expected, &die_in);
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let deaths: u64 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let mut deaths = 0;
                    loop {
                        let at = next.fetch_add(1, Ordering::Relaxed);
                        if at >= steps.len() {
                            return deaths;
                        }
                        deaths += die_in(steps, at, expected);
                    }
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    });
    println!("{deaths} deaths in {} turns", steps.len());
    deaths
}

#[test]
fn wherever_it_dies_its_clients_hear_everything() {
    let deaths =
        die_everywhere(|steps, at, expected| die_in(steps, at, After::Successor, expected));
    assert!(deaths > 1000);
}

/// Dies after every store and call of one step; returns how many those were.
fn die_in(steps: &[Step], at: usize, then: After, expected: &[Vec<String>]) -> u64 {
    for after in 1.. {
        if !dies_unnoticed(steps, (at, after, then), 1, expected) {
            return after - 1;
        }
    }
    unreachable!()
}

/// Whether there were so many deaths; nobody may have noticed.
fn dies_unnoticed(steps: &[Step], death: Death, deaths: usize, expected: &[Vec<String>]) -> bool {
    let (heard, died) = tell(steps, Some(death));
    let (at, after, _) = death;
    for (person, (heard, expected)) in heard.iter().zip(expected).enumerate() {
        assert_eq!(
            &once(heard),
            expected,
            "person {person}, killed in step {at} after {after}"
        );
        let again = heard.len() - expected.len();
        assert!(
            again <= 2 * deaths,
            "person {person} heard {again} twice, killed in step {at} after {after}: {heard:#?}"
        );
    }
    died == deaths
}

#[test]
fn a_reload_at_any_step_is_not_noticed() {
    let steps = story();
    let (expected, _) = tell(&steps, None);
    for at in 0..steps.len() {
        let table = table_with_arena(8, 1 << 18);
        let mut world = World::new(&table);
        for (number, step) in steps.iter().enumerate() {
            world.step(step, None, After::Successor);
            if number == at {
                world.house.relieve(VICTIM);
            }
        }
        assert_eq!(world.end(), expected, "relieved after step {at}");
    }
}
