//! `/echo`: every message back as it came, where it is switched on.

use tests::frames::{BINARY, CONTINUATION, PING, TEXT};
use tests::raw::upgrade_request;
use tests::{Frame, RawWebSocket, Server, Settings};

#[test]
fn it_is_off_unless_configured() {
    let server = Server::standard();
    let (_, response) = RawWebSocket::request(
        server.websocket(),
        &upgrade_request(server.websocket(), "/echo", ""),
    );
    assert_eq!(response.status, 404);
}

#[test]
fn text_and_binary_of_every_size_come_back_as_they_came() {
    let settings = Settings::new()
        .with("diagnostics.echo", true)
        .with("limits.message_bytes", 1_000_000);
    let server = Server::start(settings);
    let mut socket = RawWebSocket::connect(server.websocket(), "/echo");
    for len in [
        0, 1, 125, 126, 127, 128, 1_000, 65_535, 65_536, 131_072, 262_145, 1_000_000,
    ] {
        for opcode in [TEXT, BINARY] {
            let first = if opcode == TEXT { b'a' } else { 0x80 };
            let payload: Vec<u8> = (0..len).map(|at| first + (at % 23) as u8).collect();
            socket.send(&Frame::new(opcode, payload.clone()));
            let back = socket.frame().unwrap();
            assert_eq!((back.fin, back.opcode), (true, opcode));
            assert!(back.payload == payload, "{len} bytes were changed");
        }
    }
    socket.send(&Frame::new(BINARY, "frag").more());
    socket.send(&Frame::new(PING, "between"));
    socket.send(&Frame::new(CONTINUATION, "ments"));
    assert_eq!(socket.frame().unwrap().payload, b"between");
    let back = socket.frame().unwrap();
    assert_eq!(
        (back.opcode, &back.payload[..]),
        (BINARY, &b"fragments"[..])
    );
    socket.send(&Frame::new(TEXT, b"\xFF".as_slice()));
    socket.expect_close(1007);
}

#[test]
fn it_keeps_the_size_limit_and_answers_a_close() {
    let server = Server::start(
        Settings::new()
            .with("diagnostics.echo", true)
            .with("limits.message_bytes", 5_000),
    );
    let mut socket = RawWebSocket::connect(server.websocket(), "/echo");
    socket.send(&Frame::new(BINARY, [0; 5_001]));
    socket.expect_close(1009);
    let mut socket = RawWebSocket::connect(server.websocket(), "/echo");
    socket.send(&Frame::close(3456, "bye"));
    assert_eq!(socket.frame().unwrap().close_code(), Some(3456));
}
