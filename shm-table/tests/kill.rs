//! Stop the writer after its N-th store to shared memory, for every N, and let the recovery prove itself.
//!
//! Each operation is done by a worker that dies after its first store, its second, and so on until it gets
//! through. Each time the master recovers the table; then the audit must find nothing, the other worker's
//! sessions must be as they were, a message must have arrived whole or not at all, a successor takes over the dead
//! one's rows as they were before the operation or after it and writes every byte once, it must be able to do
//! the same operation, and when all have gone nothing may be left.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a failure names its place

use std::io::Write;

mod common;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use common::{connect, login, obey, read_all, send, small, worker};
use shm_table::{
    Claimed, Envelope, FIRST_WORKER, GroupLimits, Hands, Order, ProcessId, RowHandle, Seats, State,
    Stream, Table, Transport, Urgency, kill_point,
};

const LIMITS: GroupLimits = GroupLimits { per_session: 100 };
const BACKLOG: &[u8] = b"waiting since before the crash";

/// A table with two workers: the first will die, the second must not notice.
struct World<'t> {
    table: &'t Table,
    seats: Seats<'t>,
    victim: ProcessId,
    /// Rows of the victim: not logged in, logged in as "ada", logged in as "bob".
    rows: [RowHandle; 3],
    survivor: Hands<'t>,
    survivor_id: ProcessId,
    /// Rows of the survivor: "ada" and "grace", both in group "old".
    others: [RowHandle; 2],
}

impl<'t> World<'t> {
    fn new(table: &'t Table) -> (Self, Hands<'t>) {
        let mut seats = Seats::new(table);
        let (victim, mut hands) = worker(table, 0);
        let (survivor_id, mut survivor) = worker(table, 1);
        let rows = [Transport::WebSocket, Transport::Tcp, Transport::WebSocket]
            .map(|transport| connect(&mut seats, &mut hands, victim, transport));
        let others = [Transport::Tcp, Transport::WebSocket]
            .map(|transport| connect(&mut seats, &mut survivor, survivor_id, transport));
        login(&mut survivor, others[0], "ada");
        login(&mut survivor, others[1], "grace");
        login(&mut hands, rows[1], "ada");
        login(&mut hands, rows[2], "bob");
        for (hands, row, groups) in [
            (&mut survivor, others[0], &["old"][..]),
            (&mut hands, rows[1], &["old", "mine", "last"][..]),
        ] {
            for group in groups {
                hands.join(row, group, LIMITS).unwrap();
            }
        }
        survivor.join(others[1], "old", LIMITS).unwrap();
        // The survivor has a message half received and another half written.
        let mut stream = survivor.stream(others[1]).unwrap();
        survivor.receive_append(&mut stream, &[7; 300]).unwrap();
        survivor.commit(others[1], &stream);
        send(&mut survivor, &[others[1], rows[1]], BACKLOG);
        survivor
            .write_output(others[1], &mut stream, |_| Ok(5))
            .unwrap();
        // So has the victim.
        let mut stream = hands.stream(rows[1]).unwrap();
        hands.receive_append(&mut stream, &[9; 600]).unwrap();
        hands.commit(rows[1], &stream);
        (
            World {
                table,
                seats,
                victim,
                rows,
                survivor,
                survivor_id,
                others,
            },
            hands,
        )
    }

    /// The master finds the victim dead and puts the table in order.
    fn recover(&mut self, killed_at: &str) {
        self.table.request_pause();
        let recovered = self.table.recover(&mut self.seats, &[self.victim]);
        self.table.end_pause();
        assert_eq!(
            recovered.kept as usize + recovered.rows.len(),
            self.rows.len(),
            "{killed_at}"
        );
        for row in recovered.rows {
            assert!(
                self.rows.contains(&row),
                "{killed_at}: a row that was not the victim's"
            );
            assert!(self.seats.free(row), "{killed_at}");
        }
        assert_eq!(self.table.audit(), Vec::<String>::new(), "{killed_at}");
    }

    /// A successor takes over what the victim has left: every byte that was pushed is written once and in order, and
    /// what was received is as it was committed.
    fn adopt(&mut self, killed_at: &str, operation: &Operation<'_>, wire: &Wire) {
        let (_, mut successor) = worker(self.table, 0);
        let kept: Vec<RowHandle> = self
            .rows
            .into_iter()
            .filter(|&row| successor.state(row).is_some())
            .collect();
        for &row in &kept {
            assert_eq!(
                successor.claim(row, State::Connected, 0),
                Ok(Claimed::Adopted),
                "{killed_at}"
            );
            obey(&successor, row);
        }
        if kept.contains(&self.rows[1]) {
            let row = self.rows[1];
            let mut stream = successor.stream(row).unwrap();
            let mut received = Vec::new();
            successor.receive_read(&stream, 0, &mut received);
            assert!(
                received == [9; 600] || operation.received.contains(&received),
                "{killed_at}: received {} bytes",
                received.len()
            );
            let counted = wire.0.borrow().len() as u64;
            assert!(
                successor.reconcile_written(row, &mut stream, counted),
                "{killed_at}: more was written than there was"
            );
            assert_eq!(self.table.audit(), Vec::<String>::new(), "{killed_at}");
            wire.write(&mut successor, row, usize::MAX);
            wire.check(killed_at, operation);
        }
        for row in kept {
            successor.finish(row);
            assert!(self.seats.free(row), "{killed_at}");
        }
        successor.let_go();
        assert_eq!(self.table.audit(), Vec::<String>::new(), "{killed_at}");
        assert_eq!(self.seats.seated(), 2, "{killed_at}");
    }

    /// What the survivor had is as it was, and what came from the victim is whole.
    fn check_survivor(&mut self, killed_at: &str, operation: &Operation<'_>) {
        let mut found = Vec::new();
        self.survivor.sessions_of("ada", &mut found);
        found.retain(|row| !self.rows.contains(row));
        assert_eq!(found, [self.others[0]], "{killed_at}");
        found.clear();
        assert!(self.survivor.members_of("old", &mut found), "{killed_at}");
        found.retain(|row| !self.rows.contains(row));
        found.sort_by_key(|handle| handle.row);
        let mut expected = self.others.to_vec();
        expected.sort_by_key(|handle| handle.row);
        assert_eq!(found, expected, "{killed_at}");
        assert!(
            self.survivor.last_seen("bob").is_some(),
            "{killed_at}: he was here"
        );
        let mut received = Vec::new();
        let stream = self.survivor.stream(self.others[1]).unwrap();
        self.survivor.receive_read(&stream, 0, &mut received);
        assert_eq!(received, [7; 300], "{killed_at}");

        let backlog = [b"HH", BACKLOG].concat();
        let output = read_all(&mut self.survivor, self.others[1], usize::MAX);
        assert!(output.starts_with(&backlog[5..]), "{killed_at}: {output:?}");
        let is_whole = |fresh: &[u8], before: &[u8], behind: &[u8]| {
            let mut bodies = operation.lines.iter();
            fresh.is_empty() || bodies.any(|body| [before, body, behind].concat() == fresh)
        };
        let fresh = &output[backlog.len() - 5..];
        assert!(
            is_whole(fresh, b"HH", b""),
            "{killed_at}: a message in part"
        );
        let output = read_all(&mut self.survivor, self.others[0], usize::MAX);
        assert!(
            is_whole(&output, b"", b"\n"),
            "{killed_at}: a message in part"
        );
        assert_eq!(
            self.table.audit(),
            Vec::<String>::new(),
            "{killed_at}: after writing"
        );
    }

    /// A successor serves new connections in the victim's slot, then everyone goes and nothing is left.
    fn end(mut self, killed_at: &str, operation: &Operation<'_>) {
        let (successor_id, mut successor) = worker(self.table, 0);
        assert_eq!(successor_id.slot, FIRST_WORKER);
        let rows = [Transport::WebSocket, Transport::Tcp, Transport::WebSocket]
            .map(|transport| connect(&mut self.seats, &mut successor, successor_id, transport));
        login(&mut successor, rows[1], "ada");
        login(&mut successor, rows[2], "bob");
        for group in ["old", "mine", "last"] {
            successor.join(rows[1], group, LIMITS).unwrap();
        }
        (operation.act)(&mut successor, &rows, &self.others, &Wire::default());
        assert_eq!(
            self.table.audit(),
            Vec::<String>::new(),
            "{killed_at}: done again"
        );
        for row in rows {
            successor.finish(row);
        }
        for row in self.others {
            self.survivor.finish(row);
        }
        for row in rows.iter().chain(&self.others) {
            self.seats.free(*row);
        }
        for section in self.table.stats().sections {
            assert_eq!(section.used, 0, "{killed_at}: {} left over", section.name);
        }
        assert_eq!(
            self.table.audit(),
            Vec::<String>::new(),
            "{killed_at}: at the end"
        );
        assert_ne!(self.survivor_id.slot, successor_id.slot);
    }
}

fn long_body() -> Vec<u8> {
    (0..700_u32).map(|at| b'a' + (at % 26) as u8).collect()
}

/// What the kernel has got for the victim's second row.
#[derive(Default)]
struct Wire(RefCell<Vec<u8>>);

impl Wire {
    /// Writes all there is, `at_most` bytes a call.
    fn write(&self, hands: &mut Hands<'_>, row: RowHandle, at_most: usize) {
        let mut stream = hands.stream(row).unwrap();
        while hands.has_output(row, &stream) {
            self.write_once(hands, row, &mut stream, at_most);
        }
    }

    fn write_once(
        &self,
        hands: &mut Hands<'_>,
        row: RowHandle,
        stream: &mut Stream,
        at_most: usize,
    ) {
        hands
            .write_output(row, stream, |bytes| {
                let all = bytes.to_vec();
                let some = &all[..all.len().min(at_most)];
                self.0.borrow_mut().extend_from_slice(some);
                kill_point::called();
                Ok(some.len())
            })
            .unwrap();
    }

    /// Whole lines, first the backlog, then those of the operation in order, none twice; it need not have got to all.
    fn check(&self, killed_at: &str, operation: &Operation<'_>) {
        let bytes = self.0.borrow();
        let mut expected = operation.lines.iter();
        let mut lines = bytes.split_inclusive(|&byte| byte == b'\n');
        assert_eq!(
            lines.next(),
            Some(&[BACKLOG, b"\n"].concat()[..]),
            "{killed_at}"
        );
        for line in lines {
            assert!(
                line.ends_with(b"\n") && expected.any(|body| *body == line[..line.len() - 1]),
                "{killed_at}: {:?}",
                String::from_utf8_lossy(line)
            );
        }
    }
}

type Act<'a> = &'a dyn Fn(&mut Hands<'_>, &[RowHandle; 3], &[RowHandle; 2], &Wire);

/// What a worker does when it is killed.
struct Operation<'a> {
    name: &'a str,
    act: Act<'a>,
    /// What the victim's second row may be sent by it.
    lines: Vec<Vec<u8>>,
    /// What that row's receive buffer may hold since, unless it is what it held before.
    received: Vec<Vec<u8>>,
}

/// Kills a worker after every store of `act`.
fn kill_everywhere(name: &str, act: Act<'_>) {
    kill_operation(&Operation {
        name,
        act,
        lines: Vec::new(),
        received: Vec::new(),
    });
}

/// Kills the operation's worker after every store; returns how many stores the operation makes.
fn kill_operation(operation: &Operation<'_>) -> u64 {
    let name = operation.name;
    for stores in 1.. {
        let killed_at = format!("{name}, killed after store {stores}");
        let wire = Wire::default();
        let table = small();
        let (mut world, mut hands) = World::new(&table);
        kill_point::arm(stores);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            (operation.act)(&mut hands, &world.rows, &world.others, &wire);
        }));
        let killed = kill_point::revive();
        if let Err(payload) = outcome {
            assert!(
                killed && payload.is::<kill_point::Killed>(),
                "{killed_at}: it panicked"
            );
        }
        world.recover(&killed_at);
        world.check_survivor(&killed_at, operation);
        world.adopt(&killed_at, operation, &wire);
        world.end(&killed_at, operation);
        if !killed {
            assert!(stores > 1, "{name} stores nothing, so nothing was tested");
            return stores - 1;
        }
    }
    unreachable!()
}

fn envelope() -> Envelope {
    let mut envelope = Envelope {
        newline: true,
        prefix_len: 2,
        ..Envelope::default()
    };
    envelope.prefix[..2].copy_from_slice(b"HH");
    envelope
}

#[test]
fn sending_to_rows_of_both_workers() {
    kill_operation(&Operation {
        name: "send",
        act: &|hands, rows, others, _| {
            let body = long_body();
            let message = hands
                .compose(Urgency::Message, |w| w.write_all(&body), |_| envelope())
                .unwrap();
            let to = [rows[1], others[0], others[1], rows[2]];
            hands.deliver(message, &to, Urgency::Message).unwrap();
            hands.doorbells_to_ring();
        },
        lines: vec![long_body()],
        received: Vec::new(),
    });
}

#[test]
fn sending_a_short_message_to_rows_of_both_workers() {
    kill_operation(&Operation {
        name: "send short",
        act: &|hands, rows, others, _| {
            let mut compose = |fits: bool| {
                let write = |room: &mut [u8]| {
                    room[..5].copy_from_slice(b"short");
                    fits.then_some(5)
                };
                hands.compose_short(Urgency::Message, write, |_| envelope())
            };
            assert!(matches!(compose(false), Ok(None)));
            let message = compose(true).unwrap().unwrap();
            let to = [rows[1], others[0], others[1], rows[2]];
            hands.deliver(message, &to, Urgency::Message).unwrap();
            hands.doorbells_to_ring();
        },
        lines: vec![b"short".to_vec()],
        received: Vec::new(),
    });
}

#[test]
fn composing_and_discarding() {
    kill_everywhere("compose", &|hands, _, _, _| {
        let body = long_body();
        let message = hands
            .compose(Urgency::Message, |w| w.write_all(&body), |_| envelope())
            .unwrap();
        hands.discard(message);
    });
}

#[test]
fn writing_some_of_an_outbox_then_all() {
    let bodies = [b"one".to_vec(), b"two".to_vec(), long_body()];
    kill_operation(&Operation {
        name: "write",
        act: &|hands, rows, _, wire| {
            for body in &bodies {
                send(hands, &[rows[1]], body);
            }
            let mut stream = hands.stream(rows[1]).unwrap();
            wire.write_once(hands, rows[1], &mut stream, 4);
            wire.write(hands, rows[1], 100);
        },
        lines: bodies.to_vec(),
        received: Vec::new(),
    });
}

#[test]
fn discarding_an_outbox_with_a_message_half_written() {
    kill_operation(&Operation {
        name: "discard",
        act: &|hands, rows, _, wire| {
            for _ in 0..3 {
                send(hands, &[rows[1]], &long_body());
            }
            let mut stream = hands.stream(rows[1]).unwrap();
            wire.write_once(hands, rows[1], &mut stream, 100);
            hands.discard_output(rows[1], &mut stream);
            let farewell = hands
                .compose(Urgency::Answer, |w| w.write_all(b"bye"), |_| envelope())
                .unwrap();
            hands.deliver_closing(farewell, rows[1]).unwrap();
            wire.write(hands, rows[1], usize::MAX);
        },
        lines: vec![long_body(), long_body(), long_body(), b"bye".to_vec()],
        received: Vec::new(),
    });
}

#[test]
fn discarding_an_outbox_of_which_nothing_was_written() {
    kill_operation(&Operation {
        name: "discard all",
        act: &|hands, rows, _, wire| {
            wire.write(hands, rows[1], usize::MAX);
            for _ in 0..3 {
                send(hands, &[rows[1]], &long_body());
            }
            let mut stream = hands.stream(rows[1]).unwrap();
            hands.discard_output(rows[1], &mut stream);
            send(hands, &[rows[1]], b"next");
        },
        lines: vec![long_body(), long_body(), long_body(), b"next".to_vec()],
        received: Vec::new(),
    });
}

#[test]
fn receiving_a_message_in_parts() {
    kill_operation(&Operation {
        name: "receive",
        act: &|hands, rows, _, _| {
            let mut stream = hands.stream(rows[1]).unwrap();
            hands.receive_append(&mut stream, &[1; 700]).unwrap();
            hands.commit(rows[1], &stream);
            hands.receive_truncate(&mut stream, 100);
            hands.commit(rows[1], &stream);
            hands.receive_append(&mut stream, &[2; 300]).unwrap();
            hands.commit(rows[1], &stream);
            hands.receive_truncate(&mut stream, 0);
            hands.commit(rows[1], &stream);
        },
        lines: Vec::new(),
        received: vec![
            [&[9; 600][..], &[1; 700]].concat(),
            vec![9; 100],
            [&[9; 100][..], &[2; 300]].concat(),
            Vec::new(),
        ],
    });
}

#[test]
fn leaving_the_work_to_a_successor() {
    kill_operation(&Operation {
        name: "let go",
        act: &|hands, rows, _, wire| {
            let mut stream = hands.stream(rows[1]).unwrap();
            hands.receive_truncate(&mut stream, 0);
            hands.commit(rows[1], &stream);
            wire.write_once(hands, rows[1], &mut stream, 7);
            hands.let_go();
        },
        lines: Vec::new(),
        received: vec![Vec::new()],
    });
}

#[test]
fn logging_in_as_a_new_user_and_as_one_who_is_here() {
    for user in ["newcomer", "grace", "bob"] {
        kill_everywhere("login", &|hands, rows, _, _| login(hands, rows[0], user));
    }
}

#[test]
fn joining_groups_new_and_old() {
    kill_everywhere("join", &|hands, rows, _, _| {
        for group in ["new", "old"] {
            hands.join(rows[2], group, LIMITS).unwrap();
        }
    });
}

#[test]
fn leaving_groups_the_last_member_of_one() {
    kill_everywhere("leave", &|hands, rows, _, _| {
        for group in ["mine", "old", "last"] {
            hands.leave(rows[1], group).unwrap();
        }
    });
}

#[test]
fn being_replaced_and_ordering_others() {
    kill_everywhere("order", &|hands, rows, others, _| {
        hands.order(others[0], Order::KICKED);
        hands.order(rows[2], Order::REPLACED);
        hands.doorbells_to_ring();
        obey(hands, rows[2]);
        hands.next_ready();
    });
}

#[test]
fn closing_and_finishing_a_session_that_has_everything() {
    kill_operation(&Operation {
        name: "finish",
        act: &|hands, rows, _, wire| {
            wire.write(hands, rows[1], usize::MAX);
            for _ in 0..3 {
                send(hands, &[rows[1]], &long_body());
            }
            hands.set_deadline(rows[1], 5000);
            hands.set_state(rows[1], State::Closing);
            hands.finish(rows[1]);
        },
        lines: vec![long_body(); 3],
        received: vec![Vec::new()],
    });
}

/// A small generator (SplitMix64), so that a failing history can be named by its seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % sides as u64) as usize
    }
}

fn random_step(dice: &mut Dice, hands: &mut Hands<'_>, rows: &[RowHandle], all: &[RowHandle]) {
    let row = rows[dice.roll(rows.len())];
    let group = ["a", "b", "c"][dice.roll(3)];
    match dice.roll(8) {
        0..3 => drop(hands.join(row, group, LIMITS)),
        3 => drop(hands.leave(row, group)),
        4 => {
            let mut members = Vec::new();
            hands.members_of(group, &mut members);
            send(hands, &members, &long_body()[..dice.roll(700)]);
        }
        5 => {
            let to = [all[dice.roll(all.len())], all[dice.roll(all.len())]];
            send(hands, &to[..1 + dice.roll(2)], b"hello");
        }
        6 => {
            if hands
                .state(row)
                .is_some_and(|state| state == State::LoggedIn)
            {
                read_all(hands, row, 1 + dice.roll(2000));
            }
        }
        _ => {
            if dice.roll(4) == 0 {
                hands.set_state(row, State::Closing);
                hands.finish(row);
            }
        }
    }
}

#[test]
fn random_histories_with_groups_of_several_chunks_end_in_order_wherever_they_are_cut() {
    for seed in 0..400 {
        let mut dice = Dice(seed);
        let table = Table::private(&shm_table::Capacity {
            sessions: 48,
            arena_bytes: 256 * 1024,
            groups: 4,
            memberships: 140,
            workers: 2,
            hosts: 0,
        });
        let mut seats = Seats::new(&table);
        let (victim, mut hands) = worker(&table, 0);
        let (survivor_id, mut survivor) = worker(&table, 1);
        let mut sit = |hands: &mut Hands<'_>, worker, user: &str| -> Vec<RowHandle> {
            (0..24)
                .map(|n| {
                    let row = connect(&mut seats, hands, worker, Transport::Tcp);
                    login(hands, row, &format!("{user}{}", n % 9));
                    row
                })
                .collect()
        };
        let rows = sit(&mut hands, victim, "v");
        let others = sit(&mut survivor, survivor_id, "s");
        let all = [&rows[..], &others].concat();
        for _ in 0..150 {
            random_step(&mut dice, &mut survivor, &others, &all);
            random_step(&mut dice, &mut hands, &rows, &all);
        }
        kill_point::arm(1 + dice.roll(300) as u64);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            for _ in 0..200 {
                random_step(&mut dice, &mut hands, &rows, &all);
            }
        }));
        let killed = kill_point::revive();
        assert!(killed || outcome.is_ok(), "seed {seed}: it panicked");
        let members = |hands: &Hands<'_>| {
            ["a", "b", "c"].map(|group| {
                let mut found = Vec::new();
                hands.members_of(group, &mut found);
                found.retain(|row| others.contains(row));
                found.sort_by_key(|handle| handle.row);
                found
            })
        };
        let before = members(&survivor);
        for row in table.recover(&mut seats, &[victim]).rows {
            seats.free(row);
        }
        assert_eq!(table.audit(), Vec::<String>::new(), "seed {seed}");
        assert_eq!(members(&survivor), before, "seed {seed}");
        // A successor takes over and everybody goes on for a while.
        let (_, mut successor) = worker(&table, 0);
        let kept: Vec<RowHandle> = rows
            .iter()
            .copied()
            .filter(|&row| successor.claim(row, State::Connected, 0).is_ok())
            .collect();
        for _ in 0..50 {
            random_step(&mut dice, &mut survivor, &others, &all);
            if !kept.is_empty() {
                random_step(&mut dice, &mut successor, &kept, &all);
            }
        }
        assert_eq!(table.audit(), Vec::<String>::new(), "seed {seed}");
        for row in kept {
            successor.finish(row);
            seats.free(row);
        }
        for &row in &others {
            if survivor.state(row) == Some(State::LoggedIn) {
                read_all(&mut survivor, row, 1000);
                assert_eq!(survivor.outbox_bytes(row), 0, "seed {seed}");
            }
            survivor.finish(row);
            seats.free(row);
        }
        for section in table.stats().sections {
            assert_eq!(section.used, 0, "seed {seed}: {} left over", section.name);
        }
        assert_eq!(
            table.audit(),
            Vec::<String>::new(),
            "seed {seed}: at the end"
        );
    }
}
