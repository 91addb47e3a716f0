//! Rows of a slot that nobody fills: their limits, their way to another slot, and their end.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a failure names its place

mod common;

use std::cell::RefCell;
use std::io::Write;
use std::time::{Duration, Instant};

use common::{connect, finish_fanouts, login, obey, read_all, send, small, used, worker};
use shm_table::{
    Claimed, Envelope, FIRST_WORKER, Full, Hands, Order, ProcessId, Role, RowHandle, Seats, State,
    Step, Transport, Urgency,
};

/// Like [`send`], refusals included.
fn try_send(hands: &mut Hands<'_>, to: &[RowHandle], body: &[u8]) -> Result<u32, Full> {
    let message = hands.compose(
        Urgency::Message,
        |w| std::io::Write::write_all(w, body),
        |_| Envelope {
            newline: true,
            ..Envelope::default()
        },
    )?;
    hands.deliver(message, to, Urgency::Message)
}

#[test]
fn without_an_owner_an_outbox_has_a_limit_and_its_reader_is_not_blamed() {
    let table = small();
    let mut seats = Seats::new(&table);
    let (dead, mut of_dead) = worker(&table, 0);
    let (living, mut hands) = worker(&table, 1);
    let stranded = connect(&mut seats, &mut of_dead, dead, Transport::Tcp);
    let served = connect(&mut seats, &mut hands, living, Transport::Tcp);
    drop(of_dead);
    table.recover(&mut seats, &[dead]);
    let body = vec![b'x'; 999];
    // Four times the limit of 8192.
    for _ in 0..32 {
        assert_eq!(try_send(&mut hands, &[stranded], &body), Ok(1));
    }
    let before = (used(&table, "arena_blocks"), used(&table, "outbox_entries"));
    assert_eq!(try_send(&mut hands, &[stranded], &body), Err(Full));
    assert_eq!(try_send(&mut hands, &[stranded, served], &body), Err(Full));
    let after = (used(&table, "arena_blocks"), used(&table, "outbox_entries"));
    assert_eq!(before, after, "what is refused is nowhere");
    // Others have it: theirs is not taken away again, and the one that misses it is told.
    assert_eq!(try_send(&mut hands, &[served, stranded], &body), Ok(1));
    assert_eq!(read_all(&mut hands, served, usize::MAX).len(), 1000);
    assert!(table.hand_over(&mut seats, stranded, living.slot));
    assert_eq!(
        hands.claim(stranded, State::Connected, 0),
        Ok(Claimed::Adopted)
    );
    let orders = obey(&hands, stranded);
    assert!(orders.has(Order::UNSERVED) && !orders.has(Order::SLOW));
    assert_eq!(
        read_all(&mut hands, stranded, usize::MAX).len(),
        32 * 1000,
        "what was accepted is there"
    );
}

#[test]
fn whoever_fills_the_outbox_of_a_dead_worker_waits_for_its_successor_but_not_for_ever() {
    let table = small();
    let mut seats = Seats::new(&table);
    let (dead, mut of_dead) = worker(&table, 0);
    let (_, mut hands) = worker(&table, 1);
    let stranded = connect(&mut seats, &mut of_dead, dead, Transport::Tcp);
    drop(of_dead);
    table.recover(&mut seats, &[dead]);
    let body = vec![b'x'; 999];
    for _ in 0..5 {
        send(&mut hands, &[stranded], &body);
    }
    let congestion = hands.take_congestion().expect("more than half full");
    assert!(
        !hands.is_relieved(congestion),
        "a successor may come in a moment"
    );
    let end = Instant::now() + Duration::from_secs(20);
    while !hands.is_relieved(congestion) {
        assert!(Instant::now() < end, "waits for a worker that is not there");
        std::thread::yield_now();
    }
    send(&mut hands, &[stranded], &body);
    assert_eq!(
        hands.take_congestion(),
        None,
        "nobody waits for it any more"
    );
}

#[test]
fn what_the_dead_had_read_is_found_from_the_other_slot_and_its_window_is_left_alone_until_then() {
    let table = small();
    let mut seats = Seats::new(&table);
    let (dead, mut of_dead) = worker(&table, 0);
    let (living, mut hands) = worker(&table, 1);
    let mut window = table.read_window(dead).unwrap();
    assert!(table.read_window(dead).is_none(), "once");
    let row = connect(&mut seats, &mut of_dead, dead, Transport::Tcp);
    login(&mut of_dead, row, "ada");
    of_dead.note_reading(row, 100);
    window[7..12].copy_from_slice(b"hello");
    send(&mut hands, &[row], b"queued");
    drop(of_dead);
    table.recover(&mut seats, &[dead]);
    assert!(
        !table.hand_over(&mut seats, row, 1),
        "the timer serves nobody"
    );
    assert!(table.hand_over(&mut seats, row, living.slot));
    assert_eq!(table.audit(), Vec::<String>::new());

    // Somebody comes to the old slot, and goes, before it was taken over: neither may lose what lies there.
    for _ in 0..2 {
        let next = table.start_process(FIRST_WORKER, Role::Worker);
        let mut hands = table.hands(
            next,
            shm_table::HandsSettings { outbox_bytes: 8192 },
            Box::new(|| {}),
        );
        hands.ready();
        assert_eq!(hands.interrupted(), Some(row));
        assert!(hands.claim(row, State::Connected, 0).is_err());
        hands.let_go();
        table.process_ended(next);
    }
    assert_eq!(table.interrupted(FIRST_WORKER), None, "not its successor's");

    assert_eq!(hands.claim(row, State::Connected, 3), Ok(Claimed::Adopted));
    assert_eq!(hands.user_name(row).as_deref(), Some("ada"));
    let found = hands.find_input(row).unwrap();
    assert!(!hands.is_own(found));
    let mut input = Vec::new();
    assert!(hands.copy_input(found, 107, 5, &mut input));
    assert_eq!(input, b"hello");
    assert!(
        !hands.copy_input(found, 99, 5, &mut input),
        "before its beginning"
    );
    assert!(!hands.copy_input(found, 107, u64::MAX, &mut input));
    assert_eq!(hands.next_ready(), Some(row));
    assert_eq!(read_all(&mut hands, row, 3), b"queued\n");
    hands.release_input(row);
    assert_eq!(hands.find_input(row), None);
    let (_, next) = worker(&table, 0);
    assert_eq!(next.interrupted(), None);
}

#[test]
fn a_row_is_handed_over_again_and_again_whoever_dies() {
    let table = small();
    let mut seats = Seats::new(&table);
    let (mut dead, mut of_dead) = worker(&table, 0);
    let seated = connect(&mut seats, &mut of_dead, dead, Transport::Tcp);
    let never_taken = seats
        .seat(&shm_table::Newcomer {
            transport: Transport::WebSocket,
            peer: "192.0.2.7:1".parse().unwrap(),
            worker: table.next_process(dead.slot),
            deadline_ms: 0,
            consumed_at_accept: 0,
            written_at_accept: 0,
        })
        .unwrap();
    drop(of_dead);
    for round in 0..4 {
        let (living, mut hands) = worker(&table, 1 - round % 2);
        table.recover(&mut seats, &[dead]);
        for row in [seated, never_taken] {
            assert!(table.hand_over(&mut seats, row, living.slot));
        }
        let claimed = hands.claim(never_taken, State::Handshake, 0).unwrap();
        assert_eq!(claimed == Claimed::New, round == 0);
        assert!(
            !table.hand_over(&mut seats, never_taken, dead.slot),
            "it is served"
        );
        if round % 2 == 0 {
            hands.claim(seated, State::Connected, 0).unwrap();
        }
        assert_eq!(table.audit(), Vec::<String>::new());
        dead = living;
    }
}

#[test]
fn what_nobody_can_serve_is_ended_and_nothing_of_it_is_left() {
    let table = small();
    let mut seats = Seats::new(&table);
    let (dead, mut hands) = worker(&table, 0);
    let rows: Vec<RowHandle> = (0..3)
        .map(|_| connect(&mut seats, &mut hands, dead, Transport::Tcp))
        .collect();
    login(&mut hands, rows[0], "ada");
    let limits = shm_table::GroupLimits::per_session(4);
    hands.join(rows[0], "all", limits).unwrap();
    send(&mut hands, &rows, b"never read");
    assert!(!table.end_unserved(&mut seats, rows[0]), "it is served");
    let half = hands.stream(rows[1]).map(|mut stream| {
        hands.write_output(rows[1], &mut stream, |_| Ok(3)).unwrap();
        stream.written
    });
    hands.let_go();
    table.process_ended(ProcessId { ..dead });
    table.recover(&mut seats, &[dead]);
    let told = |row, written| table.between_messages(row, written);
    let ada = Some((Transport::Tcp, State::LoggedIn));
    assert_eq!(told(rows[0], 0), ada);
    assert_eq!(told(rows[0], 1), None, "more was written than is known of");
    assert_eq!(told(rows[1], half.unwrap()), None, "half a message");
    for &row in &rows {
        assert!(table.end_unserved(&mut seats, row));
    }
    let recovered = table.recover(&mut seats, &[]);
    assert_eq!(recovered.rows, rows);
    for row in recovered.rows {
        assert!(seats.free(row));
    }
    assert_eq!(table.audit(), Vec::<String>::new());
    for section in [
        "sessions",
        "groups",
        "memberships",
        "outbox_entries",
        "arena_blocks",
    ] {
        assert_eq!(used(&table, section), 0, "{section}");
    }
}

#[test]
fn fan_outs_of_a_slot_that_cannot_be_filled_are_done_by_another() {
    let table = small();
    let mut seats = Seats::new(&table);
    let (dead, mut hands) = worker(&table, 0);
    let (living, mut survivor) = worker(&table, 1);
    let row = connect(&mut seats, &mut survivor, living, Transport::Tcp);
    login(&mut survivor, row, "ada");
    let begin = |hands: &mut Hands<'_>, ordinal| {
        let message = hands.compose(Urgency::Message, |w| w.write_all(b"x"), |_| line());
        let prepared = hands.prepare_fanout(message.unwrap(), &[row, row, row]);
        hands.begin_fanout(prepared.unwrap(), row, ordinal, &[ordinal as u8]);
    };
    begin(&mut survivor, 1);
    begin(&mut hands, 2);
    begin(&mut hands, 3);
    assert_eq!(hands.fan_out(2), Step::Done(2));
    drop(hands);
    table.recover(&mut seats, &[dead]);
    assert!(table.has_fanouts(dead.slot));
    assert_eq!(survivor.fan_out(1), Step::Done(1));
    table.hand_over_fanouts(&mut seats, dead.slot, living.slot);
    assert!(!table.has_fanouts(dead.slot));
    assert_eq!(table.audit(), [""; 0]);
    begin(&mut survivor, 4);
    let told = RefCell::new(Vec::new());
    finish_fanouts(&mut survivor, 5, |_, note| told.borrow_mut().push(note[0]));
    assert_eq!(*told.borrow(), [1, 2, 3, 4]);
    assert_eq!(read_all(&mut survivor, row, 100), b"x\n".repeat(12));
    assert_eq!(table.audit(), [""; 0]);

    // Where nobody is left to do them, they go with the connections.
    begin(&mut survivor, 5);
    drop(survivor);
    table.recover(&mut seats, &[living]);
    table.drop_fanouts(&mut seats, living.slot);
    assert!(table.end_unserved(&mut seats, row));
    table.recover(&mut seats, &[]);
    assert!(seats.free(row));
    assert_eq!(table.audit(), [""; 0]);
    for section in ["outbox_entries", "arena_blocks"] {
        assert_eq!(used(&table, section), 0, "{section}");
    }
}

fn line() -> Envelope {
    Envelope {
        newline: true,
        ..Envelope::default()
    }
}
