//! Two workers, their table, the master's part played by the test, and clients.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use config::Config;
use role::Seat;
use shm_table::{
    Capacity, FIRST_WORKER, HandsSettings, Newcomer, ReadWindow, Role, RowHandle, Seats, Table,
    Transport,
};

use crate::poller::Poller;
use crate::work::Work;

pub const WORKERS: usize = 2;

/// The server.
pub struct House<'t> {
    pub table: &'t Table,
    pub seats: Seats<'t>,
    pub works: Vec<Work<'t>>,
    window: ReadWindow<'t>,
}

/// A small table: capacity is a limit to be met in a test.
pub fn table(sessions: u32) -> Table {
    table_with_arena(sessions, 4 << 20)
}

/// The same with another arena.
pub fn table_with_arena(sessions: u32, arena_bytes: u64) -> Table {
    Table::private(&Capacity {
        sessions,
        arena_bytes,
        groups: 4,
        memberships: 16,
        workers: WORKERS as u8,
    })
}

impl<'t> House<'t> {
    pub fn new(table: &'t Table, settings: &Config) -> Self {
        let mut works = Vec::new();
        for number in 0..WORKERS as u8 {
            let me = table.start_process(FIRST_WORKER + number, Role::Worker);
            let limits = HandsSettings {
                outbox_bytes: settings.limits.outbox_bytes,
            };
            let hands = table.hands(me, limits, Box::new(|| {}));
            let poller = Rc::new(Poller::new().unwrap());
            works.push(Work::new(table, hands, settings.clone(), poller));
        }
        let me = shm_table::ProcessId {
            slot: FIRST_WORKER,
            incarnation: 1,
        };
        let window = table.read_window(me).unwrap();
        House {
            table,
            seats: Seats::new(table),
            works,
            window,
        }
    }

    /// Connects a client to a worker, as the master would.
    pub fn connect(&mut self, worker: usize, transport: Transport) -> Client {
        let (client, server) = UnixStream::pair().unwrap();
        client.set_nonblocking(true).unwrap();
        let process = shm_table::ProcessId {
            slot: FIRST_WORKER + worker as u8,
            incarnation: self.incarnation(worker),
        };
        let who = Newcomer {
            transport,
            peer: "127.0.0.1:1".parse().unwrap(),
            worker: process,
            deadline_ms: self.table.now_ms() + 1000,
        };
        let handle = self.seats.seat(&who).expect("the table is full");
        let seat = Seat {
            row: handle.row,
            generation: handle.generation,
        };
        self.works[worker].take_seats(vec![seat], vec![OwnedFd::from(server)]);
        Client {
            socket: client,
            handle,
            input: Vec::new(),
            ended: false,
        }
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
        let mut events = Vec::new();
        let work = &mut self.works[worker];
        work.poller.take(&mut events).unwrap();
        work.turn(&mut self.window, &mut events);
    }

    /// Turns both workers until nothing happens any more.
    pub fn settle(&mut self) {
        let mut events = Vec::new();
        let mut quiet = 0;
        while quiet < 2 {
            quiet += 1;
            for work in &mut self.works {
                work.clock = crate::clock::Clock::now(self.table.now_ms());
                work.poller.take(&mut events).unwrap();
                let waits = !work.again.is_empty() || !work.congested.is_empty();
                if !events.is_empty() || waits || !work.hands.about_to_sleep() {
                    quiet = 0;
                }
                work.hands.awake();
                work.turn(&mut self.window, &mut events);
                for seat in work.finished.drain(..) {
                    let handle = RowHandle {
                        row: seat.row,
                        generation: seat.generation,
                    };
                    assert!(self.seats.free(handle), "{handle:?} was not done");
                }
            }
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

/// The other end of a connection.
pub struct Client {
    socket: UnixStream,
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
        self.socket.shutdown(std::net::Shutdown::Write).unwrap();
    }

    /// True once the server has ended its direction.
    pub fn has_ended(&mut self) -> bool {
        self.receive();
        self.ended
    }
}
