//! Frames: the handshake, reassembly, control frames, the closing handshake.

use config::Config;
use shm_table::{Order, State, Transport};

use super::frames::{
    BINARY, CLOSE, FINAL, PING, PONG, REQUEST, TEXT, close_code, frame, frames, text, texts,
    upgraded, user,
};
use super::house::{House, settings, table};

fn echo_settings() -> Config {
    let mut settings = settings();
    settings.diagnostics.echo = true;
    settings
}

#[test]
fn the_request_may_come_byte_by_byte_and_with_the_first_message() {
    let table = table(4);
    let mut house = House::new(&table, &settings());
    let mut client = house.connect(0, Transport::WebSocket);
    let mut all = REQUEST.as_bytes().to_vec();
    all.extend(text(r#"{"type":"ping"}"#));
    for byte in &all {
        client.send(&[*byte]);
        house.settle();
    }
    let bytes = client.bytes();
    let end = bytes.windows(4).position(|it| it == b"\r\n\r\n").unwrap() + 4;
    assert_eq!(frames(&bytes[end..]).len(), 2);
    drop(client);

    let mut client = house.connect(0, Transport::WebSocket);
    client.send(&all);
    house.settle();
    let bytes = client.bytes();
    assert_eq!(frames(&bytes[end..]).len(), 2);
    drop(client);
    house.assert_empty();
}

#[test]
fn what_is_no_upgrade_is_answered_and_ended() {
    let table = table(4);
    let mut house = House::new(&table, &settings());
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "200"),
        ("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", "200"),
        ("GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n", "404"),
        (&REQUEST.replace("/ws", "/echo"), "404"),
        (
            &REQUEST.replace("Host", "Origin: http://evil.example\r\nHost"),
            "403",
        ),
        ("nonsense\r\n\r\n", "400"),
    ] {
        let mut client = house.connect(0, Transport::WebSocket);
        client.send(request.as_bytes());
        house.settle();
        let mut bytes = client.bytes();
        while !client.has_ended() {
            house.settle();
            bytes.extend(client.bytes());
        }
        bytes.extend(client.bytes());
        let answer = String::from_utf8(bytes).unwrap();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{request}: {answer:.200}"
        );
        drop(client);
        house.assert_empty();
    }
    house.works[0].settings.cluster.enabled = true;
    let mut client = house.connect(0, Transport::WebSocket);
    client.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    house.settle();
    let answer = String::from_utf8(client.bytes()).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    let word = "not ok: degraded (directory), degraded (bus)\n";
    assert!(answer.ends_with(word), "{answer}");
    drop(client);
    house.assert_empty();
    // Whoever the operator lets know is told more, and nobody for whom a proxy asks.
    house.works[0].settings.diagnostics.health_reasons = true;
    for (field, told) in [("", true), ("X-Forwarded-For: 192.0.2.1\r\n", false)] {
        let mut client = house.connect(0, Transport::WebSocket);
        client.send(format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\n{field}\r\n").as_bytes());
        house.settle();
        let answer = String::from_utf8(client.bytes()).unwrap();
        assert_eq!(answer.contains("has been away for"), told, "{answer}");
        drop(client);
        house.assert_empty();
    }
    let mut client = house.connect(0, Transport::WebSocket);
    client.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    house.settle();
    drop(client);
    house.assert_empty();
    house.works[0].draining = true;
    for request in ["GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", REQUEST] {
        let mut client = house.connect(1, Transport::WebSocket);
        house.works[1].draining = true;
        client.send(request.as_bytes());
        house.settle();
        assert!(client.bytes().starts_with(b"HTTP/1.1 503 "));
        house.works[1].draining = false;
    }
}

#[test]
fn fragments_with_control_frames_between_them_are_put_together() {
    let table = table(4);
    let mut house = House::new(&table, &settings());
    let mut ada = user(&mut house, 0, "ada");
    let message = r#"{"type":"sendto","to":"ada","content":"pieces"}"#.as_bytes();
    let mut bytes = frame(TEXT, &message[..10]);
    bytes.extend(frame(FINAL | PING, b"are you there?"));
    bytes.extend(frame(0, &message[10..20]));
    bytes.extend(frame(0, b""));
    bytes.extend(frame(FINAL | PONG, b""));
    bytes.extend(frame(FINAL, &message[20..]));
    bytes.extend(text(r#"{"type":"ping"}"#));
    for chunk in [1, 2, 3, 7, 50, bytes.len()] {
        for part in bytes.chunks(chunk) {
            ada.send(part);
            house.settle();
        }
        let answers = frames(&ada.bytes());
        assert_eq!(answers.len(), 3, "in chunks of {chunk}");
        assert_eq!(answers[0], (PONG, b"are you there?".to_vec()));
        assert!(answers[1].1.ends_with(b"}"));
        assert!(String::from_utf8_lossy(&answers[1].1).contains("pieces"));
        assert!(answers[2].1.starts_with(br#"{"type":"pong""#));
    }
    drop(ada);
    house.assert_empty();
}

#[test]
fn the_echo_gives_everything_back() {
    let mut settings = echo_settings();
    settings.limits.message_bytes = 400_000;
    let table = table(4);
    let mut house = House::new(&table, &settings);
    let mut client = upgraded(&mut house, 0, "/echo");
    let long: Vec<u8> = (0..300_000u32).map(|at| at as u8).collect();
    client.send(&frame(FINAL | BINARY, b"\x00\xff"));
    client.send(&frame(BINARY, b"a"));
    client.send(&frame(FINAL, b"b"));
    client.send(&text("grüße"));
    house.settle();
    assert_eq!(
        frames(&client.bytes()),
        [
            (BINARY, b"\x00\xff".to_vec()),
            (BINARY, b"ab".to_vec()),
            (TEXT, "grüße".as_bytes().to_vec())
        ]
    );
    let bytes = frame(FINAL | BINARY, &long);
    let (mut sent, mut came) = (0, Vec::new());
    while came.len() < long.len() + 10 {
        sent += client.send_some(&bytes[sent..]);
        house.settle();
        came.extend(client.bytes());
    }
    assert_eq!(frames(&came), [(BINARY, long)]);
    client.send(&text("\u{10ffff}"));
    client.send(&frame(FINAL | TEXT, b"\xf0\x28\x8c\x28"));
    house.settle();
    assert_eq!(close_code(&frames(&client.bytes())), 1007);
    drop(client);
    house.assert_empty();
}

#[test]
fn the_peers_close_is_answered_with_its_code() {
    let table = table(4);
    let mut house = House::new(&table, &settings());
    for (payload, answer) in [(&b"\x03\xe8bye"[..], &b"\x03\xe8"[..]), (b"", b"")] {
        let mut ada = user(&mut house, 0, "ada");
        ada.send(&frame(FINAL | CLOSE, payload));
        ada.send(&text(r#"{"type":"ping"}"#));
        house.settle();
        assert_eq!(frames(&ada.bytes()), [(CLOSE, answer.to_vec())]);
        assert!(ada.has_ended());
        house.assert_empty();
    }
}

#[test]
fn our_close_waits_for_the_peers() {
    let table = table(4);
    let mut house = House::new(&table, &settings());
    let mut ada = user(&mut house, 0, "ada");
    // Half a message is forgotten, half a frame is not: the peer's Close comes behind it.
    ada.send(&frame(TEXT, b"{"));
    let ping = frame(FINAL | PING, b"0123456789");
    ada.send(&ping[..9]);
    house.settle();
    house.works[1].hands.order(ada.handle, Order::KICKED);
    house.settle();
    let said = frames(&ada.bytes());
    assert!(
        said[0]
            .1
            .starts_with(br#"{"type":"kicked","reason":"kicked by an administrator"}"#)
    );
    assert_eq!(close_code(&said), 4005);
    assert!(!ada.has_ended());
    ada.send(&ping[9..]);
    ada.send(&frame(FINAL, b"}"));
    ada.send(&text(r#"{"type":"ping"}"#));
    house.settle();
    assert!(ada.bytes().is_empty());
    assert_eq!(house.works[0].hands.state(ada.handle), Some(State::Closing));
    ada.send(&frame(FINAL | CLOSE, b"\x0f\xa5"));
    house.settle();
    assert!(ada.has_ended());
    house.assert_empty();
}

#[test]
fn broken_frames_end_the_connection() {
    let table = table(4);
    let mut settings = settings();
    settings.limits.message_bytes = 1000;
    let mut house = House::new(&table, &settings);
    let unmasked = vec![FINAL | TEXT, 2, b'{', b'}'];
    let mut in_fragments = frame(TEXT, &[b' '; 600]);
    in_fragments.extend(frame(FINAL, &[b' '; 600]));
    for (bytes, code) in [
        (unmasked, 1002),
        (frame(FINAL | 0x40 | TEXT, b"{}"), 1002),
        (frame(FINAL, b"{}"), 1002),
        (frame(FINAL | 3, b"{}"), 1002),
        (frame(PING, b""), 1002),
        (frame(FINAL | CLOSE, b"\x03"), 1002),
        (frame(FINAL | CLOSE, b"\x03\xed"), 1002),
        (frame(FINAL | TEXT, b"\xff"), 1007),
        (frame(FINAL | BINARY, b"{}"), 1003),
        (frame(FINAL | TEXT, &[b' '; 1001]), 1009),
        (in_fragments, 1009),
    ] {
        let mut ada = user(&mut house, 0, "ada");
        ada.send(&bytes);
        house.settle();
        assert_eq!(close_code(&frames(&ada.bytes())), code, "{bytes:?}");
        assert_eq!(ada.has_ended(), code != 1003);
        drop(ada);
        house.assert_empty();
    }
}

#[test]
fn deadlines_close_with_their_codes() {
    let table = table(8);
    let mut house = House::new(&table, &echo_settings());
    let mut silent = house.connect(0, Transport::WebSocket);
    let mut half = house.connect(0, Transport::WebSocket);
    half.send(b"GET / HT");
    let mut guest = upgraded(&mut house, 0, "/");
    let mut echo = upgraded(&mut house, 0, "/echo");
    let mut ada = user(&mut house, 0, "ada");
    for client in [&silent, &half, &guest, &echo, &ada] {
        house.works[0].hands.set_deadline(client.handle, 0);
        house.works[1].hands.order(client.handle, Order::DEADLINE);
    }
    house.settle();
    assert!(silent.has_ended() && silent.bytes().is_empty());
    assert!(half.bytes().starts_with(b"HTTP/1.1 408 "));
    let said = frames(&guest.bytes());
    assert!(
        said[0]
            .1
            .starts_with(br#"{"type":"kicked","reason":"login timeout""#)
    );
    assert_eq!(close_code(&said), 4001);
    let said = frames(&echo.bytes());
    assert_eq!((said.len(), close_code(&said)), (1, 4002));
    let said = frames(&ada.bytes());
    assert_eq!((said.len(), close_code(&said)), (2, 4002));
    drop((silent, half, guest, echo, ada));
    house.assert_empty();
}

#[test]
fn both_transports_talk_with_each_other() {
    let table = table(4);
    let mut house = House::new(&table, &settings());
    let mut ada = user(&mut house, 0, "ada");
    let mut bob = house.user(1, "bob");
    ada.send(&text(
        "{\"type\":\"sendto\",\"to\":\"bob\",\"id\":1,\"content\":[\"a\",\n\"b\"]}",
    ));
    bob.say(r#"{"cmd":"chat","send":"eve","recv":"ada","content":"hé"}"#);
    house.settle();
    assert!(bob.lines()[0].contains(r#""from":"ada","to":"bob","content":["a", "b"]"#));
    let said = texts(&mut ada);
    assert!(
        said.iter()
            .any(|it| it.contains(r#""from":"bob","to":"ada","content":"hé""#))
    );
    drop((ada, bob));
    house.assert_empty();
}
