//! What the table's operations cost: `cargo bench -p shm-table`.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a failure names its place

use std::hint::black_box;
use std::io::Write;

use criterion::{Criterion, criterion_group, criterion_main};
use shm_table::{
    Capacity, Envelope, FIRST_WORKER, GroupLimits, Hands, HandsSettings, Login, Newcomer, Role,
    RowHandle, SameUser, Seats, State, Step, Table, Transport, Urgency,
};

const SESSIONS: u32 = 10_000;

fn table() -> &'static Table {
    Box::leak(Box::new(Table::private(&Capacity {
        sessions: SESSIONS,
        arena_bytes: 64 << 20,
        groups: 4096,
        memberships: 65_536,
        workers: 1,
        hosts: 0,
    })))
}

/// Fills the table with users "user0", "user1", ...
fn crowd() -> (Hands<'static>, Vec<RowHandle>) {
    let table = table();
    let mut seats = Seats::new(table);
    let me = table.start_process(FIRST_WORKER, Role::Worker);
    let settings = HandsSettings {
        outbox_bytes: 1 << 20,
    };
    let mut hands = table.hands(me, settings, Box::new(|| {}));
    let peer = "127.0.0.1:1".parse().expect("an address");
    let rows = (0..SESSIONS)
        .map(|n| {
            let newcomer = Newcomer {
                transport: Transport::WebSocket,
                peer,
                worker: me,
                deadline_ms: 0,
                consumed_at_accept: 0,
                written_at_accept: 0,
            };
            let row = seats.seat(&newcomer).expect("a row");
            hands.claim(row, State::Connected, 0).expect("the row");
            let user = format!("user{n}");
            let login = Login {
                user: &user,
                device_id: "",
                device_model: "",
                policy: SameUser::Many,
                sessions_per_user: 0,
            };
            hands.login(row, &login).expect("a login");
            row
        })
        .collect();
    (hands, rows)
}

fn benches(c: &mut Criterion) {
    let (mut hands, rows) = crowd();
    let names: Vec<String> = (0..SESSIONS).map(|n| format!("user{n}")).collect();
    let mut at = 0;
    let mut next = move || {
        // A stride that visits every row and no neighbour: caches are as cold as in a busy server.
        at = (at + 7919) % SESSIONS as usize;
        at
    };

    c.bench_function("row write (commit a stream)", |b| {
        b.iter(|| {
            let row = rows[next()];
            let mut stream = hands.stream(row).expect("own row");
            stream.consumed += 1;
            hands.commit(row, &stream);
        });
    });
    c.bench_function("row read (stream of a row)", |b| {
        b.iter(|| black_box(hands.stream(rows[next()])));
    });
    c.bench_function("user lookup (name to sessions)", |b| {
        let mut found = Vec::with_capacity(4);
        b.iter(|| {
            found.clear();
            hands.sessions_of(&names[next()], &mut found);
            black_box(found.len())
        });
    });
    c.bench_function(
        "outbox push and pop (64-byte message, composed, delivered, written)",
        |b| {
            let envelope = Envelope {
                prefix_len: 2,
                newline: true,
                ..Envelope::default()
            };
            b.iter(|| {
                let row = rows[next()];
                let message = hands
                    .compose(Urgency::Message, |w| w.write_all(&[b'x'; 64]), |_| envelope)
                    .expect("room");
                hands
                    .deliver(message, &[row], Urgency::Message)
                    .expect("room");
                let mut stream = hands.stream(row).expect("own row");
                hands
                    .write_output(row, &mut stream, |bytes| Ok(bytes.len()))
                    .expect("written");
                black_box(hands.next_ready())
            });
        },
    );
    c.bench_function(
        "outbox push and pop, fan-out to 1,000 (per 1,000 deliveries)",
        |b| {
            let envelope = Envelope {
                prefix_len: 2,
                newline: true,
                ..Envelope::default()
            };
            b.iter(|| {
                let message = hands
                    .compose(Urgency::Message, |w| w.write_all(&[b'x'; 64]), |_| envelope)
                    .expect("room");
                hands
                    .deliver(message, &rows[..1000], Urgency::Message)
                    .expect("room");
                while let Some(row) = hands.next_ready() {
                    let mut stream = hands.stream(row).expect("own row");
                    hands
                        .write_output(row, &mut stream, |bytes| Ok(bytes.len()))
                        .expect("written");
                }
            });
        },
    );
    c.bench_function("arena get and put (one block)", |b| {
        b.iter(|| {
            let message = hands
                .compose(Urgency::Message, |_| Ok(()), |_| Envelope::default())
                .expect("room");
            hands.discard(black_box(message));
        });
    });
    c.bench_function("timer scan (10,000 deadlines, none due)", |b| {
        b.iter(|| black_box(hands.expire_deadlines(0)));
    });
}

/// What is done in one go however many there are: each must be short beside a turn, which is 400 us.
fn whole(c: &mut Criterion) {
    let (mut hands, rows) = crowd();
    let limits = GroupLimits::per_session(300);
    for &row in &rows {
        hands.join(row, "all", limits).expect("a membership");
    }
    let envelope = Envelope {
        prefix_len: 2,
        newline: true,
        ..Envelope::default()
    };
    c.bench_function("members of a group of 10,000", |b| {
        let mut found = Vec::with_capacity(rows.len());
        b.iter(|| {
            found.clear();
            hands.members_of("all", &mut found);
            black_box(found.len())
        });
    });
    c.bench_function("everyone of 10,000", |b| {
        let mut found = Vec::with_capacity(rows.len());
        b.iter(|| {
            found.clear();
            hands.everyone(&mut found);
            black_box(found.len())
        });
    });
    c.bench_function(
        "who is in a group of 10,000, first 1,000 with their sessions",
        |b| {
            let mut sessions = Vec::new();
            b.iter(|| {
                let found = hands.users_in("all", 1_000).expect("the group");
                for (_, user) in &found.users {
                    sessions.clear();
                    black_box(hands.presence_of(*user, &mut sessions));
                }
                found.more
            });
        },
    );
    c.bench_function("fan-out to 10,000, its beginning", |b| {
        b.iter(|| {
            let write = |w: &mut Vec<u8>| w.write_all(&[b'x'; 64]);
            let message = hands.compose(Urgency::Message, write, |_| envelope);
            let prepared = hands.prepare_fanout(message.expect("room"), &rows);
            hands.give_up_fanout(black_box(prepared.expect("room")));
        });
    });
    c.bench_function("fan-out to 10,000, a slice of 512 (written too)", |b| {
        let mut left = 0;
        b.iter(|| {
            if left < 512 {
                while matches!(hands.fan_out(64), Step::Done(_)) {}
                hands.end_fanout();
                let write = |w: &mut Vec<u8>| w.write_all(&[b'x'; 64]);
                let message = hands.compose(Urgency::Message, write, |_| envelope);
                let prepared = hands.prepare_fanout(message.expect("room"), &rows);
                hands.begin_fanout(prepared.expect("room"), rows[0], 1, b"");
                left = rows.len();
            }
            let mut done = 0;
            while done < 512
                && let Step::Done(recipients) = hands.fan_out(16)
            {
                done += recipients;
            }
            left -= 512;
            while let Some(row) = hands.next_ready() {
                let mut stream = hands.stream(row).expect("own row");
                hands
                    .write_output(row, &mut stream, |bytes| Ok(bytes.len()))
                    .expect("written");
            }
        });
    });
    let many = &rows[1];
    for group in 0..256 {
        hands
            .join(*many, &format!("g{group}"), limits)
            .expect("a membership");
    }
    // Once, as it is gone then.
    let began = std::time::Instant::now();
    hands.set_state(*many, State::Closing);
    println!("a session of 257 groups leaves: {:?}", began.elapsed());
}

/// A user with a thousand sessions.
fn sessions(_: &mut Criterion) {
    let table = table();
    let mut seats = Seats::new(table);
    let me = table.start_process(FIRST_WORKER, Role::Worker);
    let settings = HandsSettings {
        outbox_bytes: 1 << 20,
    };
    let mut hands = table.hands(me, settings, Box::new(|| {}));
    let mut login = |policy| {
        let newcomer = Newcomer {
            transport: Transport::WebSocket,
            peer: "127.0.0.1:1".parse().expect("an address"),
            worker: me,
            deadline_ms: 0,
            consumed_at_accept: 0,
            written_at_accept: 0,
        };
        let row = seats.seat(&newcomer).expect("a row");
        hands.claim(row, State::Connected, 0).expect("the row");
        let login = Login {
            user: "ada",
            device_id: "",
            device_model: "",
            policy,
            sessions_per_user: 0,
        };
        let began = std::time::Instant::now();
        hands.login(row, &login).expect("a login");
        began.elapsed()
    };
    for _ in 0..1_000 {
        login(SameUser::Many);
    }
    let took: Vec<_> = (0..9).map(|_| login(SameUser::One)).collect();
    println!(
        "a login that replaces 1,000 sessions: {:?}",
        took.iter().min()
    );
}

criterion_group!(table_benches, benches, whole, sessions);
criterion_main!(table_benches);
