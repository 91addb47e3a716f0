//! A small table in private memory, its master and some workers' hands, all in one thread.

#![allow(dead_code)] // each test binary uses its part

use std::io::Write;

use shm_table::{
    Capacity, Envelope, FANNING_OUT_FLAG, FIRST_WORKER, Hands, HandsSettings, Login, Newcomer,
    Order, Orders, ProcessId, Role, RowHandle, SameUser, Seats, State, Step, Table, Transport,
    Urgency,
};

/// A table with few of everything, so that limits are near; and old, so that every counter wraps soon. (The black-box tests have new ones.)
pub fn small() -> Table {
    table_of(64 * 1024)
}

/// The same with an arena in which the share of a session is its limit.
pub fn roomy() -> Table {
    table_of(1024 * 1024)
}

fn table_of(arena_bytes: u64) -> Table {
    let table = Table::private(&Capacity {
        sessions: 16,
        arena_bytes,
        groups: 4,
        memberships: 40,
        workers: 2,
        hosts: 2,
    });
    table.begin_near_wrap();
    table
}

/// Starts worker `n` (0 or 1) of the table.
pub fn worker(table: &Table, n: u8) -> (ProcessId, Hands<'_>) {
    let me = table.start_process(FIRST_WORKER + n, Role::Worker);
    let hands = table.hands(
        me,
        HandsSettings { outbox_bytes: 8192 },
        Box::new(|| panic!("waiting for a lock that nobody will open")),
    );
    hands.ready();
    (me, hands)
}

/// Seats a connection and has its worker take it, up to `Connected`.
pub fn connect(
    seats: &mut Seats<'_>,
    hands: &mut Hands<'_>,
    worker: ProcessId,
    transport: Transport,
) -> RowHandle {
    let peer = "192.0.2.7:4711".parse().unwrap();
    let handle = seats
        .seat(&Newcomer {
            transport,
            peer,
            worker,
            // Every connection has one; this one lies ahead of all that a test does.
            deadline_ms: 1_000_000_000,
            consumed_at_accept: 0,
            written_at_accept: 0,
        })
        .unwrap();
    hands.claim(handle, State::Connected, 0).unwrap();
    handle
}

/// Logs a user in on a row.
pub fn login(hands: &mut Hands<'_>, handle: RowHandle, user: &str) {
    let login = Login {
        user,
        device_id: "phone",
        device_model: "model",
        policy: SameUser::Many,
        sessions_per_user: 0,
    };
    hands.login(handle, &login).unwrap();
}

/// Sends `body` to rows and returns how many got it.
pub fn send(hands: &mut Hands<'_>, to: &[RowHandle], body: &[u8]) -> u32 {
    let mut envelope = Envelope {
        newline: true,
        prefix_len: 2,
        ..Envelope::default()
    };
    envelope.prefix[..2].copy_from_slice(b"HH");
    let message = hands
        .compose(Urgency::Message, |w| w.write_all(body), |_| envelope)
        .unwrap();
    hands.deliver(message, to, Urgency::Message).unwrap()
}

/// Writes all of a row's output into a string, `at_most` bytes a call.
pub fn read_all(hands: &mut Hands<'_>, handle: RowHandle, at_most: usize) -> Vec<u8> {
    let mut read = Vec::new();
    let mut stream = hands.stream(handle).unwrap();
    while hands.has_output(handle, &stream) {
        hands
            .write_output(handle, &mut stream, |bytes| {
                let taken = bytes.len().min(at_most);
                read.extend_from_slice(&bytes[..taken]);
                Ok(taken)
            })
            .unwrap();
    }
    read
}

/// Elements of a section in use.
pub fn used(table: &Table, section: &str) -> u64 {
    table
        .stats()
        .sections
        .iter()
        .find(|s| s.name == section)
        .unwrap()
        .used
}

/// Takes a row's orders and counts them as carried out.
pub fn obey(hands: &Hands<'_>, handle: RowHandle) -> Orders {
    let orders = hands.orders(handle);
    hands.obeyed(handle, orders);
    orders
}

/// Does all fan-outs of a worker, so many recipients at a time; `told` hears of each one's end before its sender does.
pub fn finish_fanouts(hands: &mut Hands<'_>, at_once: u32, told: impl Fn(RowHandle, &[u8])) {
    loop {
        match hands.fan_out(at_once) {
            Step::None => return,
            Step::Done(recipients) => assert!(recipients <= at_once),
            Step::Waits => panic!("there are no entries"),
            Step::Over => {
                let done = hands.fanned_out().unwrap();
                told(done.sender, &done.note);
                hands.order(done.sender, Order::FANNED_OUT);
                hands.end_fanout();
            }
        }
    }
}

/// Takes a row's orders; if a fan-out of its is over, it counts as read again.
pub fn obey_fanned_out(hands: &mut Hands<'_>, handle: RowHandle) {
    let orders = hands.orders(handle);
    if orders.has(Order::FANNED_OUT) && !hands.has_fanout_of(handle, None) {
        let mut stream = hands.stream(handle).unwrap();
        stream.flags &= !FANNING_OUT_FLAG;
        hands.commit(handle, &stream);
    }
    hands.obeyed(handle, orders);
}
