//! The table on which the killing takes place: a victim, a survivor, and what must be true of both afterwards.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use shm_table::{
    Claimed, FIRST_WORKER, Hands, ProcessId, RowHandle, Seats, State, Stream, Table, Transport,
    kill_point,
};

use crate::LIMITS;
use crate::common::{
    connect, finish_fanouts, login, obey_fanned_out, read_all, send, small, worker,
};

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
        self.check(killed_at);
    }

    /// The table is in order, and whatever waits has somebody who will come for it.
    fn check(&self, at: &str) {
        assert_eq!(self.table.audit(), [""; 0], "{at}");
        assert_eq!(self.table.audit_waiting(), [""; 0], "{at}");
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
        }
        finish_fanouts(&mut successor, 2, |_, _| {});
        for &row in &kept {
            obey_fanned_out(&mut successor, row);
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
            self.check(killed_at);
            wire.write(&mut successor, row, usize::MAX);
            wire.check(killed_at, operation);
        }
        for row in kept {
            successor.finish(row);
            assert!(self.seats.free(row), "{killed_at}");
        }
        successor.let_go();
        self.check(killed_at);
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

/// What the kernel has got for the victim's second row.
#[derive(Default)]
pub struct Wire(RefCell<Vec<u8>>);

impl Wire {
    /// Writes all there is, `at_most` bytes a call.
    pub fn write(&self, hands: &mut Hands<'_>, row: RowHandle, at_most: usize) {
        let mut stream = hands.stream(row).unwrap();
        while hands.has_output(row, &stream) {
            self.write_once(hands, row, &mut stream, at_most);
        }
    }

    pub fn write_once(
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

pub type Act<'a> = &'a dyn Fn(&mut Hands<'_>, &[RowHandle; 3], &[RowHandle; 2], &Wire);

/// What a worker does when it is killed.
pub struct Operation<'a> {
    pub name: &'a str,
    pub act: Act<'a>,
    /// What the victim's second row may be sent by it.
    pub lines: Vec<Vec<u8>>,
    /// What that row's receive buffer may hold since, unless it is what it held before.
    pub received: Vec<Vec<u8>>,
}

/// Kills a worker after every store of `act`.
pub fn kill_everywhere(name: &str, act: Act<'_>) {
    kill_operation(&Operation {
        name,
        act,
        lines: Vec::new(),
        received: Vec::new(),
    });
}

/// Kills the operation's worker after every store; returns how many stores the operation makes.
pub fn kill_operation(operation: &Operation<'_>) -> u64 {
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
