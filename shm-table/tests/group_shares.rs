//! Whoever takes all groups and memberships that he gets leaves room for who comes next.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a failure names its place

mod common;

use std::net::IpAddr;

use common::{login, used, worker};
use shm_table::{
    Capacity, GroupLimits, Hands, JoinRefused, Joined, Login, LoginRefused, Newcomer, ProcessId,
    RowHandle, SameUser, Seats, State, Table, Transport,
};

const LIMITS: GroupLimits = GroupLimits {
    per_session: 256,
    share_of_user: true,
    share_of_address: true,
};

const GROUPS: u32 = 512;

fn table(groups: u32, memberships: u32) -> Table {
    Table::private(&Capacity {
        sessions: 1_200,
        arena_bytes: 64 * 1024,
        groups,
        memberships,
        workers: 2,
        hosts: 0,
    })
}

/// A session of a user at an address.
fn session(
    seats: &mut Seats<'_>,
    (me, hands): &mut (ProcessId, Hands<'_>),
    user: &str,
    address: IpAddr,
) -> RowHandle {
    let who = Newcomer {
        transport: Transport::Tcp,
        peer: (address, 4711).into(),
        worker: *me,
        deadline_ms: 1_000_000_000,
        consumed_at_accept: 0,
        written_at_accept: 0,
    };
    let handle = seats.seat(&who).unwrap();
    hands.claim(handle, State::Connected, 0).unwrap();
    login(hands, handle, user);
    handle
}

fn v4(number: u32) -> IpAddr {
    IpAddr::V4((0x0a00_0000 + number).into())
}

fn v6(site: u32, network: u32) -> IpAddr {
    let bits = 0x2001_0db8_u128 << 96 | u128::from(site) << 80 | u128::from(network) << 64 | 1;
    IpAddr::V6(bits.into())
}

/// Everybody in `attackers` makes new groups, one each in turn, until nobody gets one more.
fn take_all(workers: &mut [(ProcessId, Hands<'_>); 2], attackers: &[RowHandle]) {
    let (mut made, mut active): (u32, Vec<usize>) = (0, (0..attackers.len()).collect());
    while !active.is_empty() {
        active.retain(|&at| {
            made += 1;
            let (_, hands) = &mut workers[at % 2];
            hands
                .join(attackers[at], &format!("attack {made}"), LIMITS)
                .is_ok()
        });
    }
}

#[test]
fn a_newcomer_always_finds_room_for_a_group() {
    // Sessions, users, addresses.
    for (sessions, users, addresses) in [
        (1_u32, 1_u32, 1_u32),
        (16, 16, 1),
        (16, 1, 16),
        (1_000, 1, 1),
        (1_000, 1_000, 1),
        (1_000, 64, 64),
    ] {
        for v6_network in [false, true] {
            let table = table(GROUPS, 65_536);
            let mut seats = Seats::new(&table);
            let mut workers = [worker(&table, 0), worker(&table, 1)];
            let attackers: Vec<RowHandle> = (0..sessions)
                .map(|n| {
                    let address = match v6_network {
                        true => v6(7, n % addresses),
                        false => v4(n % addresses),
                    };
                    let user = format!("user {}", n % users);
                    session(&mut seats, &mut workers[n as usize % 2], &user, address)
                })
                .collect();
            take_all(&mut workers, &attackers);
            let taken = used(&table, "groups");
            let newcomer = session(&mut seats, &mut workers[0], "newcomer", v4(9_999));
            // Half of what one more holder would have, as what is free shrinks with each of them; less what two workers do not know of each other.
            let holders = match (v6_network, users.min(addresses)) {
                (_, 1) => 1,
                // Of the /48 they are all one, who may have twice as much.
                (true, _) => 2,
                (false, several) => several,
            };
            let fair = GROUPS * 3 / (8 * (holders + 1));
            for number in 0..fair.min(200) {
                assert_eq!(
                    workers[0]
                        .1
                        .join(newcomer, &format!("new {number}"), LIMITS),
                    Ok(Joined::New),
                    "{sessions} sessions, {users} users, {addresses} addresses had {taken}; of {fair}"
                );
            }
            assert_eq!(table.audit(), Vec::<String>::new());
        }
    }
}

#[test]
fn memberships_and_holes_are_shared_too() {
    let table = table(GROUPS, 4_096);
    let mut seats = Seats::new(&table);
    let mut workers = [worker(&table, 0), worker(&table, 1)];
    let attackers: Vec<RowHandle> = (0..1_000)
        .map(|n| {
            let user = format!("user {n}");
            session(&mut seats, &mut workers[n % 2], &user, v4(1))
        })
        .collect();
    // Each group has all of them; then all but every sixteenth leave, and what is left occupies as many chunks as before.
    for group in 0..64 {
        let name = format!("group {group}");
        for (at, &row) in attackers.iter().enumerate() {
            let _ = workers[at % 2].1.join(row, &name, LIMITS);
        }
        for (at, &row) in attackers.iter().enumerate() {
            if at % 16 != 0 {
                let _ = workers[at % 2].1.leave(row, &name);
            }
        }
    }
    let chunks = used(&table, "membership_chunks");
    let newcomer = session(&mut seats, &mut workers[1], "newcomer", v4(2));
    for number in 0..100 {
        assert_eq!(
            workers[1]
                .1
                .join(newcomer, &format!("new {number}"), LIMITS),
            Ok(Joined::New),
            "{chunks} chunks were taken"
        );
    }
    assert_eq!(table.audit(), Vec::<String>::new());
}

#[test]
fn who_is_refused_is_told_whose_share_it_is_and_a_group_of_many_is_light() {
    let table = table(64, 4_096);
    let mut seats = Seats::new(&table);
    let mut workers = [worker(&table, 0), worker(&table, 1)];
    let ann = session(&mut seats, &mut workers[0], "ann", v4(1));
    let refused = (0..64).find_map(|number| {
        let joined = workers[0].1.join(ann, &format!("ann {number}"), LIMITS);
        joined.err().map(|refused| (number, refused))
    });
    assert_eq!(refused, Some((33, JoinRefused::ShareOfUser)));
    let ben = session(&mut seats, &mut workers[0], "ben", v4(1));
    let join_ben = |workers: &mut [(ProcessId, Hands<'_>); 2], group: &str| {
        workers[0].1.join(ben, group, LIMITS)
    };
    assert_eq!(
        join_ben(&mut workers, "ben"),
        Err(JoinRefused::ShareOfAddress)
    );
    // What exists may be joined: it takes no group more.
    assert_eq!(join_ben(&mut workers, "ann 1"), Ok(Joined::New));
    // Others share what she holds; then there is room for her again.
    for n in 0..9 {
        let row = session(
            &mut seats,
            &mut workers[0],
            &format!("friend {n}"),
            v4(100 + n),
        );
        for number in 0..33 {
            let joined = workers[0].1.join(row, &format!("ann {number}"), LIMITS);
            assert_eq!(joined, Ok(Joined::New));
        }
    }
    std::thread::sleep(std::time::Duration::from_millis(250));
    assert_eq!(workers[0].1.join(ann, "ann again", LIMITS), Ok(Joined::New));
    // Without the limits there are no shares.
    let all = GroupLimits::per_session(256);
    let mut without = (0..64).map(|number| workers[0].1.join(ann, &format!("all {number}"), all));
    assert!(without.any(|joined| joined == Err(JoinRefused::Groups)));
}

#[test]
fn thousands_of_users_in_a_row_do_not_hide_those_who_can_be_forgotten() {
    let table = Table::private(&Capacity {
        sessions: 6_000,
        arena_bytes: 64 * 1024,
        groups: 4,
        memberships: 16,
        workers: 2,
        hosts: 0,
    });
    let mut seats = Seats::new(&table);
    let mut worker = worker(&table, 0);
    for n in 0..5_000 {
        session(&mut seats, &mut worker, &format!("user {n}"), v4(1));
    }
    let (mut longest, mut all) = (std::time::Duration::ZERO, std::time::Duration::ZERO);
    for n in 0..9_000 {
        let who = Newcomer {
            transport: Transport::Tcp,
            peer: (v4(2), 4711).into(),
            worker: worker.0,
            deadline_ms: 1_000_000_000,
            consumed_at_accept: 0,
            written_at_accept: 0,
        };
        let row = seats.seat(&who).unwrap();
        worker.1.claim(row, State::Connected, 0).unwrap();
        let user = format!("flood {n}");
        let login = Login {
            user: &user,
            device_id: "",
            device_model: "",
            policy: SameUser::Many,
            sessions_per_user: 0,
        };
        let begun = std::time::Instant::now();
        assert_ne!(worker.1.login(row, &login), Err(LoginRefused::Full), "{n}");
        longest = longest.max(begun.elapsed());
        all += begun.elapsed();
        worker.1.finish(row);
        assert!(seats.free(row));
    }
    println!("a login took {:?}, the longest {longest:?}", all / 9_000);
}
