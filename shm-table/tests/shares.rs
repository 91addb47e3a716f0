//! What a session holds, what it may hold, and who goes when memory is short.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a failure names its place

use std::io::Write;

mod common;

use common::{connect, obey, read_all, roomy, send, small, used, worker};
use shm_table::{Envelope, Full, Hands, Order, RowHandle, Seats, Transport, Urgency};

fn pong(hands: &mut Hands<'_>, row: RowHandle, body: &str) {
    let envelope = Envelope {
        newline: true,
        ..Envelope::default()
    };
    let message = hands
        .compose(
            Urgency::Answer,
            |w| w.write_all(body.as_bytes()),
            |_| envelope,
        )
        .unwrap();
    let stream = hands.stream(row).unwrap();
    hands.deliver_pong(message, row, &stream).unwrap();
}

#[test]
fn what_a_session_holds_counts_in_whole_blocks_until_the_last_byte_is_written() {
    let table = small();
    let mut seats = Seats::new(&table);
    let (me, mut hands) = worker(&table, 0);
    let row = connect(&mut seats, &mut hands, me, Transport::WebSocket);
    send(&mut hands, &[row], b"");
    assert_eq!(hands.outbox_bytes(row), 256, "an empty one has a block");
    send(&mut hands, &[row], &[b'x'; 300]);
    assert_eq!(hands.outbox_bytes(row), 256 + 512);
    let mut stream = hands.stream(row).unwrap();
    for (taken, left) in [(1, 768), (1, 512), (301, 512), (1, 0)] {
        hands.write_output(row, &mut stream, |_| Ok(taken)).unwrap();
        assert_eq!(hands.outbox_bytes(row), left);
        assert_eq!(table.audit(), Vec::<String>::new());
    }
}

#[test]
fn a_pong_takes_the_place_of_the_newest_entry_if_that_is_one_that_waits() {
    let table = small();
    let mut seats = Seats::new(&table);
    let (me, mut hands) = worker(&table, 0);
    let row = connect(&mut seats, &mut hands, me, Transport::Tcp);
    for number in 0..1_000 {
        pong(&mut hands, row, &format!("pong {number}"));
    }
    assert_eq!(used(&table, "outbox_entries"), 1);
    send(&mut hands, &[row], b"between");
    pong(&mut hands, row, "behind");
    assert_eq!(used(&table, "outbox_entries"), 3);
    let mut stream = hands.stream(row).unwrap();
    hands.write_output(row, &mut stream, |_| Ok(4)).unwrap();
    pong(&mut hands, row, "last");
    assert_eq!(table.audit(), Vec::<String>::new());
    let rest = read_all(&mut hands, row, usize::MAX);
    assert_eq!(rest, b" 999\nbetween\nlast\n");
    pong(&mut hands, row, "begun");
    let mut stream = hands.stream(row).unwrap();
    hands.write_output(row, &mut stream, |_| Ok(2)).unwrap();
    pong(&mut hands, row, "whole");
    assert_eq!(read_all(&mut hands, row, usize::MAX), b"gun\nwhole\n");
    assert_eq!(used(&table, "arena_blocks"), 0);
    assert_eq!(table.audit(), Vec::<String>::new());
}

#[test]
fn where_memory_is_tight_who_holds_much_is_refused_more_and_who_holds_little_is_not() {
    let table = roomy();
    let mut seats = Seats::new(&table);
    let (me, mut hands) = worker(&table, 0);
    let rows: Vec<_> = (0..4)
        .map(|_| connect(&mut seats, &mut hands, me, Transport::Tcp))
        .collect();
    let [hog, holder, blocked, neighbour] = rows[..] else {
        unreachable!()
    };
    let body = vec![b'x'; 3_000];
    for row in [holder, blocked] {
        for _ in 0..3 {
            assert_eq!(send(&mut hands, &[row], &body), 1);
        }
    }
    hands.set_blocked(blocked, true);
    hands.take_congestion();
    // An incomplete message has nearly all of it.
    let mut stream = hands.stream(hog).unwrap();
    while hands.must_wait_for_memory(&stream).is_none() {
        hands.receive_append(&mut stream, &body).unwrap();
        hands.look_at_supply();
    }
    hands.commit(hog, &stream);
    assert!(hands.is_memory_tight());
    let idle = hands.stream(neighbour).unwrap();
    assert_eq!(hands.must_wait_for_memory(&idle), None);
    assert_eq!(hands.doorbells_to_ring(), 0, "no timer sleeps here");
    while hands.share_bytes() > 9_000 {
        hands.receive_append(&mut stream, &body).unwrap();
        hands.look_at_supply();
    }
    hands.commit(hog, &stream);
    let waits = hands.must_wait_for_memory(&stream).unwrap();
    assert!(!hands.is_relieved(waits));

    let try_send = |hands: &mut Hands<'_>, to| {
        let message = hands.compose(
            Urgency::Message,
            |w| w.write_all(&body),
            |_| Envelope::default(),
        );
        hands.deliver(message.unwrap(), &[to], Urgency::Message)
    };
    assert_eq!(try_send(&mut hands, holder), Err(Full));
    assert!(obey(&hands, holder).is_empty(), "it is not to blame");
    assert_eq!(try_send(&mut hands, blocked), Ok(0));
    assert!(obey(&hands, blocked).has(Order::SLOW));
    assert_eq!(try_send(&mut hands, neighbour), Ok(1));

    let census = hands.census();
    assert!(census.is_short);
    assert!(obey(&hands, hog).has(Order::EVICTED));
    for row in [holder, blocked, neighbour] {
        assert!(!obey(&hands, row).has(Order::EVICTED));
    }
    hands.receive_truncate(&mut stream, 0);
    hands.commit(hog, &stream);
    assert!(hands.is_relieved(waits));
    assert!(!hands.census().is_short);
    assert_eq!(table.audit(), Vec::<String>::new());
}
