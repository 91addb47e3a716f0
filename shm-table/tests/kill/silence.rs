//! Nobody waits for ever: random histories of workers that work in slices, sleep, leave in the middle of a round, die anywhere and are
//! succeeded, on a simulated system in which nothing happens by itself: who sleeps is woken by a doorbell or by a socket, or never.
//!
//! After every step the table must be in order and whatever waits must have somebody who will come for it. At the end everybody falls
//! silent, and all that was sent must arrive.

use std::cell::RefCell;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

use shm_table::{
    Capacity, Hands, Order, ProcessId, RowHandle, Seats, State, Step, Table, Transport, Urgency,
    kill_point,
};

use crate::common::{connect, login, obey, send, worker};
use crate::histories::Dice;

const WORKERS: usize = 2;
const ROWS: usize = 90;

/// A connection's socket, and what its client has got.
#[derive(Default)]
struct Socket {
    /// Bytes that it takes before it is full.
    room: usize,
    /// Bytes that it has taken, as the kernel counts them.
    written: u64,
    heard: Vec<u8>,
    /// It was full and has room again, and its worker was not told yet.
    writable: bool,
}

struct Worker<'t> {
    id: ProcessId,
    /// `None`: nobody is there.
    hands: Option<Hands<'t>>,
    /// What it was given and has not taken over yet.
    seats: Vec<usize>,
    /// The socket was full, of each row.
    blocked: Vec<bool>,
    asleep: bool,
    rung: bool,
}

struct World<'t> {
    table: &'t Table,
    seats: Seats<'t>,
    workers: Vec<Worker<'t>>,
    rows: Vec<RowHandle>,
    sockets: Vec<RefCell<Socket>>,
    /// What each row must hear, and what it may, as whoever sent it died over it.
    must: Vec<Vec<u32>>,
    may: Vec<Vec<u32>>,
    sent: u32,
    /// What was sent as a fan-out: whoever was being given it when its worker died may hear it again.
    fanouts: Vec<u32>,
    kills: u32,
    leaves: u32,
}

fn owner(row: usize) -> usize {
    // Neighbours in a word of the ready bits belong to both.
    row / 5 % WORKERS
}

impl<'t> World<'t> {
    fn new(table: &'t Table) -> Self {
        let mut seats = Seats::new(table);
        let mut workers: Vec<Worker<'t>> = (0..WORKERS)
            .map(|number| {
                let (id, hands) = worker(table, number as u8);
                Worker {
                    id,
                    hands: Some(hands),
                    seats: Vec::new(),
                    blocked: vec![false; ROWS],
                    asleep: false,
                    rung: false,
                }
            })
            .collect();
        let rows = (0..ROWS)
            .map(|row| {
                let worker = &mut workers[owner(row)];
                let hands = worker.hands.as_mut().unwrap();
                let handle = connect(&mut seats, hands, worker.id, Transport::Tcp);
                login(hands, handle, &format!("u{row}"));
                handle
            })
            .collect();
        World {
            table,
            seats,
            workers,
            rows,
            sockets: (0..ROWS).map(|_| RefCell::default()).collect(),
            must: vec![Vec::new(); ROWS],
            may: vec![Vec::new(); ROWS],
            sent: 0,
            fanouts: Vec::new(),
            kills: 0,
            leaves: 0,
        }
    }

    /// Does something with a worker's hands, which may die after so many stores. What it has for others it hands on.
    fn act(
        &mut self,
        number: usize,
        dies_after: Option<u64>,
        act: impl FnOnce(&mut Hands<'t>, &mut Vec<bool>, &[RefCell<Socket>], &[RowHandle]),
    ) -> bool {
        let worker = &mut self.workers[number];
        let Some(hands) = &mut worker.hands else {
            return true;
        };
        if let Some(stores) = dies_after {
            kill_point::arm(stores);
        }
        let mut bells = 0;
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            hands.awake();
            act(hands, &mut worker.blocked, &self.sockets, &self.rows);
            hands.end_turn();
            bells = hands.doorbells_to_ring();
        }));
        let killed = kill_point::revive();
        assert!(killed || outcome.is_ok(), "it panicked");
        worker.asleep = false;
        worker.rung = false;
        self.ring(bells);
        if killed {
            self.die(number);
        }
        !killed
    }

    fn ring(&mut self, bells: u64) {
        for worker in &mut self.workers {
            worker.rung |= bells & 1 << worker.id.slot != 0;
        }
    }

    /// The master finds a worker dead, and wakes the others when the table is in order.
    fn die(&mut self, number: usize) {
        self.kills += 1;
        let id = self.workers[number].id;
        self.workers[number].hands = None;
        self.table.request_pause();
        let recovered = self.table.recover(&mut self.seats, &[id]);
        self.table.end_pause();
        assert_eq!(recovered.rows, []);
        assert_eq!(self.table.audit(), [""; 0], "after kill {}", self.kills);
        self.ring(u64::MAX);
    }

    /// A worker leaves between two turns, perhaps in the middle of a round.
    fn leave(&mut self, number: usize) {
        self.leaves += 1;
        let Some(mut hands) = self.workers[number].hands.take() else {
            return;
        };
        let bells = hands.doorbells_to_ring();
        hands.let_go();
        self.ring(bells);
        self.table.process_ended(self.workers[number].id);
    }

    /// A successor comes; it is given all connections of the slot.
    fn succeed(&mut self, number: usize) {
        if self.workers[number].hands.is_some() {
            return;
        }
        let (id, hands) = worker(self.table, number as u8);
        self.workers[number] = Worker {
            id,
            hands: Some(hands),
            seats: (0..ROWS).filter(|&row| owner(row) == number).collect(),
            blocked: vec![false; ROWS],
            asleep: false,
            rung: false,
        };
    }

    fn adopt(&mut self, number: usize, dies_after: Option<u64>) {
        let Some(row) = self.workers[number].seats.pop() else {
            return;
        };
        self.act(number, dies_after, |hands, blocked, sockets, rows| {
            let handle = rows[row];
            hands.claim(handle, State::Connected, 0).unwrap();
            let mut stream = hands.stream(handle).unwrap();
            let written = sockets[row].borrow().written;
            assert!(hands.reconcile_written(handle, &mut stream, written));
            hands.set_blocked(handle, false);
            obey(hands, handle);
            write(hands, blocked, sockets, handle, row);
        });
    }

    /// A slice of a round: at most so many of the rows that are ready. True: the round is over.
    fn turn(&mut self, number: usize, most: usize, dies_after: Option<u64>) -> bool {
        let mut is_over = false;
        self.act(number, dies_after, |hands, blocked, sockets, rows| {
            for row in (0..ROWS)
                .filter(|&row| owner(row) == number && blocked[row])
                .collect::<Vec<_>>()
            {
                if std::mem::take(&mut sockets[row].borrow_mut().writable) {
                    blocked[row] = false;
                    hands.set_blocked(rows[row], false);
                    write(hands, blocked, sockets, rows[row], row);
                }
            }
            match hands.fan_out(2) {
                Step::None | Step::Done(_) => {}
                Step::Waits => panic!("there are entries for all"),
                Step::Over => hands.end_fanout(),
            }
            for _ in 0..most {
                let Some(handle) = hands.next_ready() else {
                    is_over = true;
                    return;
                };
                let row = rows.iter().position(|row| *row == handle).unwrap();
                obey(hands, handle);
                if !blocked[row] {
                    write(hands, blocked, sockets, handle, row);
                }
            }
        });
        is_over
    }

    /// The same in an order of the worker's own, the last ones first; there may be more.
    fn turn_backwards(&mut self, number: usize, most: usize, dies_after: Option<u64>) {
        self.act(number, dies_after, |hands, blocked, sockets, rows| {
            let mut ready = Vec::new();
            hands.all_ready(&mut ready);
            for &ready in ready.iter().rev().take(most) {
                let Some(handle) = hands.take_ready(ready) else {
                    continue;
                };
                let row = rows.iter().position(|row| *row == handle).unwrap();
                obey(hands, handle);
                if !blocked[row] {
                    write(hands, blocked, sockets, handle, row);
                }
            }
        });
    }

    fn send(&mut self, number: usize, to: &[usize], is_fanout: bool, dies_after: Option<u64>) {
        if self.workers[number].hands.is_none() {
            return;
        }
        self.sent += 1;
        let sent = self.sent;
        let whole = self.act(number, dies_after, |hands, _, _, rows| {
            let to: Vec<RowHandle> = to.iter().map(|&row| rows[row]).collect();
            let body = format!("{sent:07}");
            match is_fanout {
                true => begin_fanout(hands, &to, body.as_bytes()),
                false => drop(send(hands, &to, body.as_bytes())),
            }
            hands.order(to[0], Order::DEADLINE);
        });
        if is_fanout {
            self.fanouts.push(sent);
        }
        for &row in to {
            match whole {
                true => self.must[row].push(sent),
                false => self.may[row].push(sent),
            }
        }
    }

    /// Sleeps if there is nothing to do.
    fn sleep(&mut self, number: usize) {
        let worker = &mut self.workers[number];
        if let Some(hands) = &worker.hands
            && worker.seats.is_empty()
            && !worker.asleep
        {
            worker.asleep = hands.about_to_sleep();
        }
    }

    fn give_room(&mut self, row: usize, bytes: usize) {
        let mut socket = self.sockets[row].borrow_mut();
        socket.writable |= socket.room == 0;
        socket.room += bytes;
    }

    /// Whether something wakes a worker, or it is awake.
    fn is_awake(&self, number: usize) -> bool {
        let worker = &self.workers[number];
        let is_told = |row: &usize| {
            owner(*row) == number && worker.blocked[*row] && self.sockets[*row].borrow().writable
        };
        worker.hands.is_some()
            && (!worker.asleep || worker.rung || (0..ROWS).any(|row| is_told(&row)))
    }

    fn check(&self, at: &str) {
        assert_eq!(self.table.audit_waiting(), [""; 0], "{at}");
    }

    /// Nobody sends any more, every client reads, every post is filled; who is not woken sleeps on.
    fn fall_silent(&mut self, at: &str) {
        for number in 0..WORKERS {
            self.succeed(number);
        }
        for row in 0..ROWS {
            self.give_room(row, 1 << 20);
        }
        let mut turns = 0;
        while let Some(number) = (0..WORKERS).find(|&number| self.is_awake(number)) {
            self.adopt(number, None);
            if self.turn(number, 3, None) {
                self.sleep(number);
            }
            self.check(at);
            turns += 1;
            assert!(turns < 10_000, "{at}: it never falls silent");
        }
        for row in 0..ROWS {
            let socket = self.sockets[row].borrow();
            let mut heard: Vec<u32> = socket
                .heard
                .split(|&byte| byte == b'\n')
                .filter(|line| !line.is_empty())
                .map(|line| String::from_utf8_lossy(line).parse().unwrap())
                .collect();
            heard.sort_unstable();
            heard.dedup_by(|one, other| one == other && self.fanouts.contains(one));
            assert!(
                heard.is_sorted_by(|a, b| a < b),
                "{at}: row {row}: something came twice"
            );
            let lost: Vec<&u32> = self.must[row]
                .iter()
                .filter(|sent| heard.binary_search(sent).is_err())
                .collect();
            assert!(lost.is_empty(), "{at}: row {row} still waits for {lost:?}");
            let is_known =
                |sent: &u32| self.must[row].contains(sent) || self.may[row].contains(sent);
            assert!(heard.iter().all(is_known), "{at}: row {row}");
        }
    }
}

/// Sends to rows over several turns.
fn begin_fanout(hands: &mut Hands<'_>, to: &[RowHandle], body: &[u8]) {
    let message = hands
        .compose(
            Urgency::Message,
            |w| w.write_all(body),
            |_| crate::envelope(),
        )
        .unwrap();
    let prepared = hands.prepare_fanout(message, to).unwrap();
    hands.begin_fanout(prepared, to[0], 1, b"");
}

/// Writes what a row has, as far as its socket takes it.
fn write(
    hands: &mut Hands<'_>,
    blocked: &mut [bool],
    sockets: &[RefCell<Socket>],
    handle: RowHandle,
    row: usize,
) {
    let mut stream = hands.stream(handle).unwrap();
    while hands.has_output(handle, &stream) {
        let mut is_full = false;
        hands
            .write_output(handle, &mut stream, |bytes| {
                let mut socket = sockets[row].borrow_mut();
                let taken = bytes.len().min(socket.room);
                socket.room -= taken;
                socket.written += taken as u64;
                socket.heard.extend_from_slice(&bytes[..taken]);
                is_full = taken < bytes.len();
                socket.writable = false;
                drop(socket);
                kill_point::called();
                Ok(taken)
            })
            .unwrap();
        if is_full {
            blocked[row] = true;
            hands.set_blocked(handle, true);
            return;
        }
    }
}

fn history(seed: u64) -> (u32, u32) {
    let mut dice = Dice(seed);
    let table = Table::private(&Capacity {
        sessions: 130,
        arena_bytes: 128 * 1024,
        groups: 4,
        memberships: 16,
        workers: WORKERS as u8,
        hosts: 0,
    });
    let mut world = World::new(&table);
    let deadly = dice.roll(3) == 0;
    for step in 0..300 {
        let at = format!("seed {seed}, step {step}");
        let number = dice.roll(WORKERS);
        let dies_after = (deadly && dice.roll(20) == 0).then(|| 1 + dice.roll(60) as u64);
        match dice.roll(16) {
            0..5 => {
                let to: Vec<usize> = (0..1 + dice.roll(6))
                    .map(|n| (dice.roll(ROWS / 6) * 6 + n) % ROWS)
                    .collect();
                let is_fanout = dice.roll(3) == 0;
                world.send(number, &to, is_fanout, dies_after);
            }
            5 => world.turn_backwards(number, 1 + dice.roll(5), dies_after),
            6..9 => {
                if world.turn(number, 1 + dice.roll(5), dies_after) {
                    world.sleep(number);
                }
            }
            9..11 => world.adopt(number, dies_after),
            11..13 => world.give_room(dice.roll(ROWS), 1 + dice.roll(60)),
            13 => world.leave(number),
            _ => world.succeed(number),
        }
        world.check(&at);
    }
    world.fall_silent(&format!("seed {seed}, in the end"));
    assert_eq!(table.audit(), [""; 0], "seed {seed}, in the end");
    (world.kills, world.leaves)
}

#[test]
fn whatever_happens_all_that_was_sent_arrives_when_everybody_falls_silent() {
    let (mut kills, mut leaves) = (0, 0);
    for seed in 1..=400 {
        let (died, left) = history(seed);
        kills += died;
        leaves += left;
    }
    println!("{kills} kills, {leaves} leaves");
    assert!(kills > 100 && leaves > 1_000, "{kills} {leaves}");
}
