//! How connections end.

use shm_table::{Order, State, Transport};

use super::house::{House, settings, table};

#[test]
fn logout_says_goodbye_and_waits_for_the_client_to_end() {
    let table = table(4);
    let mut house = House::new(&table, &settings());
    let mut ada = house.user(0, "ada");
    ada.say(r#"{"type":"logout"}"#);
    ada.say(r#"{"type":"ping"}"#);
    house.settle();
    let line = ada.line();
    assert!(
        line.contains(r#""type":"kicked""#) && line.contains(r#""closeCode":1000"#),
        "{line}"
    );
    assert!(ada.has_ended());
    assert_eq!(house.works[0].hands.state(ada.handle), Some(State::Closing));
    ada.say(r#"{"type":"ping"}"#);
    house.settle();
    assert!(ada.lines().is_empty());
    drop(ada);
    house.assert_empty();
}

#[test]
fn a_client_that_does_not_end_is_ended() {
    let table = table(4);
    let mut house = House::new(&table, &settings());
    let mut ada = house.user(0, "ada");
    ada.say(r#"{"type":"logout"}"#);
    house.settle();
    house.works[0].hands.set_deadline(ada.handle, 0);
    house.works[1].hands.order(ada.handle, Order::DEADLINE);
    house.assert_empty();
    drop(ada);
}

#[test]
fn a_line_too_long_is_named_and_the_connection_ends() {
    let mut settings = settings();
    settings.limits.message_bytes = 1000;
    let table = table(4);
    let mut house = House::new(&table, &settings);
    for chunk in [1000, 7] {
        let mut ada = house.user(0, "ada");
        let mut sent = 0;
        while sent <= 1000 {
            ada.send(&vec![b'x'; chunk]);
            sent += chunk;
            house.settle();
        }
        let line = ada.line();
        assert!(line.contains(r#""code":"too_big""#), "{line}");
        assert!(line.contains(r#""closeCode":1009"#), "{line}");
        assert!(ada.has_ended());
        drop(ada);
        house.assert_empty();
    }
}

#[test]
fn text_that_is_not_utf8_ends_the_connection() {
    let table = table(4);
    let mut house = House::new(&table, &settings());
    let mut ada = house.user(0, "ada");
    ada.send(b"{\"type\":\"ping\",\"x\":\"\xff\"}\n");
    house.settle();
    assert!(ada.line().contains(r#""closeCode":1007"#));
    drop(ada);
    house.assert_empty();
}

#[test]
fn tokens_are_not_enabled() {
    let table = table(4);
    let mut house = House::new(&table, &settings());
    let mut client = house.connect(0, Transport::Tcp);
    client.say(r#"{"type":"login","token":"abc"}"#);
    house.settle();
    let lines = client.lines();
    assert!(lines[1].contains("auth_failed") && lines[1].contains(r#""closeCode":4003"#));
    assert!(lines[1].contains("tokens are not enabled"));
    drop(client);
    house.assert_empty();
}

#[test]
fn the_end_of_the_server_is_announced() {
    let table = table(8);
    let mut house = House::new(&table, &settings());
    let mut ada = house.user(0, "ada");
    let mut guest = house.connect(0, Transport::Tcp);
    let mut silent = house.connect(0, Transport::WebSocket);
    house.settle();
    guest.lines();
    house.works[0].drain();
    house.settle();
    for client in [&mut ada, &mut guest] {
        let lines = client.lines();
        assert!(lines[0].contains(r#""event":"shutdown""#), "{lines:?}");
        assert!(lines[1].contains(r#""closeCode":1001"#), "{lines:?}");
        assert_eq!(lines.len(), 2);
    }
    assert!(
        String::from_utf8(silent.bytes())
            .unwrap()
            .starts_with("HTTP/1.1 503 ")
    );
    let mut late = house.connect(0, Transport::Tcp);
    house.settle();
    assert!(late.lines().last().unwrap().contains(r#""closeCode":1001"#));
    assert!(!house.works[0].is_drained());
    drop((ada, guest, silent, late));
    house.settle();
    assert!(house.works[0].is_drained());
    house.assert_empty();
}
