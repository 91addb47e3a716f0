//! WebSocket frames: any bytes, cut anywhere, give the same events; nothing handed out passes the
//! limit; what is left over is small; the same bytes with the same state give the same again, as a
//! dead worker's successor needs it; nothing follows a close or a violation.
#![no_main]

use fuzz::Case;
use libfuzzer_sys::fuzz_target;
use protocol::code::may_be_received;
use protocol::ws::{Decoder, Event, Kind, TAIL_MAX};

#[derive(Debug, PartialEq)]
enum Seen {
    Message(Kind, Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
    Violation(u16, &'static str),
}

fn seen<'a>(chunks: impl Iterator<Item = &'a [u8]>, message_bytes_max: usize) -> Vec<Seen> {
    let mut state = [0u8; 16];
    let mut tail = Vec::new();
    let mut pieces = Vec::new();
    let mut seen = Vec::new();
    let (mut unmasked, mut unmasked_again) = (Vec::new(), Vec::new());
    for chunk in chunks {
        let mut input = std::mem::take(&mut tail);
        input.extend_from_slice(chunk);
        let mut at = 0;
        loop {
            let mut decoder: Decoder = bytemuck::cast(state);
            let ended = decoder.ended();
            let mut successor = decoder;
            let rest = &input[at..];
            let (consumed, event) = decoder.next(rest, message_bytes_max, &mut unmasked);
            let again = successor.next(rest, message_bytes_max, &mut unmasked_again);
            assert_eq!(again, (consumed, event));
            assert_eq!(successor, decoder);
            let event = again.1;
            assert!(!ended || matches!(event, Event::NeedMore { left: 0 }));
            state = bytemuck::cast(decoder);
            at += consumed;
            match event {
                Event::NeedMore { left } => {
                    assert!(left <= TAIL_MAX && at + left == input.len());
                    tail = input.split_off(at);
                    break;
                }
                Event::Message { kind, payload } => {
                    assert!(pieces.is_empty() && payload.len() <= message_bytes_max);
                    seen.push(Seen::Message(kind, payload.to_vec()));
                }
                Event::Piece { payload, end } => {
                    assert!(!payload.is_empty() || end.is_some());
                    pieces.extend_from_slice(payload);
                    assert!(pieces.len() <= message_bytes_max);
                    match end {
                        Some(kind) => {
                            assert_eq!(decoder, Decoder::default());
                            seen.push(Seen::Message(kind, std::mem::take(&mut pieces)));
                        }
                        None => assert_eq!(decoder.assembled() as usize, pieces.len()),
                    }
                }
                Event::Ping(payload) => {
                    assert!(payload.len() <= 125);
                    seen.push(Seen::Ping(payload.to_vec()));
                }
                Event::Pong(payload) => {
                    assert!(payload.len() <= 125);
                    seen.push(Seen::Pong(payload.to_vec()));
                }
                Event::Close { code, reason } => {
                    assert!(decoder.ended() && reason.len() <= 123);
                    assert!(code.is_none_or(|code| may_be_received(code.0)));
                    seen.push(Seen::Close(code.map(|code| code.0), reason.to_owned()));
                }
                Event::Violation { code, sentence } => {
                    assert!(decoder.ended() && matches!(code.0, 1002 | 1007 | 1009));
                    seen.push(Seen::Violation(code.0, sentence));
                }
            }
        }
    }
    seen
}

fuzz_target!(|data: &[u8]| {
    let Some(case) = Case::read(data) else { return };
    let max = case.message_bytes_max;
    let at_once = seen([case.bytes].into_iter(), max);
    assert_eq!(seen(case.chunks(), max), at_once);
    assert_eq!(seen(case.bytes.chunks(1), max), at_once);
});
