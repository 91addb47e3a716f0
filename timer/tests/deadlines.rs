//! A timer at work on a real segment, with a master's and a worker's part played by the test.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::os::fd::AsFd;
use std::rc::Rc;
use std::thread::{self, JoinHandle};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use role::{Channel, MasterEnd, Start, ToMaster, ToRole};
use shm_table::{
    Capacity, FIRST_WORKER, HandsSettings, Newcomer, Order, ProcessState, Role, Seats, State,
    TIMER, Table, Transport,
};
use sys::packet::Buffer;

/// No deadline may be noticed later than this, milliseconds (a quarter of a second is promised to clients).
const LATE_MAX: u64 = 200;

fn wait_for(fd: impl AsFd) -> bool {
    poll(
        &mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)],
        PollTimeout::from(5000u16),
    )
    .unwrap()
        == 1
}

fn next(master: &mut MasterEnd) -> ToMaster {
    assert!(wait_for(&*master), "the timer says nothing");
    master.receive(&mut Buffer::default()).unwrap().unwrap()
}

fn tell(master: &mut MasterEnd, message: ToRole) {
    master.queue(message);
    master.flush(|_| None).unwrap();
}

struct Timer {
    master: MasterEnd,
    thread: JoinHandle<Result<(), timer::Error>>,
    doorbells: Vec<std::os::fd::OwnedFd>,
}

impl Timer {
    fn start(table: &Table) -> Self {
        let (master, socket) = MasterEnd::pair().unwrap();
        let doorbells: Vec<_> = (0..table.slots())
            .map(|_| role::doorbell().unwrap())
            .collect();
        let copies = doorbells
            .iter()
            .map(|bell| bell.try_clone().unwrap())
            .collect();
        let id = table.start_process(TIMER, Role::Timer);
        let segment = table.file().unwrap().try_clone_to_owned().unwrap();
        let identity = table.identity().0;
        let thread = thread::spawn(move || {
            timer::run(Start {
                channel: Rc::new(Channel::new(socket)),
                slot: id.slot,
                incarnation: id.incarnation,
                segment,
                identity,
                settings: config::Config::default(),
                doorbells: copies,
            })
        });
        let mut timer = Self {
            master,
            thread,
            doorbells,
        };
        assert_eq!(next(&mut timer.master), ToMaster::Ready);
        timer
    }
}

#[test]
fn a_passed_deadline_wakes_the_worker_in_time_with_an_order() {
    let capacity = Capacity {
        sessions: 4,
        arena_bytes: 1 << 20,
        groups: 4,
        memberships: 4,
        workers: 1,
        hosts: 0,
    };
    let (table, _claim) = Table::create(&capacity).unwrap();
    let worker = table.start_process(FIRST_WORKER, Role::Worker);
    let mut hands = table.hands(
        worker,
        HandsSettings { outbox_bytes: 4096 },
        Box::new(|| {}),
    );
    let mut timer = Timer::start(&table);
    tell(&mut timer.master, ToRole::Begin);

    let mut seats = Seats::new(&table);
    let peer = "127.0.0.1:1".parse().unwrap();
    let mut seat = |deadline_ms| {
        let newcomer = Newcomer {
            transport: Transport::Tcp,
            peer,
            worker,
            deadline_ms,
            consumed_at_accept: 0,
            written_at_accept: 0,
        };
        let row = seats.seat(&newcomer).unwrap();
        hands.claim(row, State::Connected, 0).unwrap();
        row
    };
    let at_ms = table.now_ms() + 100;
    let soon = seat(at_ms);
    seat(at_ms + 3_600_000);
    seat(0);

    // Whoever takes a row makes it ready; that is not what is waited for here.
    while hands.next_ready().is_some() {}
    while !hands.about_to_sleep() {
        while hands.next_ready().is_some() {}
    }
    assert!(
        wait_for(&timer.doorbells[usize::from(FIRST_WORKER)]),
        "the worker is not woken"
    );
    let now = table.now_ms();
    hands.awake();
    assert!(
        (at_ms..=at_ms + LATE_MAX).contains(&now),
        "{now} for {at_ms}"
    );
    assert_eq!(hands.next_ready(), Some(soon));
    assert!(hands.orders(soon).has(Order::DEADLINE));
    assert_eq!(hands.next_ready(), None, "only the late one");

    // It stands still when it is asked to, and ends when it is asked to.
    tell(&mut timer.master, ToRole::Pause);
    assert_eq!(next(&mut timer.master), ToMaster::Paused);
    tell(&mut timer.master, ToRole::Resume);
    tell(&mut timer.master, ToRole::Drain);
    timer.thread.join().unwrap().unwrap();
}

#[test]
fn it_touches_nothing_before_it_may_begin_nor_after_it_left() {
    let capacity = Capacity {
        sessions: 4,
        arena_bytes: 1 << 20,
        groups: 4,
        memberships: 4,
        workers: 1,
        hosts: 0,
    };
    let (table, _claim) = Table::create(&capacity).unwrap();
    let state = || {
        let stats = table.stats();
        let timer = stats.processes.iter().find(|p| p.slot == TIMER).unwrap();
        timer.state
    };
    let mut timer = Timer::start(&table);
    assert_eq!(state(), ProcessState::Starting, "it is ready and waits");
    tell(&mut timer.master, ToRole::Begin);
    tell(&mut timer.master, ToRole::Pause);
    assert_eq!(next(&mut timer.master), ToMaster::Paused);
    assert_eq!(state(), ProcessState::Running);
    tell(&mut timer.master, ToRole::Resume);
    tell(&mut timer.master, ToRole::Leave);
    assert_eq!(next(&mut timer.master), ToMaster::Left);
    timer.thread.join().unwrap().unwrap();
}

#[test]
fn without_a_segment_it_cannot_work() {
    let null = std::fs::File::open("/dev/null").unwrap();
    let (_master, socket) = MasterEnd::pair().unwrap();
    let error = timer::run(Start {
        channel: Rc::new(Channel::new(socket)),
        slot: TIMER,
        incarnation: 1,
        segment: null.into(),
        identity: [1, 2],
        settings: config::Config::default(),
        doorbells: Vec::new(),
    })
    .unwrap_err();
    assert!(error.cannot_work());
}
