//! Login, handshake and heartbeat deadlines: kept to within a quarter of a second, and their rows come back.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;
use tests::frames::PING;
use tests::wait::{PATIENCE, eventually, median};
use tests::{Client, Frame, RawWebSocket, Server, Settings, Transport, http};

use crate::both;

/// How late a deadline may be.
const LATENESS_MAX: Duration = Duration::from_millis(250);
/// Measured so often; the middle one counts.
const TIMES: usize = 7;

/// Holds the end of each of these, begun at its instant, against the deadline.
fn kept(deadline: Duration, begun: Vec<(Instant, Client)>, code: u16) {
    let measured = std::thread::scope(|scope| {
        let waiting: Vec<_> = begun
            .into_iter()
            .map(|(start, client)| {
                scope.spawn(move || {
                    client.expect_ending(code);
                    start.elapsed()
                })
            })
            .collect();
        waiting
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let middle = median(measured);
    println!("{middle:?} for {deadline:?}");
    // The client's clock starts a moment after the server's.
    assert!(
        middle > deadline - Duration::from_millis(100),
        "{middle:?} is before {deadline:?}"
    );
    assert!(
        middle < deadline + LATENESS_MAX,
        "{middle:?} is long after {deadline:?}"
    );
}

#[test]
fn without_a_login_in_time_4001() {
    both(
        &Settings::new().with("limits.login_timeout_ms", 1_500),
        |server, transport| {
            let mut in_time = Client::open(server, transport)
                .logged_in(json!({"type": "login", "userName": "ann"}));
            let begun = (0..TIMES)
                .map(|number| {
                    let mut client = Client::open(server, transport);
                    let start = Instant::now();
                    // Talking is not logging in.
                    if number % 2 == 0 {
                        client.send(json!({"type": "join", "group": "g"}));
                    }
                    (start, client)
                })
                .collect();
            kept(Duration::from_millis(1_500), begun, 4001);
            in_time.expect_nothing();
        },
    );
}

#[test]
fn silent_past_the_heartbeat_4002() {
    both(
        &Settings::new().with("limits.heartbeat_timeout_ms", 1_500),
        |server, transport| {
            let begun = (0..TIMES)
                .map(|number| {
                    (
                        Instant::now(),
                        Client::login(server, transport, &format!("u{number}")),
                    )
                })
                .collect();
            kept(Duration::from_millis(1_500), begun, 4002);
        },
    );
}

#[test]
fn any_message_is_a_sign_of_life() {
    both(
        &Settings::new().with("limits.heartbeat_timeout_ms", 1_000),
        |server, transport| {
            let mut signs: Vec<Client> = (0..3)
                .map(|number| Client::login(server, transport, &format!("u{number}")))
                .collect();
            let silent = Client::login(server, transport, "silent");
            let end = Instant::now() + Duration::from_millis(2_500);
            while Instant::now() < end {
                signs[0].send(json!({"type": "ping"}));
                signs[0].expect("pong");
                signs[1].join("cats");
                signs[2].send("not even JSON");
                signs[2].expect_error("bad_json");
                std::thread::sleep(Duration::from_millis(100));
            }
            silent.expect_ending(4002);
            signs.iter_mut().for_each(Client::expect_nothing);
        },
    );
}

#[test]
fn a_websocket_ping_is_a_sign_of_life() {
    let server = Server::start(Settings::new().with("limits.heartbeat_timeout_ms", 1_000));
    let mut socket = RawWebSocket::login(server.websocket(), "ann");
    let end = Instant::now() + Duration::from_millis(2_500);
    while Instant::now() < end {
        socket.send(&Frame::new(PING, "alive"));
        assert_eq!(socket.frame().unwrap().payload, b"alive");
        std::thread::sleep(Duration::from_millis(100));
    }
    socket.send(&Frame::text(json!({"type": "ping"})));
    assert_eq!(socket.json()["type"], "pong");
}

#[test]
fn a_handshake_that_does_not_come_gives_its_row_back() {
    const ROWS: usize = 6;
    let settings = Settings::new()
        .with("limits.handshake_timeout_ms", 1_500)
        .with("table.sessions", ROWS);
    let server = Server::start(settings);
    eventually("the start's health check has left", || {
        (http::get(server.websocket(), "/healthz").status == 200).then_some(())
    });
    let start = Instant::now();
    let measured = std::thread::scope(|scope| {
        let silent = (0..2)
            .map(|_| scope.spawn(|| ended(TcpStream::connect(server.websocket()).unwrap(), b"")));
        // Half a request, and then one byte after another.
        let dribbling = (0..3).map(|_| {
            scope.spawn(|| {
                ended(
                    TcpStream::connect(server.websocket()).unwrap(),
                    b"GET /ws HTTP/1.1\r\nHost: x",
                )
            })
        });
        let threads: Vec<_> = silent.chain(dribbling).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect::<Vec<_>>()
    });
    println!("{measured:?} from {start:?}");
    let middle = median(measured);
    assert!(
        middle > Duration::from_millis(1_400)
            && middle < Duration::from_millis(1_500) + LATENESS_MAX,
        "{middle:?}"
    );
    let clients = eventually("all rows are back", || {
        (0..ROWS)
            .map(|_| Client::try_open(&server, Transport::WebSocket))
            .collect::<Option<Vec<_>>>()
    });
    drop(clients);
}

/// Sends `first`, then a byte every 100 ms, and measures until the server ends the connection.
fn ended(mut stream: TcpStream, first: &[u8]) -> Duration {
    let start = Instant::now();
    stream.write_all(first).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    let mut bytes = [0; 1_024];
    while start.elapsed() < PATIENCE {
        match stream.read(&mut bytes) {
            Ok(0) => return start.elapsed(),
            // A word of refusal before the end.
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                if !first.is_empty() && stream.write_all(b"x").is_err() {
                    return start.elapsed();
                }
            }
            Err(_) => return start.elapsed(),
        }
    }
    panic!("a handshake without end was allowed");
}

#[test]
fn one_byte_at_a_time_does_not_hold_off_the_login_deadline() {
    let server = Server::start(Settings::new().with("limits.login_timeout_ms", 1_500));
    let mut stream = TcpStream::connect(server.tcp()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = [0; 1_024];
    assert!(stream.read(&mut bytes).unwrap() > 0);
    let taken = ended(stream, b"{\"type\":");
    assert!(
        taken < Duration::from_millis(1_500) + 4 * LATENESS_MAX,
        "{taken:?}"
    );
}

#[test]
fn a_close_that_is_not_answered_takes_the_drain_time_and_no_longer() {
    let server = Server::start(
        Settings::new()
            .with("limits.drain_timeout_ms", 1_000)
            .with("table.sessions", 4),
    );
    let mut sockets: Vec<RawWebSocket> = Vec::new();
    while sockets.len() < 4 {
        sockets.push(eventually("four rows", || {
            let (socket, response) = RawWebSocket::request(
                server.websocket(),
                &tests::raw::upgrade_request(server.websocket(), "/ws", ""),
            );
            (response.status == 101).then_some(socket)
        }));
    }
    let start = Instant::now();
    for socket in &mut sockets {
        socket.send(&Frame::new(3, "reserved"));
        while socket.frame().unwrap().close_code() != Some(1002) {}
    }
    // They never answer and never go, yet their rows come back.
    let clients = eventually("all rows are back", || {
        (0..4)
            .map(|_| Client::try_open(&server, Transport::WebSocket))
            .collect::<Option<Vec<_>>>()
    });
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
    drop((clients, sockets));
}
