//! Two workers, their table, the master's part played by the test, and clients.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use config::Config;
use role::{Channel, Seat};
use shm_table::{
    Capacity, FIRST_WORKER, HandsSettings, Newcomer, ProcessId, ReadWindow, Role, RowHandle, Seats,
    Table, Transport,
};

use crate::poller::Poller;
use crate::work::Work;

mod handover;

pub const WORKERS: usize = 2;

/// The server.
pub struct House<'t> {
    pub table: &'t Table,
    pub seats: Seats<'t>,
    pub works: Vec<Work<'t>>,
    /// Duplicates of the TCP connections' descriptors.
    vault: Vec<(RowHandle, OwnedFd)>,
    settings: Config,
    /// Of each worker; its successors have the same.
    windows: Vec<ReadWindow<'t>>,
    /// A worker that is dead and has no successor.
    absent: Option<usize>,
    /// See [`crate::slice::Slice::at_once`]; of the successors.
    at_once: u32,
}

/// The settings that every test starts from: clients here talk as fast as they can, and all come from one address.
pub fn settings() -> Config {
    let mut settings = Config::default();
    settings.limits.messages_per_second = 0;
    settings.limits.connections_per_ip = 0;
    settings.limits.sessions_per_user = 0;
    settings
}

/// A small table: capacity is a limit to be met in a test.
pub fn table(sessions: u32) -> Table {
    table_with_arena(sessions, 4 << 20)
}

/// The same with another arena. It is old, so that every counter wraps soon.
pub fn table_with_arena(sessions: u32, arena_bytes: u64) -> Table {
    let table = Table::private(&Capacity {
        sessions,
        arena_bytes,
        groups: 4,
        memberships: 16,
        workers: WORKERS as u8,
        hosts: 0,
    });
    table.begin_near_wrap();
    table
}

impl<'t> House<'t> {
    pub fn new(table: &'t Table, settings: &Config) -> Self {
        let works = (0..WORKERS as u8)
            .map(|number| {
                let me = table.start_process(FIRST_WORKER + number, Role::Worker);
                work(table, me, settings)
            })
            .collect();
        let window = |number| {
            let me = ProcessId {
                slot: FIRST_WORKER + number,
                incarnation: 1,
            };
            table.read_window(me).unwrap()
        };
        House {
            table,
            seats: Seats::new(table),
            works,
            vault: Vec::new(),
            settings: settings.clone(),
            windows: (0..WORKERS as u8).map(window).collect(),
            absent: None,
            at_once: crate::fanout::AT_ONCE,
        }
    }

    /// How many recipients of one message are given it in one turn, by these workers and their successors.
    pub fn set_at_once(&mut self, recipients: u32) {
        self.at_once = recipients;
        for work in &mut self.works {
            work.slice.at_once = recipients;
        }
    }

    /// The master has seen that the worker is dead.
    pub fn die(&self, worker: usize) {
        self.table.process_ended(ProcessId {
            slot: FIRST_WORKER + worker as u8,
            incarnation: self.incarnation(worker),
        });
    }

    /// The worker is dead: the table is put in order, and a successor takes over what it had, as the master would arrange it.
    pub fn replace(&mut self, worker: usize) {
        self.recover(worker);
        self.succeed(FIRST_WORKER + worker as u8);
    }

    /// The worker is dead: the table is put in order.
    pub fn recover(&mut self, worker: usize) {
        let slot = FIRST_WORKER + worker as u8;
        let dead = ProcessId {
            slot,
            incarnation: self.incarnation(worker),
        };
        self.table.request_pause();
        let recovered = self.table.recover(&mut self.seats, &[dead]);
        self.table.end_pause();
        for row in recovered.rows {
            assert!(self.seats.free(row));
            self.vault.retain(|(kept, _)| *kept != row);
        }
    }

    /// The worker makes place for a successor, as at a reload.
    pub fn relieve(&mut self, worker: usize) {
        self.reap(worker);
        self.works[worker].hands.let_go();
        self.die(worker);
        self.succeed(FIRST_WORKER + worker as u8);
    }

    fn succeed(&mut self, slot: u8) {
        self.absent = self
            .absent
            .filter(|absent| FIRST_WORKER + *absent as u8 != slot);
        assert_eq!(self.table.audit(), Vec::<String>::new());
        let interrupted = self.table.interrupted(slot);
        let me = self.table.start_process(slot, Role::Worker);
        let successor = &mut self.works[usize::from(slot - FIRST_WORKER)];
        *successor = work(self.table, me, &self.settings);
        successor.slice.at_once = self.at_once;
        let mut kept: Vec<_> = self.vault.iter().collect();
        kept.sort_by_key(|(row, _)| Some(*row) != interrupted);
        for (row, descriptor) in kept {
            let seat = Seat {
                row: row.row,
                generation: row.generation,
            };
            let descriptors = vec![descriptor.try_clone().unwrap()];
            // Those of the other worker are refused.
            let window = &mut self.windows[usize::from(slot - FIRST_WORKER)];
            successor.take_seats(vec![seat], descriptors, window);
        }
    }

    /// What the kernel has counted is what the rows account for, of every connection that was made over TCP.
    pub fn assert_exact(&self) {
        for account in self.table.accounts() {
            let kept = self.vault.iter().find(|(row, _)| *row == account.handle);
            if let Some((_, descriptor)) = kept {
                let counts = sys::tcp::counts(std::os::fd::AsFd::as_fd(descriptor)).unwrap();
                assert_eq!(account.consumed, counts.consumed, "{account:?}");
                // Our end of a connection that is over may be counted as a byte.
                let end = u64::from(account.state == shm_table::State::Closing);
                assert!(
                    (account.written..=account.written + end).contains(&counts.written),
                    "{account:?}, but {counts:?}"
                );
            }
        }
    }

    /// Takes the reports of a worker, as the master would.
    fn reap(&mut self, worker: usize) {
        for seat in self.works[worker].finished.drain(..) {
            let handle = RowHandle {
                row: seat.row,
                generation: seat.generation,
            };
            assert!(self.seats.free(handle), "{handle:?} was not done");
            self.vault.retain(|(kept, _)| *kept != handle);
        }
    }

    /// Connects a client to a worker, as the master would.
    pub fn connect(&mut self, worker: usize, transport: Transport) -> Client {
        let (client, server) = UnixStream::pair().unwrap();
        let (handle, client) = self.seat(worker, transport, client.into());
        self.hand_over_seat(worker, handle, server.into());
        client
    }

    /// The same over the network, where the kernel counts. The worker has yet to be given the seat: see `hand_over`.
    pub fn dial(&mut self, worker: usize, transport: Transport) -> Client {
        let (client, server, _) = super::wires::tcp();
        let (handle, client) = self.seat(worker, transport, client.into());
        self.vault.push((handle, server.into()));
        client
    }

    /// Gives a worker the seat of a connection that was dialled.
    pub fn hand_over_dialled(&mut self, worker: usize, handle: RowHandle) {
        let (_, descriptor) = self.vault.iter().find(|(row, _)| *row == handle).unwrap();
        let descriptor = descriptor.try_clone().unwrap();
        self.hand_over_seat(worker, handle, descriptor);
    }

    fn hand_over_seat(&mut self, worker: usize, handle: RowHandle, descriptor: OwnedFd) {
        let seat = Seat {
            row: handle.row,
            generation: handle.generation,
        };
        let window = &mut self.windows[worker];
        self.works[worker].take_seats(vec![seat], vec![descriptor], window);
    }

    fn seat(
        &mut self,
        worker: usize,
        transport: Transport,
        client: OwnedFd,
    ) -> (RowHandle, Client) {
        let flags = nix::fcntl::OFlag::O_NONBLOCK;
        nix::fcntl::fcntl(&client, nix::fcntl::FcntlArg::F_SETFL(flags)).unwrap();
        let who = Newcomer {
            transport,
            peer: "127.0.0.1:1".parse().unwrap(),
            worker: ProcessId {
                slot: FIRST_WORKER + worker as u8,
                incarnation: self.incarnation(worker),
            },
            deadline_ms: self.table.now_ms() + 1000,
            consumed_at_accept: 0,
            written_at_accept: 0,
        };
        let handle = self.seats.seat(&who).expect("the table is full");
        let client = Client {
            socket: client.into(),
            handle,
            input: Vec::new(),
            ended: false,
        };
        (handle, client)
    }

    fn incarnation(&self, worker: usize) -> u16 {
        let slot = FIRST_WORKER + worker as u8;
        self.table
            .stats()
            .processes
            .iter()
            .find(|it| it.slot == slot)
            .unwrap()
            .incarnation
    }

    /// Turns one worker once; the other has no time.
    pub fn turn(&mut self, worker: usize) {
        let work = &mut self.works[worker];
        work.begin_turn();
        work.poller.wait(0, &mut work.events).unwrap();
        work.turn(&mut self.windows[worker]);
        self.assert_nobody_is_forgotten();
    }

    /// Has a worker hear its master.
    pub fn hear(&mut self, worker: usize, channel: &Channel, doorbells: &[OwnedFd]) {
        self.works[worker]
            .hear(channel, doorbells, &mut self.windows[worker])
            .unwrap();
    }

    /// Between two turns, whatever waits has somebody who will come for it. (Rows that are over are reported by the caller.)
    pub fn assert_nobody_is_forgotten(&self) {
        let mut findings = self.table.audit_waiting();
        findings.retain(|it| !it.contains("is over, and nobody has said so"));
        assert_eq!(findings, [""; 0]);
    }

    /// Turns both workers until nothing happens any more.
    pub fn settle(&mut self) {
        let mut quiet = 0;
        while quiet < 2 {
            quiet += 1;
            for (number, work) in self.works.iter_mut().enumerate() {
                if self.absent == Some(number) {
                    continue;
                }
                work.begin_turn();
                work.poller.wait(0, &mut work.events).unwrap();
                let waits =
                    work.has_more_to_do() || !work.congested.is_empty() || work.hands.has_fanout();
                if waits || !work.hands.about_to_sleep() {
                    quiet = 0;
                }
                work.hands.awake();
                work.turn(&mut self.windows[number]);
            }
            for worker in 0..WORKERS {
                self.reap(worker);
            }
            assert_eq!(self.table.audit_waiting(), [""; 0]);
        }
    }

    /// A TCP client that is logged in and has read what it was told so far.
    pub fn user(&mut self, worker: usize, name: &str) -> Client {
        let mut client = self.connect(worker, Transport::Tcp);
        client.say(&format!(r#"{{"type":"login","userName":"{name}"}}"#));
        self.settle();
        let lines = client.lines();
        assert!(lines[1].contains("hello, welcome"), "{lines:?}");
        client
    }

    /// Nothing of the past is left in the table.
    pub fn assert_empty(&mut self) {
        self.settle();
        assert_eq!(self.seats.seated(), 0);
        assert_eq!(self.table.audit(), Vec::<String>::new());
        for work in &self.works {
            assert_eq!(work.seats.taken(), 0);
        }
        let stats = self.table.stats();
        for section in &stats.sections {
            let remembered = section.name == "users" || section.name == "processes";
            if !remembered {
                assert_eq!(section.used, 0, "{}", section.name);
            }
        }
    }
}

fn work<'t>(table: &'t Table, me: ProcessId, settings: &Config) -> Work<'t> {
    let limits = HandsSettings {
        outbox_bytes: settings.limits.outbox_bytes,
    };
    let hands = table.hands(me, limits, Box::new(|| {}));
    hands.ready();
    let mut work = Work::new(table, hands, settings.clone(), Poller::new().unwrap());
    // However slow this machine is, a turn does all that there is to do.
    work.slice.most_us = u64::MAX;
    work
}

/// The other end of a connection.
pub struct Client {
    socket: File,
    pub handle: RowHandle,
    input: Vec<u8>,
    pub ended: bool,
}

impl Client {
    /// Sends a line.
    pub fn say(&mut self, line: &str) {
        self.send(line.as_bytes());
        self.send(b"\n");
    }

    /// Sends bytes; they must fit the socket.
    pub fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }

    /// Sends as much of the bytes as the socket takes.
    pub fn send_some(&mut self, bytes: &[u8]) -> usize {
        match self.socket.write(bytes) {
            Ok(sent) => sent,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => panic!("{error}"),
        }
    }

    /// The same for a connection that may have ended; then everything counts as sent.
    pub fn try_send(&mut self, bytes: &[u8]) -> usize {
        match self.socket.write(bytes) {
            Ok(sent) => sent,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(_) => bytes.len(),
        }
    }

    /// All bytes that have come since the last call.
    pub fn bytes(&mut self) -> Vec<u8> {
        self.receive();
        std::mem::take(&mut self.input)
    }

    /// All whole lines that have come since the last call.
    pub fn lines(&mut self) -> Vec<String> {
        self.receive();
        let end = self
            .input
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        let whole: Vec<u8> = self.input.drain(..end).collect();
        String::from_utf8(whole)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect()
    }

    /// The one line that has come.
    pub fn line(&mut self) -> String {
        let mut lines = self.lines();
        assert_eq!(lines.len(), 1, "{lines:?}");
        lines.remove(0)
    }

    fn receive(&mut self) {
        let mut chunk = [0; 65536];
        loop {
            match self.socket.read(&mut chunk) {
                Ok(0) => self.ended = true,
                Ok(count) => {
                    self.input.extend_from_slice(&chunk[..count]);
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::ConnectionReset => self.ended = true,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
            }
            return;
        }
    }

    /// Ends the client's direction.
    pub fn end(&self) {
        let end = nix::sys::socket::Shutdown::Write;
        // One that the server has ended already is not connected.
        let _ = nix::sys::socket::shutdown(self.socket.as_raw_fd(), end);
    }

    /// True once the server has ended its direction.
    pub fn has_ended(&mut self) -> bool {
        self.receive();
        self.ended
    }
}
