//! The table is full: newcomers are told, everyone else is left alone, and nothing leaks.

use std::io::Read;
use std::net::TcpStream;

use serde_json::{Value, json};
use tests::raw::upgrade_request;
use tests::wait::{PATIENCE, eventually};
use tests::{Client, RawWebSocket, Server, Settings, Transport, http};

const ROWS: usize = 12;

fn full_server() -> (Server, Vec<Client>) {
    let server = Server::start(Settings::new().with("table.sessions", ROWS));
    let transports = [Transport::WebSocket, Transport::Tcp];
    // The health check that saw the server start may still be leaving its row.
    let clients = (0..ROWS)
        .map(|number| {
            eventually("a row for everyone", || {
                let client = Client::try_open(&server, transports[number % 2])?;
                Some(client.logged_in(json!({"type": "login", "userName": format!("u{number}")})))
            })
        })
        .collect();
    (server, clients)
}

/// What a newcomer on TCP is told: everything until the end of the connection.
fn refused_line(server: &Server) -> String {
    let mut stream = TcpStream::connect(server.tcp()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_newcomer_is_told_and_the_others_are_undisturbed() {
    let (server, mut clients) = full_server();
    let (_, response) = RawWebSocket::request(
        server.websocket(),
        &upgrade_request(server.websocket(), "/ws", ""),
    );
    assert_eq!(response.status, 503);
    let seconds: Option<u32> = response
        .header("retry-after")
        .and_then(|text| text.parse().ok());
    assert!(seconds.is_some_and(|seconds| seconds > 0), "{response:?}");
    assert_eq!(
        http::get(server.websocket(), "/healthz").status,
        503,
        "a full server takes no sessions"
    );
    let line = refused_line(&server);
    let error: Value = serde_json::from_str(line.trim_end())
        .unwrap_or_else(|problem| panic!("{problem} in {line:?}"));
    assert_eq!(
        (&error["type"], &error["code"]),
        (&json!("error"), &json!("capacity")),
        "{error}"
    );
    assert_eq!(error["closeCode"], 1013, "{error}");
    for client in &mut clients {
        client.expect_nothing();
    }
}

#[test]
fn a_freed_row_is_usable_at_once() {
    let (server, mut clients) = full_server();
    for transport in [
        Transport::Tcp,
        Transport::WebSocket,
        Transport::Tcp,
        Transport::WebSocket,
    ] {
        clients.pop().unwrap().logout();
        let newcomer = eventually("the row is free again", || {
            Client::try_open(&server, transport)
        });
        clients.insert(
            0,
            newcomer.logged_in(json!({"type": "login", "userName": "new"})),
        );
    }
    clients.iter_mut().for_each(Client::expect_nothing);
}

#[test]
fn thousands_of_refusals_leak_nothing() {
    const REFUSALS: usize = 6_000;
    let (server, mut clients) = full_server();
    let before = eventually("the descriptors settle", || Some(server.descriptors()));
    let request = upgrade_request(server.websocket(), "/ws", "");
    let (mut answered, mut closed) = (0, 0);
    for number in 0..REFUSALS {
        // Of those who are refused, some ask, some say nothing and some are gone before they are told.
        match number % 4 {
            0 => drop(TcpStream::connect(server.websocket()).unwrap()),
            1 => drop(TcpStream::connect(server.tcp()).unwrap()),
            2 => match http::exchange(server.websocket(), request.as_bytes()) {
                Ok(response) => {
                    assert_eq!(response.status, 503);
                    answered += 1;
                }
                Err(_) => closed += 1,
            },
            _ => {
                let line = refused_line(&server);
                assert!(line.is_empty() || line.contains("\"capacity\""), "{line}");
                answered += usize::from(!line.is_empty());
            }
        }
        if number % 500 == 0 {
            clients[number % ROWS].expect_nothing();
        }
    }
    println!("{answered} were told, {closed} were closed at once");
    assert!(
        answered > REFUSALS / 10,
        "only {answered} of {REFUSALS} were told why"
    );
    eventually("every descriptor is back", || {
        (server.descriptors() <= before).then_some(())
    });
    clients.iter_mut().for_each(Client::expect_nothing);
}

#[test]
fn connections_per_address_are_limited() {
    let settings = Settings::new().with("limits.connections_per_ip", 3);
    let port = tests::settings::free_port();
    let listeners = vec![
        settings.value("server.websocket").unwrap()[0]
            .as_str()
            .unwrap()
            .to_owned(),
        format!("[::1]:{port}"),
    ];
    let server = Server::start(settings.with("server.websocket", listeners));
    let mut mine: Vec<Client> = Vec::new();
    // The health check at the start may still count.
    while mine.len() < 3 {
        mine.push(eventually("three from one address", || {
            Client::try_open(&server, Transport::WebSocket)
        }));
    }
    let refused = http::exchange(
        server.websocket(),
        upgrade_request(server.websocket(), "/ws", "").as_bytes(),
    )
    .unwrap();
    assert!(matches!(refused.status, 429 | 503), "{refused:?}");
    let mut elsewhere = Client::connect_to(
        format!("[::1]:{port}").parse().unwrap(),
        Transport::WebSocket,
    );
    elsewhere.expect("open");
    drop(mine.pop());
    eventually("one more when one is gone", || {
        Client::try_open(&server, Transport::WebSocket)
    });
}
