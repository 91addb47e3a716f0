//! A WebSocket client's side of the wire, by hand, so that a test may break any rule.

use shm_table::Transport;

use super::house::{Client, House};

pub const REQUEST: &str = "GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;
pub const FINAL: u8 = 0x80;

/// A masked frame, as clients send it.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [7, 77, 177, 27];
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..126 => frame.push(0x80 | len as u8),
        len @ 126..65536 => {
            frame.push(0x80 | 126);
            frame.extend((len as u16).to_be_bytes());
        }
        len => {
            frame.push(0x80 | 127);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(
        payload
            .iter()
            .zip(mask.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    frame
}

pub fn text(payload: &str) -> Vec<u8> {
    frame(FINAL | TEXT, payload.as_bytes())
}

/// Cuts what the server sent into its frames.
pub fn frames(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let [first, second, rest @ ..] = bytes {
        assert_eq!(first & 0xf0, FINAL, "whole and without reserved bits");
        let (len, rest) = match second {
            126 => (
                usize::from(u16::from_be_bytes([rest[0], rest[1]])),
                &rest[2..],
            ),
            127 => (
                u64::from_be_bytes(rest[..8].try_into().unwrap()) as usize,
                &rest[8..],
            ),
            len => (usize::from(*len), rest),
        };
        frames.push((first & 15, rest[..len].to_vec()));
        bytes = &rest[len..];
    }
    frames
}

pub fn texts(client: &mut Client) -> Vec<String> {
    let all = frames(&client.bytes());
    all.into_iter()
        .map(|(opcode, payload)| {
            assert_eq!(opcode, TEXT);
            String::from_utf8(payload).unwrap()
        })
        .collect()
}

/// The close code of the last frame.
pub fn close_code(frames: &[(u8, Vec<u8>)]) -> u16 {
    let (opcode, payload) = frames.last().unwrap();
    assert_eq!(*opcode, CLOSE, "{frames:?}");
    u16::from_be_bytes([payload[0], payload[1]])
}

/// A client past its handshake.
pub fn upgraded(house: &mut House<'_>, worker: usize, path: &str) -> Client {
    let mut client = house.connect(worker, Transport::WebSocket);
    client.send(REQUEST.replace("/ws", path).as_bytes());
    house.settle();
    let bytes = client.bytes();
    let end = bytes.windows(4).position(|it| it == b"\r\n\r\n").unwrap() + 4;
    let head = std::str::from_utf8(&bytes[..end]).unwrap();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    if path == "/echo" {
        assert_eq!(bytes.len(), end);
    } else {
        assert!(frames(&bytes[end..])[0].1.starts_with(br#"{"type":"open""#));
    }
    client
}

pub fn user(house: &mut House<'_>, worker: usize, name: &str) -> Client {
    let mut client = upgraded(house, worker, "/");
    client.send(&text(&format!(r#"{{"type":"login","userName":"{name}"}}"#)));
    house.settle();
    assert!(texts(&mut client)[0].contains("hello, welcome"));
    client
}
