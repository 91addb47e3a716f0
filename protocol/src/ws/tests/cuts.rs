//! Frames of any kind, sound or not, cut anywhere: what is seen never depends on the cuts.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

fn first_byte() -> impl Strategy<Value = u8> {
    prop_oneof![
        12 => prop_oneof![Just(TEXT), Just(FIN | TEXT), Just(CONTINUE), Just(FIN | CONTINUE)],
        4 => prop_oneof![Just(BINARY), Just(FIN | BINARY), Just(FIN | PING), Just(FIN | PONG)],
        1 => any::<u8>(),
    ]
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![4 => vec(any::<u8>(), 0..12), 1 => vec(any::<u8>(), 120..140)]
}

/// A message in fragments with pings between them, as a friendly client sends it.
fn fragmented(kind: Kind, fragments: &[Vec<u8>], ping_between: bool) -> Vec<u8> {
    let opcode = if kind == Kind::Text { TEXT } else { BINARY };
    let mut bytes = Vec::new();
    for (at, fragment) in fragments.iter().enumerate() {
        let last = if at + 1 == fragments.len() { FIN } else { 0 };
        let opcode = if at == 0 { opcode } else { CONTINUE };
        bytes.extend(client_frame(opcode | last, fragment));
        if ping_between {
            bytes.extend(client_frame(FIN | PING, fragment));
        }
    }
    bytes
}

fn cut(bytes: &[u8], mut lengths: Vec<usize>) -> Vec<&[u8]> {
    let mut chunks = Vec::new();
    let mut rest = bytes;
    lengths.push(usize::MAX);
    for length in lengths {
        let (chunk, after) = rest.split_at(length.min(rest.len()));
        chunks.push(chunk);
        rest = after;
    }
    chunks
}

proptest! {
    #[test]
    fn any_frames_at_any_cuts(
        frames in vec((first_byte(), payload()), 0..8),
        noise in vec(any::<u8>(), 0..20),
        lengths in vec(0usize..40, 0..20),
        message_bytes_max in 0usize..60,
    ) {
        let mut bytes: Vec<u8> =
            frames.iter().flat_map(|(first, payload)| client_frame(*first, payload)).collect();
        bytes.extend(noise);
        let chunks = cut(&bytes, lengths);
        prop_assert_eq!(
            seen_in_chunks(chunks, message_bytes_max),
            seen(&bytes, message_bytes_max)
        );
    }

    #[test]
    fn fragments_make_the_message(
        fragments in vec(vec(any::<u8>(), 0..100), 1..6),
        text in any::<bool>(),
        ping_between in any::<bool>(),
        lengths in vec(0usize..80, 0..20),
    ) {
        let kind = if text { Kind::Text } else { Kind::Binary };
        let message = fragments.concat();
        let bytes = fragmented(kind, &fragments, ping_between);
        let seen = seen_in_chunks(cut(&bytes, lengths), message.len());
        let messages: Vec<_> =
            seen.into_iter().filter(|seen| matches!(seen, Seen::Message(..))).collect();
        prop_assert_eq!(messages, [Seen::Message(kind, message)]);
    }

    #[test]
    fn any_state_survives_any_input(state in any::<[u8; 16]>(), input in vec(any::<u8>(), 0..200)) {
        let mut decoder: Decoder = bytemuck::cast(state);
        let (mut at, mut unmasked) = (0, Vec::new());
        loop {
            let (consumed, event) = decoder.next(&input[at..], 100, &mut unmasked);
            let more = !matches!(event, Event::NeedMore { .. });
            at += consumed;
            prop_assert!(at <= input.len());
            if !more {
                break;
            }
        }
    }
}
