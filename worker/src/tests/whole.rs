//! The real event loop: a segment, two workers on threads of their own, the master's part by hand,
//! clients on real sockets.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use role::{Channel, MasterEnd, Seat, Start, ToMaster, ToRole};
use shm_table::{
    Capacity, FIRST_WORKER, Newcomer, ProcessId, Role, RowHandle, Seats, Table, Transport,
};

struct Worker {
    me: ProcessId,
    channel: MasterEnd,
    thread: JoinHandle<Result<(), crate::Error>>,
    buffer: sys::packet::Buffer,
}

impl Worker {
    fn start(table: &Table, slot: u8, doorbells: &[OwnedFd]) -> Worker {
        let me = table.start_process(slot, Role::Worker);
        let (channel, theirs) = MasterEnd::pair().unwrap();
        let doorbells: Vec<OwnedFd> = doorbells
            .iter()
            .map(|bell| bell.try_clone().unwrap())
            .collect();
        let segment = table.file().unwrap().try_clone_to_owned().unwrap();
        let identity = table.identity().0;
        let thread = std::thread::spawn(move || {
            crate::run(Start {
                channel: Rc::new(Channel::new(theirs)),
                slot: me.slot,
                incarnation: me.incarnation,
                segment,
                identity,
                settings: super::house::settings(),
                doorbells,
            })
        });
        let mut worker = Worker {
            me,
            channel,
            thread,
            buffer: Default::default(),
        };
        assert_eq!(worker.hear(), ToMaster::Ready);
        worker.say(ToRole::Begin);
        worker
    }

    fn hear(&mut self) -> ToMaster {
        let patience = Instant::now() + Duration::from_secs(10);
        loop {
            if let Some(message) = self.channel.receive(&mut self.buffer).unwrap() {
                return message;
            }
            assert!(
                Instant::now() < patience && !self.thread.is_finished(),
                "no word of a worker"
            );
            std::thread::yield_now();
        }
    }

    fn say(&mut self, message: ToRole) {
        self.channel.queue(message);
        self.channel.flush(|_| None).unwrap();
    }

    /// Seats one end of a TCP connection and gives the other.
    fn connect(&mut self, table: &Table, seats: &mut Seats<'_>) -> BufReader<TcpStream> {
        let (client, server, peer) = super::wires::tcp();
        client
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let who = Newcomer {
            transport: Transport::Tcp,
            peer,
            worker: self.me,
            deadline_ms: table.now_ms() + 60_000,
            consumed_at_accept: 0,
            written_at_accept: 0,
        };
        let handle = seats.seat(&who).unwrap();
        self.channel.queue_seat(Seat {
            row: handle.row,
            generation: handle.generation,
        });
        self.channel.flush(|_| Some(server.as_fd())).unwrap();
        BufReader::new(client)
    }
}

fn line(client: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    client.read_line(&mut line).unwrap();
    line
}

#[test]
fn two_workers_pass_messages_and_end_when_asked() {
    let capacity = Capacity {
        sessions: 8,
        arena_bytes: 1 << 20,
        groups: 4,
        memberships: 16,
        workers: 2,
        hosts: 0,
    };
    let (table, _claim) = Table::create(&capacity).unwrap();
    let mut seats = Seats::new(&table);
    let doorbells: Vec<OwnedFd> = (0..table.slots())
        .map(|_| role::doorbell().unwrap())
        .collect();
    let mut first = Worker::start(&table, FIRST_WORKER, &doorbells);
    let mut second = Worker::start(&table, FIRST_WORKER + 1, &doorbells);

    let mut ada = first.connect(&table, &mut seats);
    let mut bob = second.connect(&table, &mut seats);
    for (client, name) in [(&mut ada, "ada"), (&mut bob, "bob")] {
        assert!(line(client).contains(r#""type":"open""#));
        writeln!(
            client.get_mut(),
            r#"{{"type":"login","userName":"{name}"}}"#
        )
        .unwrap();
        assert!(line(client).contains("hello, welcome"));
    }
    for number in 0..200 {
        let send = format!(r#"{{"type":"sendto","to":"bob","content":{number},"id":{number}}}"#);
        writeln!(ada.get_mut(), "{send}").unwrap();
        assert!(line(&mut bob).contains(&format!(r#""content":{number},"#)));
        assert!(line(&mut ada).contains("delivered"));
    }

    // A worker that is stopped for a repair goes on where it was.
    second.say(ToRole::Pause);
    assert_eq!(second.hear(), ToMaster::Paused);
    writeln!(
        ada.get_mut(),
        r#"{{"type":"sendto","to":"bob","content":"later","id":1}}"#
    )
    .unwrap();
    assert!(line(&mut ada).contains("delivered"));
    second.say(ToRole::Resume);
    assert!(line(&mut bob).contains("later"));

    drop(ada);
    let ToMaster::Finished(over) = first.hear() else {
        panic!("ada's end was not reported")
    };
    assert_eq!(over.len(), 1);
    assert!(seats.free(RowHandle {
        row: over[0].row,
        generation: over[0].generation
    }));

    for worker in [&mut first, &mut second] {
        worker.say(ToRole::Drain);
    }
    assert!(line(&mut bob).contains("shutdown"));
    assert!(line(&mut bob).contains(r#""closeCode":1001"#));
    assert_eq!(line(&mut bob), "");
    drop(bob);
    let ToMaster::Finished(over) = second.hear() else {
        panic!("bob's end was not reported")
    };
    assert!(seats.free(RowHandle {
        row: over[0].row,
        generation: over[0].generation
    }));
    for worker in [first, second] {
        assert!(worker.thread.join().unwrap().is_ok());
    }
    assert_eq!(table.audit(), Vec::<String>::new());
}
