//! Stop the writer after its N-th store to shared memory, for every N, and let the recovery prove itself.
//!
//! Each operation is done by a worker that dies after its first store, its second, and so on until it gets
//! through. Each time the master recovers the table; then the audit must find nothing, the other worker's
//! sessions must be as they were, a message must have arrived whole or not at all, a successor takes over the dead
//! one's rows as they were before the operation or after it and writes every byte once, it must be able to do
//! the same operation, and when all have gone nothing may be left.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a failure names its place

#[path = "../common/mod.rs"]
mod common;
mod histories;
mod silence;
mod waiting;
mod world;

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

use common::{connect, finish_fanouts, login, obey, obey_fanned_out, send, small, worker};
use shm_table::{
    Envelope, FANNING_OUT_FLAG, GroupLimits, Hands, Order, Seats, State, Transport, Urgency,
    kill_point,
};
use world::{Operation, kill_everywhere, kill_operation};

const LIMITS: GroupLimits = GroupLimits::per_session(100);

fn long_body() -> Vec<u8> {
    (0..700_u32).map(|at| b'a' + (at % 26) as u8).collect()
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

#[test]
fn a_pong_in_the_place_of_one_that_waits() {
    let pong = |hands: &mut Hands<'_>, row, body: &[u8]| {
        let message = hands
            .compose(Urgency::Answer, |w| w.write_all(body), |_| envelope())
            .unwrap();
        let stream = hands.stream(row).unwrap();
        hands.deliver_pong(message, row, &stream).unwrap();
    };
    kill_operation(&Operation {
        name: "pong",
        act: &|hands, rows, _, wire| {
            pong(hands, rows[1], b"one");
            pong(hands, rows[1], b"two");
            // In order, and none of it written.
            let mut stream = hands.stream(rows[1]).unwrap();
            wire.write_once(hands, rows[1], &mut stream, 3);
            pong(hands, rows[1], b"three");
            wire.write(hands, rows[1], usize::MAX);
            pong(hands, rows[1], b"four");
            // Half of it written: it stays.
            let mut stream = hands.stream(rows[1]).unwrap();
            wire.write_once(hands, rows[1], &mut stream, 2);
            pong(hands, rows[1], b"five");
            pong(hands, rows[1], b"six");
            wire.write(hands, rows[1], usize::MAX);
        },
        lines: ["one", "two", "three", "four", "five", "six"]
            .map(|body| body.as_bytes().to_vec())
            .to_vec(),
        received: Vec::new(),
    });
}

#[test]
fn taking_a_census_of_a_full_arena() {
    let mut expected = None;
    // First without a death.
    for stores in std::iter::once(u64::MAX).chain(1..) {
        let table = small();
        let mut seats = Seats::new(&table);
        let (me, mut hands) = worker(&table, 0);
        let (taker, mut other) = worker(&table, 1);
        let rows = [2_000, 7_000, 8_000, 8_000, 7_000, 8_000, 7_000, 2_000].map(|bytes| {
            let row = connect(&mut seats, &mut hands, me, Transport::Tcp);
            let mut stream = hands.stream(row).unwrap();
            hands
                .receive_append(&mut stream, &vec![b'x'; bytes])
                .unwrap();
            hands.commit(row, &stream);
            row
        });
        kill_point::arm(stores);
        let taken = catch_unwind(AssertUnwindSafe(|| other.census()));
        let killed = kill_point::revive();
        assert_eq!(taken.is_err(), killed, "after store {stores}");
        table.request_pause();
        let dead = [taker];
        table.recover(&mut seats, if killed { &dead } else { &[] });
        table.end_pause();
        // Whoever comes next orders what was not ordered yet, and no more.
        assert!(hands.census().is_short);
        let ordered = rows.map(|row| hands.orders(row).has(Order::EVICTED));
        assert!(ordered.iter().any(|ordered| *ordered) && !ordered[0] && !ordered[7]);
        let expected = *expected.get_or_insert(ordered);
        assert_eq!(ordered, expected, "after store {stores}");
        assert!(hands.census().evictions.is_empty());
        assert_eq!(table.audit(), [""; 0], "after store {stores}");
        assert_eq!(table.audit_waiting(), [""; 0], "after store {stores}");
        if !killed && stores < u64::MAX {
            assert!(stores > 3, "an order and its marks");
            return;
        }
    }
}

#[test]
fn fanning_out_to_rows_of_both_workers() {
    kill_operation(&Operation {
        name: "fan out",
        act: &|hands, rows, others, _| {
            let mut compose = || {
                let body = long_body();
                hands
                    .compose(Urgency::Message, |w| w.write_all(&body), |_| envelope())
                    .unwrap()
            };
            let messages = [compose(), compose(), compose()];
            // Some of the list is nobody any more.
            let gone = shm_table::RowHandle {
                generation: rows[1].generation.wrapping_sub(1),
                ..rows[1]
            };
            let to: Vec<_> = std::iter::repeat_n(gone, 70)
                .chain([rows[1], others[0], others[1], rows[2]])
                .collect();
            let [one, two, three] = messages;
            let given_up = hands.prepare_fanout(one, &to).unwrap();
            hands.give_up_fanout(given_up);
            let mut stream = hands.stream(rows[2]).unwrap();
            // Two in the list, one of them for nobody.
            let prepared = hands.prepare_fanout(two, &to).unwrap();
            hands.begin_fanout(prepared, rows[2], stream.ordinal, b"note");
            stream.flags |= FANNING_OUT_FLAG;
            hands.commit(rows[2], &stream);
            let prepared = hands.prepare_fanout(three, &to[..2]).unwrap();
            hands.begin_fanout(prepared, rows[0], 7, b"");
            assert!(hands.has_fanout_of(rows[2], Some(stream.ordinal)));
            finish_fanouts(hands, 3, |sender, note| {
                assert_eq!(note == b"note", sender == rows[2]);
            });
            hands.doorbells_to_ring();
            obey_fanned_out(hands, rows[2]);
        },
        lines: vec![long_body(); 2],
        received: Vec::new(),
    });
}
