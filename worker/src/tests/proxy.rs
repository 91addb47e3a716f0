//! Connections through a proxy: whose they are, and that nobody else is believed.

use std::net::SocketAddr;

use shm_table::{Order, State, Table, Transport};

use super::frames::{CLOSE, REQUEST, TEXT, frames};
use super::house::{Client, House, settings, table};

const PROXY: usize = 0;
const LOGIN: &str = "{\"type\":\"login\",\"userName\":\"ada\"}\n";
const LINE: &str = "PROXY TCP4 192.0.2.7 192.0.2.1 4711 80\r\n";
const CLIENT: &str = "192.0.2.7:4711";
/// Who is at the other end, as the house seats everybody.
const PEER: &str = "127.0.0.1:1";

fn house<'t>(table: &'t Table, proxies: &[&str]) -> House<'t> {
    let mut settings = settings();
    settings.server.proxies = proxies.iter().map(|it| it.parse().unwrap()).collect();
    House::new(table, &settings)
}

fn dial(house: &mut House<'_>, transport: Transport) -> Client {
    let client = house.dial(PROXY, transport);
    house.hand_over_dialled(PROXY, client.handle);
    client
}

fn peer(house: &House<'_>, client: &Client) -> String {
    let peer: SocketAddr = house.works[PROXY].hands.peer(client.handle).unwrap();
    peer.to_string()
}

fn told(house: &House<'_>) -> Vec<String> {
    let clients = house.works[PROXY].clients.iter();
    clients.map(|(_, address)| address.to_string()).collect()
}

fn v2(version_command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let fixed = [version_command, family, 0, body.len() as u8];
    [b"\r\n\r\n\0\r\nQUIT\n", &fixed[..], body].concat()
}

fn request(forwarded_for: &str) -> Vec<u8> {
    let field = format!("\r\nX-Forwarded-For: {forwarded_for}\r\n\r\n");
    REQUEST.replace("\r\n\r\n", &field).into_bytes()
}

#[test]
fn a_header_before_lines_is_understood_wherever_it_is_cut() {
    let table = table(4);
    let mut house = house(&table, &["127.0.0.0/8"]);
    let ipv4 = [192, 0, 2, 7, 192, 0, 2, 1, 0x12, 0x67, 0, 80];
    for header in [LINE.as_bytes(), &v2(0x21, 0x11, &ipv4)] {
        let input = [header, LOGIN.as_bytes()].concat();
        for cut in 0..=input.len() {
            let mut client = dial(&mut house, Transport::Tcp);
            client.send(&input[..cut]);
            house.settle();
            client.send(&input[cut..]);
            house.settle();
            let lines = client.lines();
            assert!(
                lines[1].contains("hello, welcome"),
                "cut at {cut}: {lines:?}"
            );
            assert_eq!(lines.len(), 2);
            assert_eq!(peer(&house, &client), CLIENT);
            assert_eq!(told(&house), ["192.0.2.7"]);
            house.works[PROXY].clients.clear();
            drop(client);
            house.assert_empty();
        }
    }
}

#[test]
fn a_request_says_for_whom_it_comes() {
    let table = table(4);
    let mut house = house(&table, &["127.0.0.1", "10.0.0.0/8"]);
    let chain = "PROXY TCP4 10.0.0.9 10.0.0.1 4711 80\r\n";
    for (header, forwarded, expected) in [
        ("", "192.0.2.9", "192.0.2.9:0"),
        ("", "192.0.2.8, 192.0.2.9, 10.1.1.1", "192.0.2.9:0"),
        ("", "192.0.2.9, somebody", PEER),
        ("", "10.1.1.1", PEER),
        ("PROXY UNKNOWN\r\n", "192.0.2.9", "192.0.2.9:0"),
        // Whoever came to the proxy is no proxy, and may write what he likes.
        (LINE, "192.0.2.9", CLIENT),
        (chain, "192.0.2.9", "192.0.2.9:0"),
        (chain, "somebody", "10.0.0.9:4711"),
    ] {
        let mut client = dial(&mut house, Transport::WebSocket);
        for piece in [header.as_bytes(), &request(forwarded)].concat().chunks(50) {
            client.send(piece);
            house.settle();
        }
        let answer = client.bytes();
        assert!(answer.starts_with(b"HTTP/1.1 101 "), "{forwarded}");
        assert_eq!(peer(&house, &client), expected, "{header}{forwarded}");
        let ip = expected.parse::<SocketAddr>().unwrap().ip().to_string();
        let known = if expected == PEER { None } else { Some(ip) };
        assert_eq!(told(&house).pop(), known);
        // A successor knows it too, and tells it again.
        house.works[PROXY].clients.clear();
        house.relieve(PROXY);
        assert_eq!(peer(&house, &client), expected);
        assert_eq!(told(&house).pop(), known);
        house.works[PROXY].clients.clear();
        drop(client);
        house.assert_empty();
    }
}

#[test]
fn nobody_else_is_believed() {
    for proxies in [&[][..], &["10.0.0.0/8"]] {
        let table = table(4);
        let mut house = house(&table, proxies);
        let mut client = dial(&mut house, Transport::Tcp);
        client.send(LINE.as_bytes());
        client.send(LOGIN.as_bytes());
        house.settle();
        let lines = client.lines();
        assert!(lines[1].contains("bad_json"), "{lines:?}");
        assert!(lines[2].contains("hello, welcome"), "{lines:?}");
        assert_eq!(peer(&house, &client), PEER);

        let mut web = dial(&mut house, Transport::WebSocket);
        web.send(&request("192.0.2.9"));
        house.settle();
        assert!(web.bytes().starts_with(b"HTTP/1.1 101 "));
        assert_eq!(peer(&house, &web), PEER);

        let mut refused = dial(&mut house, Transport::WebSocket);
        refused.send(&[LINE.as_bytes(), REQUEST.as_bytes()].concat());
        house.settle();
        assert!(refused.bytes().starts_with(b"HTTP/1.1 505 "));
        assert_eq!(told(&house), [""; 0]);
        drop((client, web, refused));
        house.assert_empty();
    }
}

#[test]
fn a_header_that_is_none_ends_the_connection_and_one_may_be_missing() {
    let table = table(4);
    let mut house = house(&table, &["127.0.0.1"]);
    for transport in [Transport::Tcp, Transport::WebSocket] {
        for garbage in [
            b"PROXY TCP4 192.0.2.7\r\n".to_vec(),
            [b"PROXY ", &[b'x'; 200][..]].concat(),
            v2(0x31, 0x11, &[0; 12]),
            v2(0x21, 0x11, &[0; 11]),
        ] {
            let mut client = dial(&mut house, transport);
            client.send(&garbage);
            house.settle();
            assert!(client.has_ended());
            drop(client);
            house.assert_empty();
        }
    }
    let mut client = dial(&mut house, Transport::Tcp);
    client.send(b"\r\n");
    client.send(LOGIN.as_bytes());
    // It comes once, and first.
    client.send(LINE.as_bytes());
    house.settle();
    let lines = client.lines();
    assert!(lines[1].contains("hello, welcome"), "{lines:?}");
    assert!(lines[2].contains("bad_json"), "{lines:?}");
    assert_eq!(peer(&house, &client), PEER);
    drop(client);
    house.assert_empty();
}

#[test]
fn whoever_is_one_too_many_is_told_so_whatever_was_said_before() {
    let table = table(4);
    let mut house = house(&table, &["127.0.0.1"]);
    for input in [&b""[..], LINE.as_bytes(), &LINE.as_bytes()[..9]] {
        let mut client = dial(&mut house, Transport::Tcp);
        client.send(input);
        house.settle();
        house.works[1].hands.order(client.handle, Order::CROWDED);
        house.settle();
        let last = client.lines().pop().unwrap();
        assert!(last.contains(r#""code":"capacity""#), "{last}");
        assert!(last.contains(r#""closeCode":1013"#), "{last}");
        assert!(client.has_ended());
        drop(client);
        house.assert_empty();
    }
    for input in [&LINE.as_bytes()[..9], LINE.as_bytes()] {
        let mut client = dial(&mut house, Transport::WebSocket);
        client.send(input);
        house.settle();
        house.works[1].hands.order(client.handle, Order::CROWDED);
        house.settle();
        let answer = String::from_utf8(client.bytes()).unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.contains("too many connections from your address"));
        assert!(client.has_ended());
        drop(client);
        house.assert_empty();
    }
    let mut client = dial(&mut house, Transport::WebSocket);
    client.send(REQUEST.as_bytes());
    house.settle();
    client.bytes();
    house.works[1].hands.order(client.handle, Order::CROWDED);
    house.settle();
    let said = frames(&client.bytes());
    assert_eq!(said.len(), 2, "{said:?}");
    assert_eq!((said[0].0, said[1].0), (TEXT, CLOSE));
    assert!(String::from_utf8_lossy(&said[0].1).contains("capacity"));
    assert_eq!(said[1].1[..2], 1013u16.to_be_bytes());
    let state = house.works[PROXY].hands.state(client.handle);
    assert_eq!(state, Some(State::Closing));
    drop(client);
    house.assert_empty();
}
