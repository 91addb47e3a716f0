//! Who gets what.

use config::Config;
use shm_table::Transport;

use super::house::{House, settings, table};

fn admin_settings() -> Config {
    let mut settings = settings();
    settings.auth.admins = vec!["root".into()];
    settings
}

#[test]
fn a_message_reaches_every_device_once_in_any_worker() {
    let table = table(8);
    let mut house = House::new(&table, &settings());
    let mut ada = house.user(0, "ada");
    let mut ada2 = house.user(1, "ada");
    let mut bob = house.user(1, "bob");
    let mut bob2 = house.user(0, "bob");
    ada.say(r#"{"type":"sendto","to":"bob","content":{"n" : 1},"id":"a\u0031"}"#);
    house.settle();
    let ack = ada.line();
    assert!(
        ack.starts_with(r#"{"type":"ack","id":"a\u0031","messageId":""#),
        "{ack}"
    );
    assert!(ack.ends_with(r#""status":"delivered"}"#), "{ack}");
    let message = bob.line();
    assert!(message.contains(r#""from":"ada","to":"bob","content":{"n" : 1},"time":"#));
    assert_eq!(bob2.line(), message);
    assert_eq!(ada2.line(), message);
    assert!(ada.lines().is_empty());
    drop((ada, ada2, bob, bob2));
    house.assert_empty();
}

#[test]
fn without_an_id_the_message_comes_back_and_quiet_means_neither() {
    let table = table(8);
    let mut house = House::new(&table, &settings());
    let mut ada = house.user(0, "ada");
    let mut bob = house.user(1, "bob");
    ada.say(r#"{"type":"sendto","to":"bob","content":1}"#);
    ada.say(r#"{"type":"sendto","to":"bob","content":2,"quiet":true}"#);
    ada.say(r#"{"type":"sendto","to":"bob","content":3,"quiet":true,"id":3}"#);
    ada.say(r#"{"type":"sendto","to":"nobody","content":4,"quiet":true,"id":4}"#);
    ada.say(r#"{"type":"sendto","to":"nobody","content":5,"id":5}"#);
    ada.say(r#"{"type":"sendto","to":"ada","content":6}"#);
    house.settle();
    assert_eq!(bob.lines().len(), 3);
    let lines = ada.lines();
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert!(lines[0].contains(r#""content":1"#));
    assert!(lines[1].starts_with(r#"{"type":"ack","id":4,"#) && lines[1].contains("offline"));
    assert!(lines[2].starts_with(r#"{"type":"ack","id":5,"#) && lines[2].contains("offline"));
    assert!(lines[3].contains(r#""from":"ada","to":"ada","content":6"#));
    drop((ada, bob));
    house.assert_empty();
}

#[test]
fn a_group_hears_its_members_and_nobody_else() {
    let table = table(8);
    let mut house = House::new(&table, &settings());
    let mut ada = house.user(0, "ada");
    let mut bob = house.user(1, "bob");
    let mut eve = house.user(0, "eve");
    eve.say(r#"{"type":"sendgroup","to":"g","content":0,"id":1}"#);
    ada.say(r#"{"type":"join","group":"g"}"#);
    house.settle();
    assert!(eve.line().contains(r#""code":"unknown_group""#));
    assert!(ada.line().contains(r#""event":"join","group":"g""#));
    ada.say(r#"{"type":"sendgroup","to":"g","content":1,"id":1}"#);
    bob.say(r#"{"type":"join","group":"g"}"#);
    house.settle();
    assert!(ada.line().contains(r#""status":"offline""#));
    bob.lines();
    ada.say(r#"{"type":"sendgroup","to":"g","content":2,"id":2}"#);
    ada.say(r#"{"type":"sendgroup","to":"g","content":3}"#);
    eve.say(r#"{"type":"sendgroup","to":"g","content":4,"id":9}"#);
    house.settle();
    let lines = ada.lines();
    assert!(lines[0].contains(r#""status":"delivered""#), "{lines:?}");
    assert!(lines[1].contains(r#""group":"g","content":3"#));
    assert_eq!(lines.len(), 2);
    assert_eq!(bob.lines().len(), 2);
    assert!(eve.line().contains(r#""code":"not_a_member""#));
    bob.say(r#"{"type":"leave","group":"g"}"#);
    bob.say(r#"{"type":"leave","group":"g"}"#);
    house.settle();
    let lines = bob.lines();
    assert!(lines[0].contains(r#""event":"leave","group":"g""#));
    assert!(lines[1].contains("not_a_member"));
    drop((ada, bob, eve));
    house.assert_empty();
}

#[test]
fn only_administrators_broadcast() {
    let table = table(8);
    let mut house = House::new(&table, &admin_settings());
    let mut root = house.user(0, "root");
    let mut bob = house.user(1, "bob");
    let mut stranger = house.connect(1, Transport::Tcp);
    house.settle();
    stranger.lines();
    bob.say(r#"{"type":"broadcast","content":"no","id":1}"#);
    root.say(r#"{"type":"broadcast","content":"yes","id":2}"#);
    house.settle();
    let lines = bob.lines();
    assert!(
        lines
            .iter()
            .any(|line| line.contains(r#""code":"forbidden""#)),
        "{lines:?}"
    );
    assert!(
        lines
            .iter()
            .any(|line| line.contains(r#""event":"broadcast""#)),
        "{lines:?}"
    );
    let lines = root.lines();
    assert!(
        lines[0].contains(r#""from":"root","content":"yes""#),
        "{lines:?}"
    );
    assert!(lines[1].contains(r#""status":"delivered""#), "{lines:?}");
    assert!(stranger.lines().is_empty());
    drop((root, bob, stranger));
    house.assert_empty();
}

#[test]
fn presence_knows_who_is_there_and_who_was() {
    let table = table(8);
    let mut house = House::new(&table, &settings());
    let mut ada = house.connect(0, Transport::Tcp);
    ada.say(r#"{"type":"login","userName":"ada","deviceId":"d1","deviceModel":"m1"}"#);
    let bob = house.user(1, "bob");
    drop(bob);
    house.settle();
    ada.lines();
    ada.say(r#"{"type":"who","users":["ada","bob","ada","nobody"]}"#);
    house.settle();
    let presence = ada.line();
    assert!(
        presence.contains(r#""name":"ada","online":true"#),
        "{presence}"
    );
    assert!(presence.contains("d1") && presence.contains("m1") && presence.contains("local"));
    assert_eq!(
        presence.matches(r#""online":false"#).count(),
        2,
        "{presence}"
    );
    assert_eq!(presence.matches(r#""name":"ada""#).count(), 1, "{presence}");
    assert!(presence.contains(r#""lastSeen":null"#), "{presence}");
    ada.say(r#"{"type":"who","group":"g","id":7}"#);
    ada.say(r#"{"type":"join","group":"g"}"#);
    ada.say(r#"{"type":"who","group":"g"}"#);
    house.settle();
    let lines = ada.lines();
    assert!(lines[0].contains("unknown_group") && lines[0].contains(r#""id":7"#));
    assert!(lines[2].contains(r#""name":"ada""#), "{lines:?}");
    drop(ada);
    house.assert_empty();
}

#[test]
fn presence_is_capped() {
    let mut settings = settings();
    settings.limits.presence_users = 2;
    let table = table(8);
    let mut house = House::new(&table, &settings);
    let mut ada = house.user(0, "ada");
    ada.say(r#"{"type":"who","users":["a","b","c","d","e"]}"#);
    house.settle();
    let presence = ada.line();
    assert_eq!(presence.matches(r#""name""#).count(), 2, "{presence}");
    assert!(presence.contains(r#""more":3"#), "{presence}");
}

#[test]
fn what_is_refused_is_named() {
    let table = table(8);
    let mut house = House::new(&table, &settings());
    let mut client = house.connect(0, Transport::Tcp);
    for line in [
        r#"{"type":"sendto","to":"x","content":1,"id":"early"}"#,
        r#"{"type":"ping"}"#,
        r#"not json"#,
        r#"[]"#,
        r#"{"type":"dance","id":5}"#,
        r#"{"type":"login"}"#,
        r#"{"type":"login","userName":""}"#,
        r#"{"type":"login","userName":"ada"}"#,
        r#"{"type":"login","userName":"ada"}"#,
    ] {
        client.say(line);
    }
    house.settle();
    let lines = client.lines();
    let expected = [
        "open",
        "not_logged_in",
        "pong",
        "bad_json",
        "bad_request",
        "unknown_type",
        "bad_request",
        "bad_request",
        "welcome",
        "already_logged_in",
    ];
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for (line, word) in lines.iter().zip(expected) {
        assert!(line.contains(word), "{line} is not {word}");
    }
    assert!(lines[1].contains(r#""id":"early""#));
    assert!(lines[5].contains(r#""id":5"#));
    drop(client);
    house.assert_empty();
}
