//! What the indexes do when nobody dies: users and their sessions, groups and their members.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a failure names its place

mod common;

use common::{connect, login, obey, small, used, worker};
use shm_table::{
    Capacity, GroupLimits, JoinRefused, Joined, LeaveRefused, Login, LoginRefused, Order, SameUser,
    Seats, State, Table, Transport,
};

const LIMITS: GroupLimits = GroupLimits::per_session(100);

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
    assert!(obey(&hands, phone).has(Order::REPLACED));
    assert!(obey(&hands, tablet).is_empty());
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
        hands.join(rows[0], "a", GroupLimits::per_session(1)),
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
fn the_first_users_of_a_group_by_name_and_how_many_more() {
    let table = Table::private(&Capacity {
        sessions: 64,
        arena_bytes: 64 * 1024,
        groups: 4,
        memberships: 64,
        workers: 1,
        hosts: 0,
    });
    let mut seats = Seats::new(&table);
    let (me, mut hands) = worker(&table, 0);
    let mut expected = Vec::new();
    // Names that differ in the first bytes, behind them, and in length alone; some have two sessions.
    for number in 0..60 {
        let name = match number % 3 {
            0 => format!("{}", char::from(b'a' + number / 6)),
            1 => format!("the same start {}", number / 6),
            _ => "z".repeat(usize::from(1 + number / 6)),
        };
        let row = connect(&mut seats, &mut hands, me, Transport::Tcp);
        login(&mut hands, row, &name);
        hands.join(row, "all", LIMITS).unwrap();
        expected.push(name);
    }
    expected.sort();
    expected.dedup();
    for most in [0, 1, 7, expected.len() - 1, expected.len(), 100] {
        let found = hands.users_in("all", most).unwrap();
        let names: Vec<&str> = found.users.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, &expected[..most.min(expected.len())], "{most}");
        assert_eq!(found.more as usize, expected.len() - names.len(), "{most}");
        for (name, user) in &found.users {
            let (mut sessions, mut same) = (Vec::new(), Vec::new());
            let seen = hands.presence_of(*user, &mut sessions);
            hands.sessions_of(name, &mut same);
            assert_eq!((seen, sessions), (hands.last_seen(name), same));
            assert_eq!(hands.find_user(name), Some(*user));
        }
    }
    assert!(hands.users_in("nobody's", 10).is_none());
}
