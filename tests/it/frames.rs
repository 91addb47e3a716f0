//! RFC 6455 frame by frame: what is answered, and what closes the connection.

use serde_json::json;
use tests::frames::{BINARY, CONTINUATION, Length, PING, PONG, TEXT};
use tests::{Frame, RawWebSocket, Server, Settings};

fn ping() -> Frame {
    Frame::text(json!({"type": "ping"}))
}

/// Each of these frames on a connection of its own closes it with the code.
fn each_closes(server: &Server, frames: impl IntoIterator<Item = Frame>, code: u16) {
    for frame in frames {
        println!(
            "{:?} with {} bytes",
            (frame.fin, frame.reserved, frame.opcode, frame.length),
            frame.payload.len()
        );
        let mut socket = RawWebSocket::open(server.websocket());
        socket.send(&frame);
        socket.expect_close(code);
    }
}

#[test]
fn a_ping_is_answered_with_what_it_carried() {
    let server = Server::standard();
    let mut socket = RawWebSocket::login(server.websocket(), "ann");
    for len in [0, 1, 4, 124, 125] {
        let payload: Vec<u8> = (0..len).map(|byte| byte as u8).collect();
        socket.send(&Frame::new(PING, payload.clone()));
        let pong = socket.frame().unwrap();
        assert_eq!((pong.fin, pong.opcode, pong.payload), (true, PONG, payload));
    }
}

#[test]
fn a_pong_nobody_asked_for_is_ignored() {
    let server = Server::standard();
    let mut socket = RawWebSocket::login(server.websocket(), "ann");
    socket.send(&Frame::new(PONG, "unasked"));
    socket.send(&Frame::new(PONG, ""));
    socket.send(&ping());
    assert_eq!(socket.json()["type"], "pong");
}

#[test]
fn one_byte_at_a_time_is_as_good_as_all_at_once() {
    let server = Server::standard();
    let mut socket = RawWebSocket::open(server.websocket());
    let login = Frame::text(json!({"type": "login", "userName": "ann"}));
    for byte in [login.bytes(), Frame::new(PING, "p").bytes()].concat() {
        socket.send_bytes(&[byte]);
    }
    assert_eq!(socket.json()["event"], "login");
    assert_eq!(socket.frame().unwrap().payload, b"p");
    let message = ping();
    for form in [message.clone().bytes(), message.bytes()] {
        for byte in form {
            socket.send_bytes(&[byte]);
        }
        assert_eq!(socket.json()["type"], "pong");
    }
}

#[test]
fn a_great_many_frames_in_one_write() {
    let server = Server::standard();
    let mut socket = RawWebSocket::login(server.websocket(), "ann");
    let frames: Vec<u8> = (0..500)
        .flat_map(|number: u32| {
            [ping().bytes(), Frame::new(PING, number.to_string()).bytes()].concat()
        })
        .collect();
    socket.send_bytes(&frames);
    for number in 0..500 {
        assert_eq!(socket.json()["type"], "pong");
        assert_eq!(
            socket.frame().unwrap().payload,
            number.to_string().as_bytes()
        );
    }
}

#[test]
fn every_mask_unmasks() {
    let server = Server::standard();
    let mut socket = RawWebSocket::login(server.websocket(), "ann");
    for mask in [[0; 4], [255; 4], [1, 0, 0, 0], [0x22, 0x7B, 0x7D, 0x0A]] {
        let mut frame = ping();
        frame.mask = Some(mask);
        socket.send(&frame);
        assert_eq!(socket.json()["type"], "pong");
    }
}

#[test]
fn a_client_masks() {
    let server = Server::standard();
    each_closes(
        &server,
        [
            ping().unmasked(),
            Frame::new(PING, "").unmasked(),
            Frame::close(1000, "").unmasked(),
        ],
        1002,
    );
}

#[test]
fn reserved_bits_and_opcodes_are_reserved() {
    let server = Server::standard();
    each_closes(
        &server,
        [1, 2, 4, 7].map(|bits| ping().reserved(bits)),
        1002,
    );
    each_closes(&server, [Frame::new(PING, "").reserved(4)], 1002);
    each_closes(
        &server,
        [3, 4, 5, 6, 7, 11, 12, 13, 14, 15].map(|opcode| Frame::new(opcode, "x")),
        1002,
    );
}

#[test]
fn control_frames_are_short_and_whole() {
    let server = Server::standard();
    each_closes(
        &server,
        [
            Frame::new(PING, "").more(),
            Frame::new(PONG, "x").more(),
            Frame::close(1000, "").more(),
        ],
        1002,
    );
    each_closes(
        &server,
        [PING, PONG, 8].map(|opcode| Frame::new(opcode, [b'x'; 126])),
        1002,
    );
    each_closes(&server, [Frame::new(PING, "x").length(Length::Two)], 1002);
}

#[test]
fn a_length_is_written_in_the_fewest_bytes() {
    let server = Server::standard();
    each_closes(
        &server,
        [ping().length(Length::Two), ping().length(Length::Eight)],
        1002,
    );
    each_closes(
        &server,
        [
            Frame::new(TEXT, " ".repeat(125)).length(Length::Two),
            Frame::new(TEXT, " ".repeat(65_535)).length(Length::Eight),
        ],
        1002,
    );
    each_closes(
        &server,
        [
            Frame::new(TEXT, "").length(Length::Claimed(1 << 63)),
            Frame::new(TEXT, "").length(Length::Claimed(u64::MAX)),
        ],
        1002,
    );
}

#[test]
fn a_length_past_the_limit_is_refused_before_its_bytes_come() {
    let server = Server::start(Settings::new().with("limits.message_bytes", 10_000));
    for claimed in [10_001, 65_536, 1 << 32, (1 << 63) - 1] {
        let length = if claimed < 65_536 {
            Length::Minimal
        } else {
            Length::Claimed(claimed)
        };
        let payload = if claimed < 65_536 {
            vec![b' '; claimed as usize]
        } else {
            Vec::new()
        };
        each_closes(&server, [Frame::new(TEXT, payload).length(length)], 1009);
    }
}

#[test]
fn text_is_utf8() {
    let server = Server::standard();
    let bad: [&[u8]; 10] = [
        b"\xFF",
        b"\xC0\xAF",
        b"\xED\xA0\x80",
        b"\xF4\x90\x80\x80",
        b"\xE2\x82",
        b"\x80",
        b"{\"type\":\"ping\",\"x\":\"\xF8\x88\x80\x80\x80\"}",
        b"{\"type\":\"ping\",\"x\":\"\xCE\xBA\xE1\xBD\xB9\xCF\x83\xCE\xBC\xCE\xB5\xED\xA0\x80\"}",
        b"{\"type\":\"ping\"}\xC3",
        b"\xF0\x9F\xA6",
    ];
    each_closes(&server, bad.map(|bytes| Frame::new(TEXT, bytes)), 1007);
}

#[test]
fn continuations_continue_something() {
    let server = Server::standard();
    each_closes(
        &server,
        [
            Frame::new(CONTINUATION, "x"),
            Frame::new(CONTINUATION, "").more(),
        ],
        1002,
    );
    for second in [TEXT, BINARY] {
        let mut socket = RawWebSocket::open(server.websocket());
        socket.send(&Frame::new(TEXT, "{").more());
        socket.send(&Frame::new(second, "}"));
        socket.expect_close(1002);
    }
    // A message that is over cannot be continued.
    let mut socket = RawWebSocket::login(server.websocket(), "ann");
    let text = json!({"type": "ping"}).to_string();
    socket.send(&Frame::new(TEXT, &text.as_bytes()[..5]).more());
    socket.send(&Frame::new(CONTINUATION, &text.as_bytes()[5..]));
    assert_eq!(socket.json()["type"], "pong");
    socket.send(&Frame::new(CONTINUATION, ""));
    socket.expect_close(1002);
}

#[test]
fn a_broken_frame_hurts_only_its_own_connection() {
    let server = Server::standard();
    let mut bystander = RawWebSocket::login(server.websocket(), "bob");
    for _ in 0..20 {
        let mut socket = RawWebSocket::login(server.websocket(), "ann");
        socket.send(&Frame::new(15, "x"));
        socket.expect_close(1002);
        bystander.send(&ping());
        assert_eq!(bystander.json()["type"], "pong");
    }
}
