//! Lines, cut and joined in every way.

use shm_table::Transport;

use super::house::{House, settings, table};

#[test]
fn a_connection_is_greeted_and_a_login_welcomed() {
    let table = table(4);
    let mut house = House::new(&table, &settings());
    let mut client = house.connect(0, Transport::Tcp);
    house.settle();
    let open = client.line();
    assert!(open.starts_with(r#"{"type":"open","session":""#), "{open}");
    assert!(open.ends_with(r#""server":"local","loginTimeoutMs":10000,"heartbeatMs":60000}"#));
    client.say(r#"{"type":"login","userName":"ada"}"#);
    house.settle();
    let welcome = r#"{"type":"system","event":"login","content":"hello, welcome ada"}"#;
    assert_eq!(client.line(), welcome);
    drop(client);
    house.assert_empty();
}

#[test]
fn lines_may_come_byte_by_byte_and_many_at_once() {
    let table = table(4);
    let mut house = House::new(&table, &settings());
    let mut client = house.connect(0, Transport::Tcp);
    house.settle();
    client.lines();
    for byte in b"\r\n{\"type\":\"ping\"}\r\n{\"type\":\"pi" {
        client.send(&[*byte]);
        house.settle();
    }
    assert!(client.line().starts_with(r#"{"type":"pong","time":"#));
    client.send(b"ng\"}\n\n{\"cmd\":\"ping\"}\n{\"type\":\"ping\"}\n");
    house.settle();
    assert_eq!(client.lines().len(), 3);
    drop(client);
    house.assert_empty();
}

#[test]
fn a_line_longer_than_a_read_is_put_together() {
    let mut settings = settings();
    settings.limits.message_bytes = 300_000;
    let table = table(4);
    let mut house = House::new(&table, &settings);
    let mut ada = house.user(0, "ada");
    let content = format!("\"{}\"", "x".repeat(250_000));
    let line = format!("{{\"type\":\"sendto\",\"to\":\"ada\",\"content\":{content}}}\n");
    let mut sent = 0;
    let mut answer = Vec::new();
    while !answer.ends_with(b"}\n") {
        sent += ada.send_some(&line.as_bytes()[sent..]);
        house.settle();
        answer.extend(ada.bytes());
    }
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.contains(&content));
    assert_eq!(answer.lines().count(), 1);
    drop(ada);
    house.assert_empty();
}

#[test]
fn a_client_that_ends_its_input_still_gets_its_answers() {
    let table = table(4);
    let mut house = House::new(&table, &settings());
    let mut client = house.connect(0, Transport::Tcp);
    client.say(r#"{"type":"ping"}"#);
    client.end();
    house.settle();
    assert_eq!(client.lines().len(), 2);
    assert!(client.has_ended());
    house.assert_empty();
}

#[test]
fn a_row_serves_one_connection_after_another() {
    let table = table(1);
    let mut house = House::new(&table, &settings());
    for round in 0..50 {
        let mut client = house.user(round % 2, "ada");
        client.say(r#"{"type":"join","group":"g"}"#);
        client.send(br#"{"type":"half a li"#);
        house.settle();
        assert!(client.line().contains(r#""event":"join""#));
        drop(client);
        house.assert_empty();
    }
}
