//! At the limits: what the client gets, and what holds.

use config::SameUser;
use shm_table::{Order, Transport};

use super::house::{House, settings, table};

#[test]
fn a_flood_is_refused_and_then_closed() {
    let mut settings = settings();
    settings.limits.messages_per_second = 1;
    settings.limits.message_burst = 3;
    settings.limits.rate_limit_strikes = 4;
    let table = table(4);
    let mut house = House::new(&table, &settings);
    let mut client = house.connect(0, Transport::Tcp);
    for number in 0..20 {
        client.say(&format!(r#"{{"type":"ping","id":{number}}}"#));
    }
    house.settle();
    let lines = client.lines();
    assert_eq!(
        lines.iter().filter(|line| line.contains("pong")).count(),
        3,
        "{lines:#?}"
    );
    assert_eq!(
        lines
            .iter()
            .filter(|line| line.contains("rate_limited"))
            .count(),
        4
    );
    assert!(lines[4].contains(r#""id":3"#), "{lines:#?}");
    let last = lines.last().unwrap();
    assert!(
        last.contains(r#""type":"kicked""#) && last.contains(r#""closeCode":4029"#),
        "{last}"
    );
    assert!(client.has_ended());
    drop(client);
    house.assert_empty();
}

#[test]
fn a_slow_reader_is_told_and_closed_and_holds_up_nobody() {
    let mut settings = settings();
    settings.limits.outbox_bytes = 100_000;
    let table = table(8);
    let mut house = House::new(&table, &settings);
    let mut ada = house.user(0, "ada");
    let mut bob = house.user(1, "bob");
    let mut eve = house.user(1, "eve");
    let content = "y".repeat(5_000);
    let mut number = 0;
    while house.works[1].hands.state(bob.handle) == Some(shm_table::State::LoggedIn) {
        for to in ["bob", "eve"] {
            number += 1;
            ada.say(&format!(
                r#"{{"type":"sendto","to":"{to}","content":"{content}","id":{number}}}"#
            ));
        }
        house.settle();
        assert_eq!(eve.lines().len(), 1);
        ada.lines();
        assert!(number < 2_000, "nobody noticed");
    }
    house.settle();
    let mut all = Vec::new();
    loop {
        let bytes = bob.bytes();
        if bytes.is_empty() {
            break;
        }
        all.extend(bytes);
        house.settle();
    }
    let all = String::from_utf8(all).unwrap();
    for line in all.lines() {
        assert!(
            line.starts_with("{\"type\":") && line.ends_with('}'),
            "torn: {line:.40}"
        );
    }
    let last = all.lines().last().unwrap();
    assert!(last.contains(r#""closeCode":4008"#), "{last:.100}");
    assert!(bob.has_ended());
    drop((ada, bob, eve));
    house.assert_empty();
}

#[test]
fn a_sender_waits_while_the_recipients_worker_has_no_turn() {
    let mut settings = settings();
    settings.limits.outbox_bytes = 10_000;
    let table = table(4);
    let mut house = House::new(&table, &settings);
    let mut ada = house.user(0, "ada");
    let mut bob = house.user(1, "bob");
    let content = "z".repeat(200);
    for number in 0..60 {
        ada.say(&format!(
            r#"{{"type":"sendto","to":"bob","content":"{number} {content}","quiet":true}}"#
        ));
    }
    for _ in 0..3 {
        house.turn(0);
    }
    let waiting = house.works[1].hands.outbox_bytes(bob.handle);
    assert!((5_000..10_000).contains(&waiting), "{waiting} bytes wait");
    assert_eq!(house.works[0].congested[0].0, ada.handle.row);
    house.settle();
    let lines = bob.lines();
    assert_eq!(lines.len(), 60, "all arrive, and the reader is not blamed");
    for (number, line) in lines.iter().enumerate() {
        assert!(line.contains(&format!("\"{number} z")), "{line}");
    }
    assert!(ada.lines().is_empty());
}

#[test]
fn a_sender_who_is_answered_waits_as_well() {
    let mut settings = settings();
    settings.limits.outbox_bytes = 10_000;
    let table = table(4);
    let mut house = House::new(&table, &settings);
    let mut ada = house.user(0, "ada");
    let mut bob = house.user(1, "bob");
    let content = "z".repeat(200);
    for number in 0..60 {
        ada.say(&format!(
            r#"{{"type":"sendto","to":"bob","content":"{number} {content}","id":{number}}}"#
        ));
    }
    // Each answer that it gets is written, and it reads all of them.
    for _ in 0..60 {
        house.turn(0);
        ada.lines();
    }
    let waiting = house.works[1].hands.outbox_bytes(bob.handle);
    assert!((5_000..6_000).contains(&waiting), "{waiting} bytes wait");
    house.settle();
    assert_eq!(bob.lines().len(), 60);
    house.settle();
    drop((ada, bob));
    house.assert_empty();
}

#[test]
fn a_sender_waits_for_the_successor_of_a_dead_worker_and_the_reader_is_not_blamed() {
    let mut settings = settings();
    settings.limits.outbox_bytes = 5_000;
    let table = table(4);
    let mut house = House::new(&table, &settings);
    let mut ada = house.user(0, "ada");
    let mut bob = house.dial(1, Transport::Tcp);
    house.hand_over_dialled(1, bob.handle);
    bob.say(r#"{"type":"login","userName":"bob"}"#);
    house.settle();
    bob.lines();
    house.die(1);
    let content = "z".repeat(200);
    for number in 0..100 {
        ada.say(&format!(
            r#"{{"type":"sendto","to":"bob","content":"{number} {content}","quiet":true}}"#
        ));
    }
    for _ in 0..100 {
        house.turn(0);
    }
    let waiting = house.works[1].hands.outbox_bytes(bob.handle);
    assert!((2_500..5_000).contains(&waiting), "{waiting} bytes wait");
    house.replace(1);
    house.settle();
    assert_eq!(bob.lines().len(), 100);
    assert!(ada.lines().is_empty());
}

#[test]
fn a_sender_that_does_not_read_its_answers_waits() {
    let mut settings = settings();
    settings.limits.outbox_bytes = 60_000;
    let table = table(4);
    let mut house = House::new(&table, &settings);
    let mut ada = house.user(0, "ada");
    let line = format!(
        "{{\"type\":\"sendto\",\"to\":\"ada\",\"content\":\"{}\"}}\n",
        "z".repeat(2_000)
    );
    // More than the sockets and the outbox hold together.
    let input = line.repeat(2_000);
    let mut sent = 0;
    loop {
        let more = ada.send_some(&input.as_bytes()[sent..]);
        house.settle();
        let queued = house.works[0].hands.outbox_bytes(ada.handle);
        assert!(queued <= 60_000, "{queued}");
        if more == 0 {
            break;
        }
        sent += more;
    }
    assert!(sent < input.len());
    let mut lines = 0;
    while lines < 2_000 {
        sent += ada.send_some(&input.as_bytes()[sent..]);
        house.settle();
        let came = ada.lines();
        assert!(
            came.iter().all(|line| line.contains(r#""content":"zzz"#)),
            "{came:?}"
        );
        lines += came.len();
    }
    assert_eq!(lines, 2_000);
    drop(ada);
    house.assert_empty();
}

#[test]
fn sessions_of_a_user_are_limited_and_the_connection_stays() {
    let mut settings = settings();
    settings.limits.sessions_per_user = 1;
    let table = table(4);
    let mut house = House::new(&table, &settings);
    let first = house.user(0, "ada");
    let mut second = house.connect(1, Transport::Tcp);
    second.say(r#"{"type":"login","userName":"ada"}"#);
    second.say(r#"{"type":"login","userName":"bob"}"#);
    house.settle();
    let lines = second.lines();
    assert!(lines[1].contains(r#""code":"capacity""#), "{lines:?}");
    assert!(lines[2].contains("welcome bob"), "{lines:?}");
    drop((first, second));
    house.assert_empty();
}

#[test]
fn a_newer_login_replaces_the_older() {
    let mut settings = settings();
    settings.limits.same_user = SameUser::One;
    let table = table(4);
    let mut house = House::new(&table, &settings);
    let mut older = house.user(0, "ada");
    let mut newer = house.user(1, "ada");
    house.settle();
    let kicked = older.line();
    assert!(kicked.contains(r#""type":"kicked""#) && kicked.contains(r#""closeCode":4004"#));
    assert!(older.has_ended());
    newer.say(r#"{"type":"ping"}"#);
    house.settle();
    assert!(newer.line().contains("pong"));
    drop((older, newer));
    house.assert_empty();
}

#[test]
fn groups_and_memberships_are_limited() {
    let mut settings = settings();
    settings.limits.groups_per_session = 5;
    let table = table(8);
    let mut house = House::new(&table, &settings);
    let mut ada = house.user(0, "ada");
    for number in 0..6 {
        ada.say(&format!(
            r#"{{"type":"join","group":"g{number}","id":{number}}}"#
        ));
    }
    house.settle();
    let lines = ada.lines();
    assert!(
        lines.len() == 6 && lines[5].contains(r#""code":"capacity""#),
        "{lines:#?}"
    );
    assert!(lines[5].contains(r#""id":5"#));
    drop(ada);
    house.assert_empty();
}

#[test]
fn a_reader_who_would_fill_the_arena_is_let_go_and_nobody_else_is_refused() {
    let mut settings = settings();
    // As much as it likes, as far as its limit goes.
    settings.limits.outbox_bytes = 64 << 20;
    let table = table(8);
    let mut house = House::new(&table, &settings);
    let mut ada = house.user(0, "ada");
    let mut bob = house.user(1, "bob");
    let mut eve = house.user(1, "eve");
    let content = "w".repeat(20_000);
    let (mut accepted, mut is_over) = (0, false);
    while !is_over {
        for to in ["bob", "eve"] {
            ada.say(&format!(
                r#"{{"type":"sendto","to":"{to}","content":"{content}","id":{accepted}}}"#
            ));
            house.settle();
            let answer = ada.line();
            assert!(answer.contains(&format!(r#""id":{accepted}"#)));
            assert!(!answer.contains("overloaded"), "{answer}");
            is_over |= to == "bob" && answer.contains("offline");
        }
        assert_eq!(eve.lines().len(), 1);
        accepted += 1;
        assert!(accepted < 2_000);
    }
    let mut came = Vec::new();
    while !bob.has_ended() {
        came.extend(bob.lines());
        house.settle();
    }
    came.extend(bob.lines());
    let last = came.last().unwrap();
    assert!(last.contains(r#""closeCode":4008"#), "{last}");
    drop((ada, bob, eve));
    house.assert_empty();
}

#[test]
fn a_deadline_that_has_moved_on_is_no_deadline() {
    let table = table(8);
    let mut house = House::new(&table, &settings());
    let mut ada = house.user(0, "ada");
    house.works[1].hands.order(ada.handle, Order::DEADLINE);
    house.settle();
    assert!(ada.lines().is_empty() && !ada.has_ended());
    house.works[0].hands.set_deadline(ada.handle, 0);
    house.works[1].hands.order(ada.handle, Order::DEADLINE);
    house.settle();
    assert!(ada.line().contains(r#""closeCode":4002"#));
    assert!(ada.has_ended());
    drop(ada);
    house.assert_empty();
}
