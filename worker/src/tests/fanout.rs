//! Messages for many: over several rounds, with what happens in between.

use serde_json::Value;
use shm_table::{Capacity, Envelope, FIRST_WORKER, Table, Transport, Urgency};

use super::house::{Client, House, WORKERS, settings};

/// Members of the group in most of these tests, and how many of them have their turn at once.
const MEMBERS: usize = 40;
const AT_ONCE: u32 = 4;

fn table(sessions: u32, arena_bytes: u64) -> Table {
    let table = Table::private(&Capacity {
        sessions,
        arena_bytes,
        groups: 4,
        memberships: sessions,
        workers: WORKERS as u8,
        hosts: 0,
    });
    table.begin_near_wrap();
    table
}

/// People who are logged in as u0, u1 and so on, or all as one user; over the network, so that a successor can take them over. The
/// members are served by both workers, the first one by the first.
fn people(house: &mut House<'_>, count: usize, say: impl Fn(usize) -> String) -> Vec<Client> {
    let mut people: Vec<Client> = (0..count)
        .map(|number| {
            let worker = number % WORKERS;
            let mut client = house.dial(worker, Transport::Tcp);
            house.hand_over_dialled(worker, client.handle);
            client.say(&say(number));
            client
        })
        .collect();
    house.settle();
    for client in &mut people {
        let lines = client.lines();
        assert!(lines[1].contains("hello, welcome"), "{lines:?}");
    }
    people
}

fn login(number: usize) -> String {
    format!(r#"{{"type":"login","userName":"u{number}"}}"#)
}

/// The same, all of them in the group "all".
fn members(house: &mut House<'_>, count: usize) -> Vec<Client> {
    let people = people(house, count, login);
    join(house, people)
}

fn join(house: &mut House<'_>, mut people: Vec<Client>) -> Vec<Client> {
    for client in &mut people {
        client.say(r#"{"type":"join","group":"all"}"#);
    }
    house.settle();
    for client in &mut people {
        assert!(client.line().contains("joined"));
    }
    people
}

fn house(table: &Table) -> House<'_> {
    let mut house = House::new(table, &settings());
    house.set_at_once(AT_ONCE);
    house
}

const TO_ALL: &str = r#"{"type":"sendgroup","to":"all","content":"to all","id":1}"#;

fn fields(line: &str) -> Value {
    serde_json::from_str(line).unwrap()
}

/// Ids of the messages among lines, each of which has this content.
fn message_ids(lines: &[String], content: &str) -> Vec<String> {
    let lines = lines.iter().map(|line| fields(line));
    let messages = lines.filter(|it| it["type"] == "message" || it["event"] == "broadcast");
    messages
        .map(|message| {
            assert_eq!(message["content"], content);
            message["id"].as_str().unwrap().to_owned()
        })
        .collect()
}

/// Messages that the first worker has put into outboxes.
fn messages_out(house: &House<'_>) -> u64 {
    let stats = house.table.stats();
    let mut processes = stats.processes.iter();
    let worker = processes.find(|it| it.slot == FIRST_WORKER).unwrap();
    let mut counters = worker.counters.iter();
    counters
        .find(|(name, _)| *name == "messages_out")
        .unwrap()
        .1
}

#[test]
fn no_turn_puts_a_message_into_more_outboxes_than_a_slice_and_neighbours_come_between() {
    const MANY: usize = 1_300;
    let table = table(1_400, 4 << 20);
    let mut house = House::new(&table, &settings());
    let mut members = members(&mut house, MANY);
    let mut neighbours = people(&mut house, 3, |number| {
        format!(r#"{{"type":"login","userName":"n{number}"}}"#)
    });
    members[0].say(TO_ALL);
    let before = messages_out(&house);
    let (mut turns, mut most, mut heard_after) = (0, 0, None);
    while messages_out(&house) - before < MANY as u64 - 1 {
        let last = messages_out(&house);
        house.turn(0);
        turns += 1;
        most = most.max(messages_out(&house) - last);
        if turns == 1 {
            neighbours[0].say(r#"{"type":"sendto","to":"n2","content":"hello","quiet":true}"#);
        }
        if heard_after.is_none() && !neighbours[2].lines().is_empty() {
            heard_after = Some(turns);
        }
        assert!(turns < 50);
    }
    assert!(most <= 512 + 2, "{most} in one turn");
    assert!(turns >= 3, "{turns}");
    assert_eq!(heard_after, Some(2), "of {turns}");
    house.settle();
    assert!(members[0].line().contains(r#""status":"delivered""#));
    for member in &mut members[1..] {
        assert_eq!(message_ids(&member.lines(), "to all").len(), 1);
    }
    drop((members, neighbours));
    house.assert_empty();
}

#[test]
fn without_time_a_slice_is_a_few() {
    let table = table(50, 1 << 20);
    let mut house = House::new(&table, &settings());
    let mut members = members(&mut house, MEMBERS);
    house.set_at_once(20);
    house.works[0].slice.most_us = 0;
    members[0].say(TO_ALL);
    let mut most = 0;
    for _ in 0..200 {
        let last = messages_out(&house);
        house.turn(0);
        most = most.max(messages_out(&house) - last);
    }
    assert_eq!(most, 16);
    house.settle();
    for member in &mut members[1..] {
        assert_eq!(message_ids(&member.lines(), "to all").len(), 1);
    }
    drop(members);
    house.assert_empty();
}

#[test]
fn what_the_sender_says_next_comes_behind_it() {
    let table = table(50, 1 << 20);
    let mut house = house(&table);
    let mut members = members(&mut house, MEMBERS);
    let mut both = format!("{TO_ALL}\n");
    for number in 1..MEMBERS {
        both += &format!(
            "{{\"type\":\"sendto\",\"to\":\"u{number}\",\"content\":\"next\",\"id\":2}}\n"
        );
    }
    both += "{\"type\":\"sendgroup\",\"to\":\"all\",\"content\":\"last\",\"id\":3}\n";
    members[0].send(both.as_bytes());
    for _ in 0..5 {
        house.turn(0);
    }
    // It has been told nothing, and nobody has anything else of it yet.
    assert_eq!(members[0].lines(), [""; 0]);
    house.settle();
    let told: Vec<Value> = members[0]
        .lines()
        .iter()
        .map(|it| fields(it)["id"].clone())
        .collect();
    let mut expected = vec![Value::from(1)];
    expected.extend(vec![Value::from(2); MEMBERS - 1]);
    expected.push(Value::from(3));
    assert_eq!(told, expected);
    for member in &mut members[1..] {
        let contents = member
            .lines()
            .iter()
            .map(|it| fields(it)["content"].clone())
            .collect::<Vec<_>>();
        assert_eq!(contents, ["to all", "next", "last"]);
    }
    drop(members);
    house.assert_empty();
}

#[test]
fn several_senders_have_theirs_one_after_the_other() {
    let table = table(50, 1 << 20);
    let mut house = house(&table);
    let mut members = members(&mut house, MEMBERS);
    for member in &mut members {
        member.say(TO_ALL);
    }
    house.settle();
    for member in &mut members {
        let lines = member.lines();
        assert_eq!(lines.iter().filter(|it| it.contains("ack")).count(), 1);
        let mut ids = message_ids(
            &lines
                .iter()
                .filter(|it| !it.contains("ack"))
                .cloned()
                .collect::<Vec<_>>(),
            "to all",
        );
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), MEMBERS - 1);
    }
    drop(members);
    house.assert_empty();
}

/// After so many turns something happens; then everybody has heard `TO_ALL`, in the end. Returns what each has heard.
fn interrupted(turns: usize, then: impl Fn(&mut House<'_>, &mut Vec<Client>)) -> Vec<Vec<String>> {
    let table = table(50, 1 << 20);
    let mut house = house(&table);
    let mut members = members(&mut house, MEMBERS);
    members[0].send(format!("{TO_ALL}\n{{\"type\":\"ping\"}}\n").as_bytes());
    for _ in 0..turns {
        house.turn(0);
    }
    then(&mut house, &mut members);
    house.settle();
    let heard = members.iter_mut().map(Client::lines).collect();
    assert_eq!(house.table.audit(), [""; 0]);
    drop(members);
    house.assert_empty();
    heard
}

/// Everybody has it, and the sender its answers.
fn assert_complete(heard: &[Vec<String>], twice_at_most: usize) {
    let told: Vec<Value> = heard[0]
        .iter()
        .map(|it| fields(it)["type"].clone())
        .collect();
    assert_eq!(told, ["ack", "pong"]);
    let mut twice = 0;
    let mut all = Vec::new();
    for lines in &heard[1..] {
        let ids = message_ids(lines, "to all");
        assert!(!ids.is_empty());
        twice += ids.len() - 1;
        all.extend(ids);
    }
    all.dedup();
    assert_eq!(all, [fields(&heard[0][0])["messageId"].as_str().unwrap()]);
    assert!(twice <= twice_at_most, "{twice} heard it again");
}

#[test]
fn a_reload_in_its_middle_repeats_and_loses_nothing() {
    for turns in 1..14 {
        let heard = interrupted(turns, |house, _| house.relieve(0));
        assert_complete(&heard, 0);
    }
}

#[test]
fn a_death_between_two_turns_repeats_nothing() {
    for turns in 1..14 {
        let heard = interrupted(turns, |house, _| house.replace(0));
        assert_complete(&heard, 0);
    }
}

#[test]
fn a_worker_that_cannot_be_replaced_hands_it_over() {
    for turns in 1..14 {
        let heard = interrupted(turns, |house, _| house.hand_over(0, 1));
        assert_complete(&heard, 0);
    }
}

#[cfg(feature = "kill-points")]
#[test]
fn a_death_at_any_store_repeats_it_to_one_at_most() {
    use shm_table::kill_point;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    for turns in [0, 1, 5, 9, 10, 11] {
        for after in 1.. {
            let killed = std::cell::Cell::new(false);
            let heard = interrupted(turns, |house, _| {
                kill_point::arm(after);
                let outcome = catch_unwind(AssertUnwindSafe(|| house.turn(0)));
                killed.set(kill_point::revive());
                assert_eq!(outcome.is_err(), killed.get(), "it panicked");
                if killed.get() {
                    house.replace(0);
                }
            });
            assert_complete_but_for_an_answer(&heard);
            if !killed.get() {
                break;
            }
        }
    }
}

/// The same where the death may have come when the sender was being answered.
#[cfg(feature = "kill-points")]
fn assert_complete_but_for_an_answer(heard: &[Vec<String>]) {
    let mut heard = heard.to_vec();
    let before = heard[0].len();
    heard[0].dedup_by_key(|line| fields(line)["type"].clone());
    assert!(before - heard[0].len() <= 1, "{heard:?}");
    assert_complete(&heard, 1);
}

#[test]
fn recipients_leave_and_come_meanwhile() {
    let heard = interrupted(3, |house, members| {
        // One ends, one leaves the group, one comes to it.
        drop(members.remove(MEMBERS - 1));
        members[MEMBERS - 2].say(r#"{"type":"leave","group":"all"}"#);
        let newcomer = people(house, 1, |_| {
            r#"{"type":"login","userName":"late"}"#.to_owned()
        });
        members.extend(join(house, newcomer));
    });
    assert!(heard[0][0].contains("delivered"));
    for lines in &heard[1..MEMBERS - 2] {
        assert_eq!(message_ids(lines, "to all").len(), 1);
    }
    // Who left was in the group when the message was accepted; who came was not.
    assert!(heard[MEMBERS - 2].len() <= 2);
    assert_eq!(heard[MEMBERS - 1], [""; 0]);
}

#[test]
fn it_goes_on_when_its_sender_is_gone() {
    for kicked in [false, true] {
        let heard = interrupted(3, |house, members| {
            if kicked {
                let row = members[0].handle;
                house.works[1].hands.order(row, shm_table::Order::KICKED);
            } else {
                drop(members.remove(0));
            }
        });
        let from = usize::from(kicked);
        for lines in &heard[from..] {
            assert_eq!(message_ids(lines, "to all").len(), 1);
        }
    }
}

#[test]
fn broadcasts_and_users_with_many_sessions() {
    let table = table(50, 1 << 20);
    let mut settings = settings();
    settings.auth.admins = vec!["ada".into()];
    let mut house = House::new(&table, &settings);
    house.set_at_once(AT_ONCE);
    let mut sessions = people(&mut house, MEMBERS, |_| {
        r#"{"type":"login","userName":"ada"}"#.to_owned()
    });
    for (request, sender_hears) in [
        (r#"{"type":"broadcast","content":"x"}"#, 1),
        (r#"{"type":"sendto","to":"ada","content":"x"}"#, 1),
        (
            r#"{"type":"sendto","to":"nobody","content":"x","quiet":true}"#,
            1,
        ),
    ] {
        sessions[0].say(request);
        let before = messages_out(&house);
        house.turn(0);
        assert!(messages_out(&house) - before <= u64::from(AT_ONCE));
        house.settle();
        let lines = sessions[0].lines();
        assert_eq!(lines.len(), sender_hears, "{request}: {lines:?}");
        for session in &mut sessions[1..] {
            let lines = session.lines();
            assert_eq!(lines.len(), 1, "{request}: {lines:?}");
        }
    }
    drop(sessions);
    house.assert_empty();
}

#[test]
fn without_room_for_its_list_it_is_refused_whole() {
    let table = table(50, 16 << 10);
    let mut house = house(&table);
    let mut members = members(&mut house, MEMBERS);
    // The other worker is composing what takes all there is, but for what answers need.
    let mut held = Vec::new();
    let compose = |house: &mut House<'_>| {
        let body = [b'x'; 200];
        let write = |w: &mut Vec<u8>| std::io::Write::write_all(w, &body);
        let hands = &mut house.works[1].hands;
        hands.compose(Urgency::Message, write, |_| Envelope::default())
    };
    while let Ok(message) = compose(&mut house) {
        held.push(message);
    }
    members[0].say(TO_ALL);
    house.turn(0);
    let line = members[0].line();
    assert!(
        line.contains("overloaded") && line.contains(r#""id":1"#),
        "{line}"
    );
    held.drain(..)
        .for_each(|message| house.works[1].hands.discard(message));
    house.settle();
    for member in &mut members[3..] {
        assert_eq!(member.lines(), [""; 0]);
    }
    drop(members);
    house.assert_empty();
}

#[test]
fn it_waits_for_entries_where_a_short_message_is_not_refused() {
    // 128 entries, of which the other worker, who has no turn, lets nobody have back those of its own.
    let table = table(50, 16 << 10);
    let mut house = house(&table);
    let mut members = members(&mut house, MEMBERS);
    let mut neighbours = people(&mut house, 3, |number| {
        format!(r#"{{"type":"login","userName":"n{number}"}}"#)
    });
    for _ in 0..8 {
        members[0].say(TO_ALL);
    }
    for _ in 0..200 {
        house.turn(0);
    }
    let waits = |house: &House<'_>| {
        let work = &house.works[0];
        work.hands.has_fanout() && !work.has_more_to_do() && work.hands.about_to_sleep()
    };
    assert!(waits(&house));
    neighbours[0].say(r#"{"type":"sendto","to":"n2","content":"hello","id":1}"#);
    house.turn(0);
    assert!(neighbours[0].line().contains("delivered"));
    assert!(neighbours[2].line().contains("hello"));
    // That its sender is not heard is not its silence.
    let sender = members[0].handle;
    house.works[0].hands.set_deadline(sender, 1);
    house.works[0]
        .hands
        .order(sender, shm_table::Order::DEADLINE);
    house.turn(0);
    assert!(house.works[0].hands.deadline(sender) > 1);
    assert!(waits(&house));
    house.works[0].hands.awake();
    house.settle();
    assert_eq!(members[0].lines().len(), 8);
    for member in &mut members[1..] {
        assert_eq!(message_ids(&member.lines(), "to all").len(), 8);
    }
    drop((members, neighbours));
    house.assert_empty();
}
