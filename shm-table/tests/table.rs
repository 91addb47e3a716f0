//! What the table does when nobody dies.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a failure names its place

mod common;

use common::{connect, login, read_all, send, small, worker};
use shm_table::{
    Envelope, Full, GroupLimits, JoinRefused, Joined, LeaveRefused, Login, LoginRefused, Newcomer,
    Order, SameUser, Seats, State, Table, Transport, Urgency,
};

const LIMITS: GroupLimits = GroupLimits { per_session: 100 };

fn used(table: &Table, section: &str) -> u64 {
    table
        .stats()
        .sections
        .iter()
        .find(|s| s.name == section)
        .unwrap()
        .used
}

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
    let orders = a.take_orders(row);
    assert!(orders.has(Order::KICKED) && !orders.has(Order::SLOW));
    assert!(a.take_orders(row).is_empty());
}

#[test]
fn past_its_limit_an_outbox_takes_no_more_and_its_row_is_ordered_to_go() {
    let table = small();
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
    assert!(hands.take_orders(slow).has(Order::SLOW));
    assert!(hands.take_orders(fast).is_empty());
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
    let table = small();
    let mut seats = Seats::new(&table);
    let (me, mut hands) = worker(&table, 0);
    let reader = connect(&mut seats, &mut hands, me, Transport::Tcp);
    let body = vec![b'x'; 999];
    for sent in 0..32 {
        assert_eq!(send(&mut hands, &[reader], &body), 1);
        assert_eq!(hands.take_congestion(), sent >= 4, "after {sent} before");
    }
    assert!(hands.take_orders(reader).is_empty());
    assert_eq!(send(&mut hands, &[reader], &body), 0);
    assert!(
        hands.take_orders(reader).has(Order::SLOW),
        "four times the limit is the end in any case"
    );
    read_all(&mut hands, reader, usize::MAX);
    hands.set_blocked(reader, true);
    for _ in 0..8 {
        send(&mut hands, &[reader], &body);
    }
    assert!(!hands.take_congestion(), "a full socket slows nobody");
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
fn users_are_found_by_name_with_all_their_sessions() {
    let table = small();
    let mut seats = Seats::new(&table);
    let (one, mut a) = worker(&table, 0);
    let (two, mut b) = worker(&table, 1);
    let r1 = connect(&mut seats, &mut a, one, Transport::Tcp);
    let r2 = connect(&mut seats, &mut b, two, Transport::Tcp);
    let r3 = connect(&mut seats, &mut b, two, Transport::Tcp);
    login(&mut a, r1, "ada");
    login(&mut b, r2, "ada");
    login(&mut b, r3, "grace");
    let sessions = |hands: &shm_table::Hands<'_>, user: &str| {
        let mut found = Vec::new();
        hands.sessions_of(user, &mut found);
        found.sort_by_key(|handle| handle.row);
        found
    };
    let mut both = vec![r1, r2];
    both.sort_by_key(|handle| handle.row);
    assert_eq!(sessions(&a, "ada"), both);
    assert_eq!(sessions(&a, "grace"), [r3]);
    assert_eq!(sessions(&a, "nobody"), []);
    assert_eq!(&*a.user_name(r3).unwrap(), "grace");
    assert_eq!(&*a.device_id(r2).unwrap(), "phone");
    a.finish(r1);
    assert_eq!(sessions(&a, "ada"), [r2]);
    b.set_state(r2, State::Closing);
    assert_eq!(sessions(&a, "ada"), []);
    assert!(a.last_seen("ada").is_some(), "remembered");
    assert!(a.last_seen("nobody").is_none());
    assert_eq!(table.audit(), Vec::<String>::new());
}

#[test]
fn a_newer_login_replaces_the_older_one_by_policy_and_sessions_have_a_limit() {
    let table = small();
    let mut seats = Seats::new(&table);
    let (me, mut hands) = worker(&table, 0);
    let mut log_in = |hands: &mut shm_table::Hands<'_>, device_id, policy, sessions_per_user| {
        let row = connect(&mut seats, hands, me, Transport::Tcp);
        let login = Login {
            user: "ada",
            device_id,
            device_model: "",
            policy,
            sessions_per_user,
        };
        (row, hands.login(row, &login).map(|done| done.replaced))
    };
    let (phone, first) = log_in(&mut hands, "phone", SameUser::OnePerDevice, 0);
    let (tablet, second) = log_in(&mut hands, "tablet", SameUser::OnePerDevice, 0);
    assert_eq!((first, second), (Ok(0), Ok(0)));
    let (_, refused) = log_in(&mut hands, "desk", SameUser::Many, 2);
    assert_eq!(refused, Err(LoginRefused::TooManySessions));
    let (_, third) = log_in(&mut hands, "phone", SameUser::OnePerDevice, 2);
    assert_eq!(third, Ok(1));
    assert!(hands.take_orders(phone).has(Order::REPLACED));
    assert!(hands.take_orders(tablet).is_empty());
    hands.finish(phone);
    let (_, last) = log_in(&mut hands, "x", SameUser::One, 1);
    assert_eq!(last, Ok(2));
    assert_eq!(table.audit(), Vec::<String>::new());
}

#[test]
fn remembered_users_give_way_when_others_log_in() {
    let table = small();
    let mut seats = Seats::new(&table);
    let (me, mut hands) = worker(&table, 0);
    for n in 0..1000 {
        let row = connect(&mut seats, &mut hands, me, Transport::Tcp);
        login(&mut hands, row, &format!("user{n}"));
        hands.finish(row);
        seats.free(row);
    }
    assert!(hands.last_seen("user999").is_some());
    assert_eq!(used(&table, "users"), 0);
    assert_eq!(table.audit(), Vec::<String>::new());
}

#[test]
fn groups_hold_their_members_and_end_with_the_last_one() {
    let table = small();
    let mut seats = Seats::new(&table);
    let (me, mut hands) = worker(&table, 0);
    let rows: Vec<_> = (0..16)
        .map(|_| connect(&mut seats, &mut hands, me, Transport::Tcp))
        .collect();
    for (n, &row) in rows.iter().enumerate() {
        assert_eq!(
            hands.join(row, "rust", LIMITS),
            Err(JoinRefused::NotLoggedIn)
        );
        login(&mut hands, row, &format!("user{n}"));
        assert_eq!(hands.join(row, "rust", LIMITS), Ok(Joined::New));
        assert_eq!(hands.join(row, "rust", LIMITS), Ok(Joined::Already));
    }
    let members = |hands: &shm_table::Hands<'_>, group: &str| {
        let mut found = Vec::new();
        hands.members_of(group, &mut found).then(|| {
            found.sort_by_key(|handle| handle.row);
            found
        })
    };
    let mut all = rows.clone();
    all.sort_by_key(|handle| handle.row);
    assert_eq!(members(&hands, "rust"), Some(all));
    assert_eq!(members(&hands, "none"), None);
    assert_eq!(
        hands.leave(rows[0], "none"),
        Err(LeaveRefused::UnknownGroup)
    );
    assert_eq!(
        hands.join(rows[0], "a", GroupLimits { per_session: 1 }),
        Err(JoinRefused::PerSession)
    );
    for group in ["a", "b", "c"] {
        assert_eq!(hands.join(rows[0], group, LIMITS), Ok(Joined::New));
    }
    assert_eq!(hands.join(rows[0], "d", LIMITS), Err(JoinRefused::Groups));
    assert_eq!(hands.leave(rows[1], "a"), Err(LeaveRefused::NotAMember));
    assert_eq!(hands.leave(rows[0], "b"), Ok(()));
    assert_eq!(members(&hands, "b"), None, "ended with its last member");
    assert_eq!(hands.join(rows[0], "d", LIMITS), Ok(Joined::New));
    for &row in &rows {
        hands.finish(row);
    }
    assert_eq!(members(&hands, "rust"), None);
    assert_eq!(
        (used(&table, "groups"), used(&table, "memberships")),
        (0, 0)
    );
    assert_eq!(table.audit(), Vec::<String>::new());
}

#[test]
fn memberships_have_a_limit_that_is_exact_after_any_coming_and_going() {
    let table = small();
    let mut seats = Seats::new(&table);
    let (me, mut hands) = worker(&table, 0);
    let rows: Vec<_> = (0..16)
        .map(|_| connect(&mut seats, &mut hands, me, Transport::Tcp))
        .collect();
    for &row in &rows {
        login(&mut hands, row, "same");
    }
    let groups = ["a", "b", "c"];
    let mut seed = 42_u64;
    for _ in 0..5000 {
        seed = seed
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        let row = rows[(seed >> 33) as usize % 16];
        let group = groups[(seed >> 40) as usize % 3];
        let before = used(&table, "memberships");
        match hands.join(row, group, LIMITS) {
            Ok(Joined::New) => assert_eq!(used(&table, "memberships"), before + 1),
            Ok(Joined::Already) => hands.leave(row, group).unwrap(),
            Err(JoinRefused::Memberships) => {
                assert_eq!(before, 40);
                hands.leave(rows[(seed >> 50) as usize % 16], group).ok();
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(table.audit(), Vec::<String>::new());
}

#[test]
fn deadlines_pass_once_and_not_early() {
    let table = small();
    let mut seats = Seats::new(&table);
    let (me, mut hands) = worker(&table, 0);
    let row = connect(&mut seats, &mut hands, me, Transport::Tcp);
    hands.set_deadline(row, 1000);
    assert_eq!(hands.expire_deadlines(1000), 0);
    assert!((1000..=1016).contains(&hands.deadline(row)));
    assert_eq!(hands.expire_deadlines(1032), 1);
    assert_eq!(hands.expire_deadlines(2000), 0);
    assert!(hands.take_orders(row).has(Order::DEADLINE));
    hands.set_deadline(row, 3000);
    hands.set_deadline(row, 0);
    assert_eq!(hands.expire_deadlines(9000), 0);
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
    assert!(a.take_orders(new).is_empty());
    assert_eq!(a.stream(old), None);
    assert!(b.stream(new).is_none(), "another process's row");
    assert_eq!(read_all(&mut a, new, usize::MAX), b"");
    assert_eq!(used(&table, "arena_blocks"), 0);
}

#[test]
fn a_segment_is_attached_by_others_and_refused_when_it_is_something_else() {
    let name = format!("steadfast-test-{}", std::process::id());
    let capacity = small().capacity();
    let table = Table::create(&name, &capacity).unwrap();
    let error = Table::create(&name, &capacity).err().unwrap().to_string();
    assert!(error.contains(&std::process::id().to_string()), "{error}");
    let mut seats = Seats::new(&table);
    let (me, mut hands) = worker(&table, 0);
    let row = connect(&mut seats, &mut hands, me, Transport::Tcp);
    let other = Table::attach(&name).unwrap();
    assert_eq!(other.capacity(), capacity);
    let (_, elsewhere) = worker(&other, 1);
    assert_eq!(elsewhere.state(row), Some(State::Connected));
    assert!(table.read_window(me).is_some());
    assert!(table.read_window(me).is_none(), "once");
    std::fs::write(format!("/dev/shm/{name}"), vec![0; 4096]).unwrap();
    assert!(Table::attach(&name).is_err());
    assert!(Table::remove(&name).unwrap());
    assert!(!Table::remove(&name).unwrap());
    assert!(Table::attach(&name).is_err());
}
