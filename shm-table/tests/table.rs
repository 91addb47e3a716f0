//! What rows, outboxes and receive buffers do when nobody dies.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a failure names its place

use std::io::Write;
use std::os::fd::OwnedFd;

mod common;

use common::{connect, login, obey, read_all, roomy, send, small, used, worker};
use shm_table::{
    Envelope, Expiry, Full, Newcomer, Order, SHORT_BYTES_MAX, Seats, State, Table, Transport,
    Urgency,
};

#[test]
fn a_row_is_given_taken_finished_and_given_again_with_another_generation() {
    let table = small();
    let mut seats = Seats::new(&table);
    let (me, mut hands) = worker(&table, 0);
    let first = connect(&mut seats, &mut hands, me, Transport::Tcp);
    assert_eq!(hands.peer(first), Some("192.0.2.7:4711".parse().unwrap()));
    assert_eq!(hands.state(first), Some(State::Connected));
    hands.finish(first);
    assert!(seats.free(first));
    assert!(!seats.free(first), "freed twice");
    let second = connect(&mut seats, &mut hands, me, Transport::WebSocket);
    assert_eq!(
        first.row, second.row,
        "the last row freed is the next one used"
    );
    assert_ne!(first.generation, second.generation);
    assert_eq!(hands.state(first), None, "the old handle is stale");
    assert_eq!(hands.transport(second), Some(Transport::WebSocket));
    assert_eq!(table.audit(), Vec::<String>::new());
}

#[test]
fn a_full_table_gives_no_row_and_a_freed_one_is_usable_at_once() {
    let table = small();
    let mut seats = Seats::new(&table);
    let (me, mut hands) = worker(&table, 0);
    let rows: Vec<_> = (0..16)
        .map(|_| connect(&mut seats, &mut hands, me, Transport::Tcp))
        .collect();
    let newcomer = Newcomer {
        transport: Transport::Tcp,
        peer: "[2001:db8::1]:1".parse().unwrap(),
        worker: me,
        deadline_ms: 0,
        consumed_at_accept: 0,
        written_at_accept: 0,
    };
    assert_eq!(seats.seat(&newcomer), None);
    hands.finish(rows[5]);
    seats.free(rows[5]);
    let again = seats.seat(&newcomer).unwrap();
    assert_eq!(again.row, rows[5].row);
    assert_eq!(hands.peer(again), Some("[2001:db8::1]:1".parse().unwrap()));
}

#[test]
fn a_message_reaches_each_recipient_once_in_order_in_its_transports_form() {
    let table = small();
    let mut seats = Seats::new(&table);
    let (one, mut a) = worker(&table, 0);
    let (two, mut b) = worker(&table, 1);
    let tcp = connect(&mut seats, &mut a, one, Transport::Tcp);
    let web = connect(&mut seats, &mut b, two, Transport::WebSocket);
    for body in ["first", "second", "third"] {
        assert_eq!(send(&mut a, &[tcp, web], body.as_bytes()), 2);
    }
    assert_eq!(read_all(&mut a, tcp, usize::MAX), b"first\nsecond\nthird\n");
    assert_eq!(read_all(&mut b, web, 3), b"HHfirstHHsecondHHthird");
    assert_eq!((a.outbox_bytes(tcp), b.outbox_bytes(web)), (0, 0));
    assert_eq!(
        (used(&table, "arena_blocks"), used(&table, "outbox_entries")),
        (0, 0)
    );
    assert_eq!(table.audit(), Vec::<String>::new());
}

#[test]
fn messages_of_every_size_arrive_whole_whatever_the_socket_takes() {
    let table = small();
    let mut seats = Seats::new(&table);
    let (me, mut hands) = worker(&table, 0);
    for transport in [Transport::Tcp, Transport::WebSocket] {
        let row = connect(&mut seats, &mut hands, me, transport);
        for len in (0..600).chain([1000, 1023, 1024, 4095, 8000]) {
            let body: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            send(&mut hands, &[row], &body);
            let expected = match transport {
                Transport::Tcp => [&body[..], b"\n"].concat(),
                Transport::WebSocket => [b"HH", &body[..]].concat(),
            };
            assert_eq!(
                read_all(&mut hands, row, 1 + len % 97),
                expected,
                "{len} bytes"
            );
        }
    }
    assert_eq!(table.audit(), Vec::<String>::new());
}

#[test]
fn a_row_that_becomes_ready_is_returned_once() {
    let table = small();
    let mut seats = Seats::new(&table);
    let (one, mut a) = worker(&table, 0);
    let (_, mut b) = worker(&table, 1);
    let row = connect(&mut seats, &mut a, one, Transport::Tcp);
    assert!(a.about_to_sleep());
    send(&mut b, &[row], b"x");
    send(&mut b, &[row], b"y");
    b.order(row, Order::KICKED);
    assert_eq!(b.doorbells_to_ring(), 1 << one.slot);
    assert_eq!(b.doorbells_to_ring(), 0);
    assert!(!a.about_to_sleep(), "something is ready");
    assert_eq!(a.next_ready(), Some(row));
    assert_eq!(a.next_ready(), None);
    let orders = obey(&a, row);
    assert!(orders.has(Order::KICKED) && !orders.has(Order::SLOW));
    assert!(obey(&a, row).is_empty());
}

#[test]
fn past_its_limit_an_outbox_takes_no_more_and_its_row_is_ordered_to_go() {
    let table = roomy();
    let mut seats = Seats::new(&table);
    let (me, mut hands) = worker(&table, 0);
    let slow = connect(&mut seats, &mut hands, me, Transport::Tcp);
    let fast = connect(&mut seats, &mut hands, me, Transport::Tcp);
    hands.set_blocked(slow, true);
    let body = vec![b'x'; 999];
    for _ in 0..8 {
        assert_eq!(send(&mut hands, &[slow, fast], &body), 2);
        read_all(&mut hands, fast, usize::MAX);
    }
    assert_eq!(send(&mut hands, &[slow, fast], &body), 1);
    assert!(obey(&hands, slow).has(Order::SLOW));
    assert!(obey(&hands, fast).is_empty());
    let mut stream = hands.stream(slow).unwrap();
    hands.write_output(slow, &mut stream, |_| Ok(10)).unwrap();
    hands.discard_output(slow, &mut stream);
    let farewell = hands
        .compose(
            Urgency::Answer,
            |w| w.write_all(b"bye"),
            |_| Envelope::default(),
        )
        .unwrap();
    hands.deliver_closing(farewell, slow).unwrap();
    let rest = read_all(&mut hands, slow, usize::MAX);
    assert_eq!(
        rest.len(),
        1000 - 10 + 3,
        "the message begun, then the farewell"
    );
    assert!(rest.ends_with(b"\nbye"));
    hands.finish(slow);
    hands.finish(fast);
    assert_eq!(
        (used(&table, "arena_blocks"), used(&table, "outbox_entries")),
        (0, 0)
    );
}

#[test]
fn whoever_fills_an_outbox_that_nobody_had_time_to_write_is_told_and_the_reader_is_not_blamed() {
    let table = roomy();
    let mut seats = Seats::new(&table);
    let (me, mut hands) = worker(&table, 0);
    let reader = connect(&mut seats, &mut hands, me, Transport::Tcp);
    let body = vec![b'x'; 999];
    for sent in 0..32 {
        assert_eq!(send(&mut hands, &[reader], &body), 1);
        assert_eq!(
            hands.take_congestion().is_some(),
            sent >= 4,
            "after {sent} before"
        );
    }
    assert!(obey(&hands, reader).is_empty());
    assert_eq!(send(&mut hands, &[reader], &body), 0);
    assert!(
        obey(&hands, reader).has(Order::SLOW),
        "four times the limit is the end in any case"
    );
    read_all(&mut hands, reader, usize::MAX);
    hands.set_blocked(reader, true);
    for _ in 0..8 {
        send(&mut hands, &[reader], &body);
    }
    assert_eq!(hands.take_congestion(), None, "a full socket slows nobody");
}

#[test]
fn a_short_message_is_the_same_as_a_long_one_in_its_block() {
    let table = small();
    let mut seats = Seats::new(&table);
    let (me, mut hands) = worker(&table, 0);
    let tcp = connect(&mut seats, &mut hands, me, Transport::Tcp);
    let websocket = connect(&mut seats, &mut hands, me, Transport::WebSocket);
    for len in [0, 1, 125, 126, SHORT_BYTES_MAX] {
        let body = vec![b'x'; len];
        for prefix_len in [0, 2, 4, 10] {
            let envelope = |bytes| {
                assert_eq!(bytes, len);
                Envelope {
                    prefix: *b"0123456789",
                    prefix_len,
                    newline: true,
                }
            };
            let write = |room: &mut [u8]| {
                assert_eq!(room.len(), SHORT_BYTES_MAX);
                room[..len].copy_from_slice(&body);
                Some(len)
            };
            let short = hands.compose_short(Urgency::Message, write, envelope);
            let long = hands.compose(Urgency::Message, |w| w.write_all(&body), envelope);
            for message in [short.unwrap().unwrap(), long.unwrap()] {
                hands
                    .deliver(message, &[tcp, websocket], Urgency::Message)
                    .unwrap();
            }
            let line = [&body[..], b"\n"].concat();
            assert_eq!(read_all(&mut hands, tcp, usize::MAX), line.repeat(2));
            let prefix = &b"0123456789"[..usize::from(prefix_len)];
            let frame = [prefix, &body].concat();
            assert_eq!(read_all(&mut hands, websocket, usize::MAX), frame.repeat(2));
        }
    }
    let refused = hands.compose_short(
        Urgency::Message,
        |_| None,
        |_| unreachable!("nothing was written"),
    );
    assert!(matches!(refused, Ok(None)));
    assert_eq!(used(&table, "arena_blocks"), 0);
    assert_eq!(table.audit(), Vec::<String>::new());
}

#[test]
fn a_full_arena_refuses_messages_whole_and_still_has_room_for_answers() {
    let table = small();
    let mut seats = Seats::new(&table);
    let (me, mut hands) = worker(&table, 0);
    let rows: Vec<_> = (0..16)
        .map(|_| connect(&mut seats, &mut hands, me, Transport::Tcp))
        .collect();
    let body = vec![b'x'; 2000];
    let mut accepted = 0;
    let refused = loop {
        let composed = hands.compose(
            Urgency::Message,
            |w| w.write_all(&body),
            |_| Envelope {
                newline: true,
                ..Envelope::default()
            },
        );
        let delivered = composed.and_then(|message| {
            let to = rows[accepted % rows.len()];
            hands.deliver(message, &[to], Urgency::Message)
        });
        match delivered {
            Ok(count) => {
                assert_eq!(count, 1);
                accepted += 1;
            }
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused, Full);
    let answer = hands.compose(
        Urgency::Answer,
        |w| w.write_all(b"overloaded"),
        |_| Envelope {
            newline: true,
            ..Envelope::default()
        },
    );
    assert_eq!(
        hands.deliver(answer.unwrap(), &rows[..1], Urgency::Answer),
        Ok(1)
    );
    let received: usize = rows
        .iter()
        .map(|&row| read_all(&mut hands, row, usize::MAX).len())
        .sum();
    assert_eq!(received, accepted * 2001 + 11, "what was accepted arrives");
    assert_eq!(used(&table, "arena_blocks"), 0);
    assert_eq!(table.audit(), Vec::<String>::new());
}

#[test]
fn a_receive_buffer_gives_back_what_was_put_in() {
    let table = small();
    let mut seats = Seats::new(&table);
    let (me, mut hands) = worker(&table, 0);
    let row = connect(&mut seats, &mut hands, me, Transport::Tcp);
    let mut stream = hands.stream(row).unwrap();
    let mut expected = Vec::new();
    for step in 0..40_u8 {
        let bytes: Vec<u8> = (0..step * 5).collect();
        hands.receive_append(&mut stream, &bytes).unwrap();
        expected.extend_from_slice(&bytes);
        if step % 7 == 6 {
            let keep = expected.len() - usize::from(step) * 3;
            hands.receive_truncate(&mut stream, keep as u32);
            expected.truncate(keep);
        }
        hands.commit(row, &stream);
        let mut read = Vec::new();
        hands.receive_read(&hands.stream(row).unwrap(), 0, &mut read);
        assert_eq!(read, expected);
    }
    let mut tail = Vec::new();
    hands.receive_read(&stream, stream.received_len - 300, &mut tail);
    assert_eq!(tail, expected[expected.len() - 300..]);
    assert!(used(&table, "arena_blocks") > 0);
    hands.receive_truncate(&mut stream, 0);
    hands.commit(row, &stream);
    assert_eq!(used(&table, "arena_blocks"), 0);
    let too_much = vec![0; 64 * 1024];
    assert_eq!(hands.receive_append(&mut stream, &too_much), Err(Full));
    assert_eq!(table.audit(), Vec::<String>::new());
}

#[test]
fn deadlines_pass_once_and_not_early() {
    // One whose time is near 0; `counters.rs` has one that is years old.
    let table = Table::private(&small().capacity());
    let mut seats = Seats::new(&table);
    let (me, mut hands) = worker(&table, 0);
    let row = connect(&mut seats, &mut hands, me, Transport::Tcp);
    let look = |expired, next_ms| Expiry { expired, next_ms };
    hands.set_deadline(row, 0);
    assert_eq!(hands.expire_deadlines(500), look(0, None));
    hands.set_deadline(row, 1000);
    let later = connect(&mut seats, &mut hands, me, Transport::Tcp);
    hands.set_deadline(later, 2200);
    let first = hands.expire_deadlines(200);
    assert!(first.next_ms.is_some_and(|ms| (800..=832).contains(&ms)));
    assert_eq!(hands.expire_deadlines(1000), look(0, Some(16)));
    assert!((1000..=1016).contains(&hands.deadline(row)));
    let second = hands.expire_deadlines(1032);
    assert_eq!(second.expired, 1);
    assert!(second.next_ms.is_some_and(|ms| (1168..=1200).contains(&ms)));
    assert_eq!(hands.expire_deadlines(2000).expired, 0);
    assert!(obey(&hands, row).has(Order::DEADLINE));
    hands.set_deadline(row, 3000);
    hands.set_deadline(row, 0);
    hands.set_deadline(later, 0);
    assert_eq!(hands.expire_deadlines(9000), look(0, None));
}

#[test]
fn nothing_reaches_a_row_through_a_stale_handle() {
    let table = small();
    let mut seats = Seats::new(&table);
    let (one, mut a) = worker(&table, 0);
    let (_, mut b) = worker(&table, 1);
    let old = connect(&mut seats, &mut a, one, Transport::Tcp);
    login(&mut a, old, "ada");
    a.finish(old);
    assert_eq!(send(&mut b, &[old], b"late"), 0);
    seats.free(old);
    let new = connect(&mut seats, &mut a, one, Transport::Tcp);
    assert_eq!(old.row, new.row);
    assert_eq!(send(&mut b, &[old], b"late"), 0);
    b.order(old, Order::KICKED);
    assert!(obey(&a, new).is_empty());
    assert_eq!(a.stream(old), None);
    assert!(b.stream(new).is_none(), "another process's row");
    assert_eq!(read_all(&mut a, new, usize::MAX), b"");
    assert_eq!(used(&table, "arena_blocks"), 0);
}

#[test]
fn a_segment_is_attached_by_descriptor_and_refused_when_it_is_something_else() {
    let capacity = small().capacity();
    let (table, claim) = Table::create(&capacity).unwrap();
    let path = format!("/dev/shm/{}", claim.name());
    let file = || table.file().unwrap().try_clone_to_owned().unwrap();
    let mut seats = Seats::new(&table);
    let (me, mut hands) = worker(&table, 0);
    let row = connect(&mut seats, &mut hands, me, Transport::Tcp);
    // The name leads to something else by now, or nowhere.
    std::fs::remove_file(&path).unwrap();
    let other = Table::attach(file(), table.identity()).unwrap();
    assert_eq!(other.capacity(), capacity);
    assert_eq!(other.identity(), table.identity());
    let (_, elsewhere) = worker(&other, 1);
    assert_eq!(elsewhere.state(row), Some(State::Connected));
    assert!(table.read_window(me).is_some());
    assert!(table.read_window(me).is_none(), "once");

    let (another, _claim) = Table::create(&capacity).unwrap();
    assert_ne!(another.identity(), table.identity());
    let refused = |file: OwnedFd| {
        let attached = Table::attach(file, another.identity());
        attached.map(drop).unwrap_err().to_string()
    };
    assert!(refused(file()).contains("another server's"));
    let null = std::fs::File::open("/dev/null").unwrap();
    assert!(refused(null.into()).contains("cannot be mapped"));
    let zeroes = tempfile_of(&[0; 8192]);
    assert!(refused(zeroes).contains("not a Steadfast segment"));
}

fn tempfile_of(bytes: &[u8]) -> OwnedFd {
    let path = std::env::temp_dir().join(format!("steadfast-table-{}", std::process::id()));
    let mut options = std::fs::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(true);
    let mut file = options.open(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    file.write_all(bytes).unwrap();
    file.into()
}
