//! Messages in fragments: of any size, with control frames between them, put together byte for byte.

use serde_json::json;
use tests::frames::{BINARY, CONTINUATION, PING, PONG, TEXT};
use tests::random::Random;
use tests::{Client, Frame, RawWebSocket, Server, Settings, Transport};

/// The frames of one message, cut at these places.
fn cut(opcode: u8, message: &[u8], places: &[usize]) -> Vec<Frame> {
    let mut frames = Vec::new();
    let mut from = 0;
    for place in places.iter().copied().chain([message.len()]) {
        let opcode = if from == 0 && frames.is_empty() {
            opcode
        } else {
            CONTINUATION
        };
        frames.push(Frame::new(opcode, &message[from..place]).more());
        from = place;
    }
    frames.last_mut().unwrap().fin = true;
    frames
}

fn message(content: &str) -> String {
    json!({"type": "sendto", "to": "bob", "content": content, "quiet": true}).to_string()
}

#[test]
fn one_byte_a_fragment_with_pings_between_them() {
    let server = Server::standard();
    let mut bob = Client::login(&server, Transport::Tcp, "bob");
    let mut ann = RawWebSocket::login(server.websocket(), "ann");
    let text = message("καλημέρα 🦀");
    let places: Vec<usize> = (1..text.len()).collect();
    for (number, frame) in cut(TEXT, text.as_bytes(), &places).iter().enumerate() {
        ann.send(frame);
        if number % 10 == 3 && !frame.fin {
            ann.send(&Frame::new(PING, number.to_string()));
            let pong = ann.frame().unwrap();
            assert_eq!(
                (pong.opcode, pong.payload),
                (PONG, number.to_string().into_bytes())
            );
        }
    }
    assert_eq!(bob.expect("message")["content"], "καλημέρα 🦀");
}

#[test]
fn empty_fragments_count_for_nothing() {
    let server = Server::standard();
    let mut bob = Client::login(&server, Transport::WebSocket, "bob");
    let mut ann = RawWebSocket::login(server.websocket(), "ann");
    let text = message("empty");
    for places in [
        vec![0, 0, 0],
        vec![text.len(), text.len()],
        vec![0, 5, 5, 9, text.len()],
    ] {
        for frame in cut(TEXT, text.as_bytes(), &places) {
            ann.send(&frame);
        }
        assert_eq!(bob.expect("message")["content"], "empty");
    }
    for frame in cut(TEXT, b"", &[0, 0]) {
        ann.send(&frame);
    }
    assert_eq!(ann.json()["code"], "bad_json");
}

#[test]
fn any_cut_in_any_chunks_gives_the_same_message() {
    let server = Server::standard();
    let mut bob = Client::login(&server, Transport::WebSocket, "bob");
    let mut ann = RawWebSocket::login(server.websocket(), "ann");
    let mut random = Random::of_the_day();
    for _ in 0..150 {
        let len = [10, 200, 5_000, 60_000][random.below(4)];
        let content: String = (0..1 + random.below(len))
            .map(|_| ['a', 'ß', '€', '🦀', '"', '\n'][random.below(6)])
            .take(12_000)
            .collect();
        let text = message(&content);
        assert!(text.len() < 65_536, "{}", text.len());
        let mut places: Vec<usize> = (0..random.below(20))
            .map(|_| random.below(text.len() + 1))
            .collect();
        places.sort_unstable();
        let mut bytes = Vec::new();
        for mut frame in cut(TEXT, text.as_bytes(), &places) {
            let mask = random.bits().to_le_bytes();
            frame.mask = Some([mask[0], mask[1], mask[2], mask[3]]);
            bytes.extend(frame.bytes());
            if !frame.fin && random.one_in(4) {
                bytes.extend(Frame::new(PONG, "between").bytes());
            }
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (chunk, later) = rest.split_at(rest.len().min(1 + random.below(20_000)));
            ann.send_bytes(chunk);
            rest = later;
        }
        assert_eq!(bob.expect("message")["content"], content);
    }
}

#[test]
fn a_character_may_be_cut_but_not_broken() {
    let server = Server::standard();
    let mut ann = RawWebSocket::login(server.websocket(), "ann");
    let text = "{\"type\":\"ping\",\"x\":\"🦀\"}";
    let crab = text.find('🦀').unwrap();
    for frame in cut(TEXT, text.as_bytes(), &[crab + 1, crab + 2, crab + 3]) {
        ann.send(&frame);
    }
    assert_eq!(ann.json()["type"], "pong");
    let mut broken = text.as_bytes().to_vec();
    broken[crab + 2] = b'x';
    for frame in cut(TEXT, &broken, &[crab + 1]) {
        ann.send(&frame);
    }
    ann.expect_close(1007);
}

#[test]
fn too_big_in_fragments_is_noticed_before_the_last_one() {
    let server = Server::start(Settings::new().with("limits.message_bytes", 10_000));
    let mut bob = Client::login(&server, Transport::WebSocket, "bob");
    let mut ann = RawWebSocket::login(server.websocket(), "ann");
    ann.send(&Frame::new(TEXT, vec![b' '; 6_000]).more());
    ann.send(&Frame::new(CONTINUATION, vec![b' '; 4_001]).more());
    ann.expect_close(1009);
    // A great many small ones as well, even empty ones stay bounded by what they carry.
    let mut ann = RawWebSocket::login(server.websocket(), "ann");
    ann.send(&Frame::new(TEXT, "").more());
    let thousand: Vec<u8> = (0..1_000)
        .flat_map(|_| Frame::new(CONTINUATION, "").more().bytes())
        .collect();
    ann.send_bytes(&thousand);
    let hundred: Vec<u8> = (0..101)
        .flat_map(|_| Frame::new(CONTINUATION, [b' '; 100]).more().bytes())
        .collect();
    ann.send_bytes(&hundred);
    ann.expect_close(1009);
    bob.expect_nothing();
}

#[test]
fn exactly_the_limit_in_fragments_is_fine() {
    let server = Server::start(Settings::new().with("limits.message_bytes", 10_000));
    let mut bob = Client::login(&server, Transport::WebSocket, "bob");
    let mut ann = RawWebSocket::login(server.websocket(), "ann");
    let content = "x".repeat(10_000 - message("").len());
    for frame in cut(TEXT, message(&content).as_bytes(), &[4_096, 8_192, 9_999]) {
        ann.send(&frame);
    }
    assert_eq!(bob.expect("message")["content"], content);
}

#[test]
fn binary_in_fragments_is_still_binary() {
    let server = Server::standard();
    let mut ann = RawWebSocket::login(server.websocket(), "ann");
    for frame in cut(BINARY, b"{\"type\":\"ping\"}", &[4]) {
        ann.send(&frame);
    }
    ann.expect_close(1003);
}

#[test]
fn many_unfinished_messages_wait_side_by_side() {
    let server = Server::standard();
    let mut bob = Client::login(&server, Transport::WebSocket, "bob");
    let mut sockets: Vec<RawWebSocket> = (0..50)
        .map(|number| RawWebSocket::login(server.websocket(), &format!("u{number}")))
        .collect();
    let content = "y".repeat(20_000);
    let text = message(&content);
    let frames = cut(TEXT, text.as_bytes(), &[7, 9_000, 15_000]);
    for frame in &frames {
        sockets.iter_mut().for_each(|socket| socket.send(frame));
    }
    for _ in 0..50 {
        assert_eq!(bob.expect("message")["content"], content);
    }
}
