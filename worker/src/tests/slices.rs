//! A round of reading and writing that takes more than one turn.

use super::house::{House, settings, table};

const SENDERS: usize = 20;
const RECIPIENTS: usize = 12;

#[test]
fn what_does_not_fit_into_a_turn_is_done_in_the_next_ones() {
    let table = table(40);
    let mut house = House::new(&table, &settings());
    let mut recipients: Vec<_> = (0..RECIPIENTS)
        .map(|number| house.user(0, &format!("r{number}")))
        .collect();
    let mut senders: Vec<_> = (0..SENDERS)
        .map(|number| house.user(0, &format!("s{number}")))
        .collect();
    // No time at all: a turn is over as soon as the clock is looked at.
    house.works[0].slice.most_us = 0;
    for (number, sender) in senders.iter_mut().enumerate() {
        for content in 0..4 {
            let to = number % RECIPIENTS;
            sender.say(&format!(
                r#"{{"type":"sendto","to":"r{to}","content":"{number}.{content}","quiet":true}}"#
            ));
        }
    }
    let (mut turns, mut silent) = (0, 0);
    let mut heard = vec![Vec::new(); RECIPIENTS];
    loop {
        house.turn(0);
        turns += 1;
        for (heard, recipient) in heard.iter_mut().zip(&mut recipients) {
            heard.extend(recipient.lines());
        }
        let whole: usize = heard.iter().map(Vec::len).sum();
        if whole == 0 {
            silent += 1;
        }
        if !house.works[0].has_more_to_do() {
            break;
        }
        assert!(turns < 100, "{whole} of {} came", SENDERS * 4);
    }
    // All is read before anything is written, and neither is done in one turn.
    assert!(silent >= 2, "{silent} of {turns}");
    assert!(turns - silent >= 2, "{silent} of {turns}");
    for (to, lines) in heard.iter().enumerate() {
        let from: Vec<usize> = (to..SENDERS).step_by(RECIPIENTS).collect();
        assert_eq!(lines.len(), from.len() * 4, "{lines:?}");
        for number in from {
            let places = (0..4).map(|content| {
                let part = format!(r#""content":"{number}.{content}""#);
                lines.iter().position(|line| line.contains(&part)).unwrap()
            });
            assert!(places.is_sorted_by(|one, next| one < next), "{lines:?}");
        }
    }
    drop((senders, recipients));
    house.assert_empty();
}

#[test]
fn a_reload_in_the_middle_of_a_round_leaves_nobody_waiting() {
    const PEOPLE: usize = 70;
    for turns_before in 1..12 {
        let table = table(100);
        let mut house = House::new(&table, &settings());
        let mut people: Vec<_> = (0..PEOPLE)
            .map(|number| {
                let mut client = house.dial(0, shm_table::Transport::Tcp);
                house.hand_over_dialled(0, client.handle);
                client.say(&format!(r#"{{"type":"login","userName":"u{number}"}}"#));
                house.settle();
                client.lines();
                client
            })
            .collect();
        let say = |people: &mut Vec<super::house::Client>, content: &str| {
            for (number, client) in people.iter_mut().enumerate() {
                let to = (number + 1) % PEOPLE;
                client.say(&format!(
                    r#"{{"type":"sendto","to":"u{to}","content":"{content}","quiet":true}}"#
                ));
            }
        };
        say(&mut people, "before");
        house.works[0].slice.most_us = 0;
        for _ in 0..turns_before {
            house.turn(0);
        }
        house.relieve(0);
        house.settle();
        say(&mut people, "after");
        house.settle();
        for client in &mut people {
            let lines = client.lines();
            assert_eq!(lines.len(), 2, "{turns_before} turns: {lines:?}");
        }
        drop(people);
        house.assert_empty();
    }
}

#[test]
fn who_had_a_turn_and_has_more_comes_after_those_who_had_none() {
    let table = table(10);
    let mut house = House::new(&table, &settings());
    let mut people = ["ada", "bob", "eve"].map(|name| house.user(0, name));
    house.works[0].slice.most_us = 0;
    // Each has more than a read takes, always: one read is a turn, and whoever was read is to be read again.
    // It is so few lines that the clock is not looked at before its end.
    let blanks = format!("{}\n", " ".repeat(4_095)).repeat(16);
    let mut reads = [0; 3];
    for _ in 0..90 {
        for client in &mut people {
            client.send_some(blanks.as_bytes());
        }
        let before = people.each_ref().map(|client| consumed(&house, client));
        house.turn(0);
        for ((reads, client), before) in reads.iter_mut().zip(&people).zip(before) {
            *reads += usize::from(consumed(&house, client) > before);
        }
    }
    assert!(reads.iter().all(|&reads| reads >= 15), "{reads:?}");
    drop(people);
    house.assert_empty();
}

fn consumed(house: &House<'_>, client: &super::house::Client) -> u64 {
    let accounts = house.table.accounts();
    let account = accounts.iter().find(|it| it.handle == client.handle);
    account.unwrap().consumed
}

#[test]
fn rounds_are_counted_and_not_their_turns() {
    let table = table(40);
    let mut house = House::new(&table, &settings());
    let mut senders: Vec<_> = (0..SENDERS)
        .map(|number| house.user(0, &format!("s{number}")))
        .collect();
    house.works[0].slice.most_us = 0;
    let rounds = |house: &House<'_>| {
        let stats = house.table.stats();
        let worker = stats
            .processes
            .iter()
            .find(|it| it.slot == shm_table::FIRST_WORKER);
        let turns = worker
            .unwrap()
            .counters
            .iter()
            .find(|(name, _)| *name == "turns");
        turns.unwrap().1
    };
    let before = rounds(&house);
    for sender in &mut senders {
        sender.say(r#"{"type":"ping"}"#);
    }
    let mut turns = 0;
    loop {
        house.turn(0);
        turns += 1;
        if !house.works[0].has_more_to_do() {
            break;
        }
    }
    assert!(turns > 3, "{turns}");
    assert_eq!(rounds(&house) - before, 1, "{turns} turns");
    drop(senders);
    house.assert_empty();
}
