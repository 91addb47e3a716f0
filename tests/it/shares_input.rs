//! Input of any kind, before the login and after it: who sends too much of it is ended, and who sends what clients send is not.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;
use tests::client::BOTH;
use tests::raw::upgrade_request;
use tests::{Client, Server, Settings, Transport};

/// A masked frame with the mask 0.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first, 0x80 | payload.len() as u8, 0, 0, 0, 0];
    frame.extend(payload);
    frame
}

/// How many bytes of `piece`, over and over, the server takes until it ends the connection.
fn taken(mut stream: TcpStream, piece: &[u8]) -> usize {
    let pieces = piece.repeat(16_384 / piece.len() + 1);
    stream
        .set_write_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let mut reader = stream.try_clone().unwrap();
    let reading = std::thread::spawn(move || {
        let mut said = Vec::new();
        let _ = std::io::Read::read_to_end(&mut reader, &mut said);
        said
    });
    let mut taken = 0;
    while taken < MOST && !reading.is_finished() {
        match stream.write(&pieces) {
            Ok(bytes) => taken += bytes,
            Err(_) => break,
        }
    }
    let _ = stream.shutdown(std::net::Shutdown::Both);
    reading.join().unwrap();
    taken
}

/// What lies in the buffers of both systems when a connection ends is beyond the server.
const MOST: usize = 24 << 20;

#[test]
fn a_flood_of_anything_ends_the_connection() {
    let server = Server::start(
        Settings::new()
            .protected()
            .with("limits.messages_per_second", 20)
            .with("limits.message_burst", 50)
            .with("limits.login_timeout_ms", 600_000),
    );
    let mut neighbour = Client::login(&server, Transport::WebSocket, "neighbour");
    for (name, first, piece) in [
        ("pings", vec![], frame(0x89, b"")),
        ("pongs", vec![], frame(0x8a, b"")),
        ("empty fragments", frame(1, b"{"), frame(0, b"")),
        ("nonsense", vec![], frame(0x81, b"x")),
    ] {
        let mut stream = TcpStream::connect(server.websocket()).unwrap();
        let request = upgrade_request(server.websocket(), "/ws", "");
        stream.write_all(request.as_bytes()).unwrap();
        stream.write_all(&first).unwrap();
        let taken = taken(stream, &piece);
        assert!(taken < MOST, "{name}: {taken} bytes were taken");
        println!("{name}: {taken} bytes");
    }
    for (name, piece) in [("line ends", &b"\n"[..]), ("nonsense", b"x\n")] {
        let taken = taken(TcpStream::connect(server.tcp()).unwrap(), piece);
        assert!(taken < MOST, "{name}: {taken} bytes were taken");
        println!("{name}: {taken} bytes");
    }
    neighbour.expect_nothing();
}

#[test]
fn with_the_defaults_an_ordinary_client_is_never_refused() {
    let roomy = Settings::new()
        .protected()
        .with("table.groups", 4096)
        .with("table.memberships", 65536);
    let server = Server::start(roomy);
    for transport in BOTH {
        let mut ann = Client::login(&server, transport, "ann");
        let mut ben = Client::login(&server, transport, "ben");
        // What a client does that comes back: its groups, then some large messages, then it talks.
        for number in 0..50 {
            ann.join(&format!("group {number}"));
        }
        let large = "x".repeat(60_000);
        for number in 0..20 {
            let request = json!({"type": "sendto", "to": "ben", "content": large, "id": number});
            ann.send(&request);
            ann.expect("ack");
            ben.expect("message");
        }
        for number in 0..100 {
            ann.sendto("ben", json!(number));
            ben.expect("message");
        }
    }
}
