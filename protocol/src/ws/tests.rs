//! RFC 6455's rules for what a client sends, one test each, every one of them also with the bytes
//! coming one at a time; then any frames at any cuts.

mod closing;
mod cuts;
mod rules;
mod sending;

use super::*;

/// What a worker sees, with whole messages however they came.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Message(Kind, Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
    Violation(u16, &'static str),
}

/// A worker in small: keeps tails and pieces, and holds the decoder to its promises.
#[derive(Default)]
struct Peer {
    decoder: Decoder,
    tail: Vec<u8>,
    pieces: Vec<u8>,
    unmasked: Vec<u8>,
    seen: Vec<Seen>,
}

impl Peer {
    fn read(&mut self, chunk: &[u8], message_bytes_max: usize) {
        let mut input = std::mem::take(&mut self.tail);
        input.extend_from_slice(chunk);
        let mut at = 0;
        loop {
            // Through the row and back, as between two workers.
            self.decoder = bytemuck::cast(bytemuck::cast::<Decoder, [u8; 16]>(self.decoder));
            assert_eq!(self.decoder.assembled() as usize, self.pieces.len());
            let (consumed, event) =
                self.decoder
                    .next(&input[at..], message_bytes_max, &mut self.unmasked);
            let seen = match event {
                Event::NeedMore { left } => {
                    assert!(left <= TAIL_MAX);
                    self.tail = input.split_off(input.len() - left);
                    assert_eq!(at + consumed, input.len());
                    return;
                }
                Event::Message { kind, payload } => {
                    assert!(self.pieces.is_empty() && payload.len() <= message_bytes_max);
                    Seen::Message(kind, payload.to_vec())
                }
                Event::Piece { payload, end } => {
                    assert!(!payload.is_empty() || end.is_some());
                    self.pieces.extend_from_slice(payload);
                    assert!(self.pieces.len() <= message_bytes_max);
                    at += consumed;
                    match end {
                        None => continue,
                        Some(kind) => {
                            self.seen
                                .push(Seen::Message(kind, std::mem::take(&mut self.pieces)));
                            assert!(!self.decoder.in_message());
                            continue;
                        }
                    }
                }
                Event::Ping(payload) => Seen::Ping(payload.to_vec()),
                Event::Pong(payload) => Seen::Pong(payload.to_vec()),
                Event::Close { code, reason } => {
                    assert!(self.decoder.ended());
                    self.pieces.clear();
                    Seen::Close(code.map(|code| code.0), reason.to_owned())
                }
                Event::Violation { code, sentence } => {
                    assert!(self.decoder.ended());
                    self.pieces.clear();
                    Seen::Violation(code.0, sentence)
                }
            };
            self.seen.push(seen);
            at += consumed;
        }
    }
}

fn seen_in_chunks<'a>(
    chunks: impl IntoIterator<Item = &'a [u8]>,
    message_bytes_max: usize,
) -> Vec<Seen> {
    let mut peer = Peer::default();
    for chunk in chunks {
        peer.read(chunk, message_bytes_max);
    }
    peer.seen
}

/// What is seen of `bytes`, and that it is the same when they come one at a time.
fn seen(bytes: &[u8], message_bytes_max: usize) -> Vec<Seen> {
    let at_once = seen_in_chunks([bytes], message_bytes_max);
    assert_eq!(seen_in_chunks(bytes.chunks(1), message_bytes_max), at_once);
    at_once
}

const FIN: u8 = 0x80;
const CONTINUE: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const MASK: [u8; 4] = [0xa1, 0x02, 0x73, 0xf4];

/// A client's frame, written here by hand and not by the code under test.
fn client_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        length @ ..=125 => bytes.push(0x80 | length as u8),
        length @ ..=0xffff => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            bytes.push(0x80 | 127);
            bytes.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(&MASK);
    bytes.extend(
        payload
            .iter()
            .enumerate()
            .map(|(at, byte)| byte ^ MASK[at % 4]),
    );
    bytes
}

fn frames(frames: &[(u8, &[u8])]) -> Vec<u8> {
    frames
        .iter()
        .flat_map(|(first, payload)| client_frame(*first, payload))
        .collect()
}

/// That `bytes` end in a violation with `code`, after which not even a sound frame is seen.
#[track_caller]
fn breaks(bytes: &[u8], code: u16) {
    let mut bytes = bytes.to_vec();
    bytes.extend(client_frame(FIN | TEXT, b"after"));
    let seen = seen(&bytes, 100_000);
    match seen.as_slice() {
        [Seen::Violation(found, _)] => assert_eq!(*found, code),
        other => panic!("{other:?}"),
    }
}
