//! Clocks and counters at the end of their range: what was counted before a wrap is never taken for what is counted after it.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a failure names its place

mod common;

use std::collections::HashSet;

use common::{connect, login, read_all, send, small, worker};
use shm_table::{
    CLOCK_MARKS_MAX, ClockMark, FIRST_WORKER, Newcomer, Order, Role, Seats, State, Table,
    Transport, host_ms,
};

/// The table's time at which the ticks of deadlines wrap.
const WRAP_MS: u64 = 16 << 32;

#[test]
fn deadlines_hold_across_the_wrap_of_their_ticks() {
    let table = small();
    let mut seats = Seats::new(&table);
    let (me, mut hands) = worker(&table, 0);
    let now = table.now_ms();
    assert!(now < WRAP_MS && WRAP_MS < now + 60_000);
    let row = connect(&mut seats, &mut hands, me, Transport::Tcp);
    let gone = connect(&mut seats, &mut hands, me, Transport::Tcp);
    // Up to one that would be tick 0, which means that there is none.
    for at_ms in [
        now + 5,
        WRAP_MS - 17,
        WRAP_MS - 16,
        WRAP_MS - 1,
        WRAP_MS,
        WRAP_MS + 60_000,
    ] {
        hands.set_deadline(row, at_ms);
        let said = hands.deadline(row);
        assert!((at_ms..=at_ms + 32).contains(&said), "{said} for {at_ms}");
        // The timer is not early, and it is not late.
        assert_eq!(hands.expire_deadlines(at_ms - 1).expired, 0, "{at_ms}");
        assert_eq!(hands.deadline(row), said);
        assert_eq!(hands.expire_deadlines(at_ms + 32).expired, 1, "{at_ms}");
        assert_eq!(hands.deadline(row), 0);
        assert!(hands.orders(row).has(Order::DEADLINE));
        hands.obeyed(row, hands.orders(row));
    }
    assert!(hands.orders(gone).is_empty());
    // One that passed before the wrap, and that nobody has looked at since.
    hands.set_deadline(row, WRAP_MS - 1000);
    assert_eq!(hands.expire_deadlines(WRAP_MS + 1000).expired, 1);
}

#[test]
fn a_row_serves_connections_across_the_wrap_of_its_generation() {
    let table = small();
    let mut seats = Seats::new(&table);
    let (me, mut hands) = worker(&table, 0);
    let (other, mut others) = worker(&table, 1);
    let reader = connect(&mut seats, &mut others, other, Transport::Tcp);
    login(&mut others, reader, "bob");
    let (mut ids, mut handles) = (HashSet::new(), Vec::new());
    for n in 0..12_u32 {
        let row = connect(&mut seats, &mut hands, me, Transport::Tcp);
        assert!(ids.insert(hands.session_id(row).to_string()));
        login(&mut hands, row, "ann");
        let mut found = Vec::new();
        others.sessions_of("ann", &mut found);
        assert_eq!(found, [row]);
        let text = format!("{n}\n");
        assert_eq!(send(&mut hands, &[reader], text.as_bytes()), 1);
        assert_eq!(send(&mut others, &[row], b"hello"), 1);
        for &gone in &handles {
            assert_eq!(send(&mut others, &[gone], b"late"), 0);
            assert_eq!(others.state(gone), None);
        }
        assert!(!read_all(&mut hands, row, 100).is_empty());
        assert!(!read_all(&mut others, reader, 100).is_empty());
        hands.set_state(row, State::Closing);
        hands.finish(row);
        assert!(seats.free(row));
        handles.push(row);
    }
    let generations: Vec<u32> = handles.iter().map(|handle| handle.generation).collect();
    assert!(generations.contains(&u32::MAX) && generations.contains(&0));
    assert_eq!(table.audit(), [""; 0]);
}

#[test]
fn a_process_is_never_taken_for_one_of_long_ago_that_left_a_row() {
    let table = small();
    let mut seats = Seats::new(&table);
    let (first, mut hands) = worker(&table, 0);
    let row = connect(&mut seats, &mut hands, first, Transport::Tcp);
    drop(hands);
    table.process_ended(first);
    // None of these comes to take over what it finds. A crash loop of ten seconds takes a week for them.
    for _ in 0..2 * u32::from(u16::MAX) {
        let next = table.start_process(FIRST_WORKER, Role::Worker);
        assert_ne!(
            next, first,
            "the row would be its own before it has claimed it"
        );
        table.process_ended(next);
    }
    let (_, mut hands) = worker(&table, 0);
    assert_eq!(hands.own_rows().count(), 0);
    assert!(hands.claim(row, State::Connected, 0).is_ok());
    assert_eq!(hands.own_rows().count(), 1);
}

#[test]
fn a_login_is_noted_by_a_clock_that_nobody_sets() {
    let table = small();
    let mut seats = Seats::new(&table);
    let (me, mut hands) = worker(&table, 0);
    let row = connect(&mut seats, &mut hands, me, Transport::Tcp);
    let before = host_ms();
    login(&mut hands, row, "ann");
    assert!((before..=host_ms()).contains(&hands.logged_in_at(row).unwrap()));
}

#[test]
fn a_session_begins_with_the_ordinal_that_the_table_says() {
    let newcomer = |worker| Newcomer {
        transport: Transport::Tcp,
        peer: "192.0.2.7:4711".parse().unwrap(),
        worker,
        deadline_ms: 0,
        consumed_at_accept: 0,
        written_at_accept: 0,
    };
    let ordinal = |table: &Table| {
        let (me, mut hands) = worker(table, 0);
        let row = Seats::new(table).seat(&newcomer(me)).unwrap();
        hands.claim(row, State::Connected, 0).unwrap();
        hands.stream(row).unwrap().ordinal
    };
    assert_eq!(ordinal(&Table::private(&small().capacity())), 0);
    assert!(ordinal(&small()) > u32::MAX - 10);
}

#[test]
fn the_measurements_of_the_directory_s_clock_are_there_for_the_next_link() {
    let table = small();
    assert_eq!(table.clock_marks(), []);
    let marks: Vec<ClockMark> = (0..CLOCK_MARKS_MAX as i64)
        .map(|n| ClockMark {
            from_ms: n as u64 * 500,
            ahead_ms: n - 3,
        })
        .collect();
    for count in [CLOCK_MARKS_MAX, 1, 3] {
        table.set_clock_marks(&marks[..count]);
        assert_eq!(table.clock_marks(), marks[..count]);
    }
}

#[cfg(feature = "kill-points")]
#[test]
fn a_link_that_is_killed_over_its_measurements_leaves_the_old_or_the_new_ones() {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use shm_table::kill_point;

    let mark = |ahead_ms| ClockMark {
        from_ms: 0,
        ahead_ms,
    };
    let (before, after) = (vec![mark(1), mark(2)], vec![mark(3)]);
    let mut stores = 0;
    loop {
        stores += 1;
        let table = small();
        table.set_clock_marks(&before);
        kill_point::arm(stores);
        let outcome = catch_unwind(AssertUnwindSafe(|| table.set_clock_marks(&after)));
        let killed = kill_point::revive();
        assert_eq!(killed, outcome.is_err());
        let left = table.clock_marks();
        if !killed {
            assert_eq!(left, after);
            break;
        }
        assert!(
            left == before || left == after,
            "after {stores} stores: {left:?}"
        );
    }
    assert!(stores > 5, "it was killed at some of its stores");
}
