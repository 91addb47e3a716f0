//! One rule, one test.

use super::*;

fn text(payload: &[u8]) -> Seen {
    Seen::Message(Kind::Text, payload.to_vec())
}

#[test]
fn the_example_of_the_rfc() {
    let bytes = [
        0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
    ];
    assert_eq!(seen(&bytes, 5), [text(b"Hello")]);
    let (mut decoder, mut unmasked) = (Decoder::default(), Vec::new());
    let (consumed, event) = decoder.next(&bytes, 5, &mut unmasked);
    assert_eq!(consumed, 11);
    assert_eq!(
        event,
        Event::Message {
            kind: Kind::Text,
            payload: b"Hello"
        }
    );
    assert_eq!(decoder, Decoder::default());
}

#[test]
fn every_form_of_length() {
    for length in [0, 1, 2, 3, 125, 126, 127, 65_535, 65_536, 70_000] {
        let payload: Vec<u8> = (0..length).map(|i| i as u8).collect();
        let bytes = client_frame(FIN | BINARY, &payload);
        assert_eq!(
            seen(&bytes, 100_000),
            [Seen::Message(Kind::Binary, payload)]
        );
    }
}

#[test]
fn fragments_are_one_message_and_control_frames_stand_between() {
    let bytes = frames(&[
        (TEXT, b"He"),
        (FIN | PING, b"1"),
        (CONTINUE, b""),
        (CONTINUE, b"l"),
        (FIN | PONG, b""),
        (FIN | CONTINUE, b"lo"),
        (FIN | BINARY, b"x"),
        (TEXT, b""),
        (CONTINUE, b""),
        (FIN | CONTINUE, b""),
        (BINARY, b"y"),
        (FIN | CONTINUE, b""),
    ]);
    assert_eq!(
        seen(&bytes, 5),
        [
            Seen::Ping(b"1".to_vec()),
            Seen::Pong(vec![]),
            text(b"Hello"),
            Seen::Message(Kind::Binary, b"x".to_vec()),
            text(b""),
            Seen::Message(Kind::Binary, b"y".to_vec()),
        ]
    );
}

#[test]
fn an_unmasked_frame_is_refused() {
    breaks(&[FIN | TEXT, 0], 1002);
    breaks(&[FIN | TEXT, 1, b'x'], 1002);
    breaks(&[FIN | PING, 0], 1002);
}

#[test]
fn reserved_bits_are_refused() {
    for bit in [0x40, 0x20, 0x10] {
        breaks(&client_frame(FIN | bit | TEXT, b"x"), 1002);
        breaks(&client_frame(FIN | bit | PING, b""), 1002);
    }
}

#[test]
fn reserved_opcodes_are_refused() {
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        breaks(&client_frame(FIN | opcode, b"x"), 1002);
        breaks(&client_frame(opcode, b""), 1002);
    }
}

#[test]
fn control_frames_are_small_and_whole() {
    for opcode in [CLOSE, PING, PONG] {
        breaks(&client_frame(FIN | opcode, &[b'x'; 126]), 1002);
        breaks(&client_frame(opcode, b""), 1002);
        breaks(&client_frame(opcode, b"xx"), 1002);
    }
    let payload = [7; 125];
    assert_eq!(
        seen(&client_frame(FIN | PING, &payload), 0),
        [Seen::Ping(payload.to_vec())]
    );
}

#[test]
fn fragments_come_in_order() {
    breaks(&client_frame(FIN | CONTINUE, b"x"), 1002);
    breaks(&client_frame(CONTINUE, b""), 1002);
    let after_a_whole_one = frames(&[(TEXT, b"a"), (FIN | CONTINUE, b"b"), (FIN | CONTINUE, b"c")]);
    assert!(matches!(
        seen(&after_a_whole_one, 9)[..],
        [Seen::Message(..), Seen::Violation(1002, _)]
    ));
    for first in [FIN | TEXT, TEXT, FIN | BINARY] {
        breaks(&frames(&[(TEXT, b"a"), (first, b"b")]), 1002);
        breaks(&frames(&[(TEXT, b""), (first, b"")]), 1002);
    }
}

#[test]
fn lengths_take_the_shortest_form() {
    breaks(&[FIN | TEXT, 0x80 | 126, 0, 125, 1, 2, 3, 4], 1002);
    breaks(&[FIN | TEXT, 0x80 | 126, 0, 0, 1, 2, 3, 4], 1002);
    breaks(
        &[
            FIN | TEXT,
            0x80 | 127,
            0,
            0,
            0,
            0,
            0,
            0,
            0xff,
            0xff,
            1,
            2,
            3,
            4,
        ],
        1002,
    );
    breaks(
        &[FIN | TEXT, 0x80 | 127, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 3, 4],
        1002,
    );
}

#[test]
fn the_top_bit_of_a_length_is_refused() {
    breaks(
        &[
            FIN | TEXT,
            0x80 | 127,
            0x80,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            1,
            2,
            3,
            4,
        ],
        1002,
    );
    breaks(
        &[
            FIN | TEXT,
            0x80 | 127,
            255,
            255,
            255,
            255,
            255,
            255,
            255,
            255,
            1,
            2,
            3,
            4,
        ],
        1002,
    );
}

#[test]
fn a_message_past_the_limit_is_refused_at_its_header() {
    let header_only = [
        FIN | TEXT,
        0x80 | 127,
        0x7f,
        255,
        255,
        255,
        255,
        255,
        255,
        255,
        1,
        2,
        3,
        4,
    ];
    breaks(&header_only, 1009);
    breaks(
        &[FIN | TEXT, 0x80 | 127, 0, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4],
        1009,
    );
    assert_eq!(
        seen(&client_frame(FIN | TEXT, b"12345"), 5),
        [text(b"12345")]
    );
    assert!(matches!(
        seen(&client_frame(FIN | TEXT, b"123456"), 5)[..],
        [Seen::Violation(1009, _)]
    ));
    assert_eq!(seen(&client_frame(FIN | TEXT, b""), 0), [text(b"")]);
    assert!(matches!(
        seen(&client_frame(FIN | TEXT, b"1"), 0)[..],
        [Seen::Violation(1009, _)]
    ));
}

#[test]
fn the_limit_holds_across_fragments() {
    let exact = frames(&[(TEXT, b"123"), (CONTINUE, b"45"), (FIN | CONTINUE, b"")]);
    assert_eq!(seen(&exact, 5), [text(b"12345")]);
    let past = frames(&[
        (TEXT, b"123"),
        (FIN | PING, b"a longer one"),
        (CONTINUE, b"456"),
    ]);
    assert!(matches!(
        seen(&past, 5)[..],
        [Seen::Ping(_), Seen::Violation(1009, _)]
    ));
}

#[test]
fn a_lowered_limit_refuses_what_comes_next() {
    let mut peer = Peer::default();
    peer.read(&client_frame(TEXT, b"12345"), 5);
    peer.read(&client_frame(FIN | CONTINUE, b"6"), 2);
    assert!(matches!(peer.seen[..], [Seen::Violation(1009, _)]));
}

#[test]
fn what_is_left_over_is_never_more_than_promised() {
    let ping = client_frame(FIN | PING, &[1; 125]);
    let input = &ping[..ping.len() - 1];
    let mut unmasked = Vec::new();
    let (consumed, event) = Decoder::default().next(input, 0, &mut unmasked);
    assert_eq!((consumed, event), (0, Event::NeedMore { left: TAIL_MAX }));
}

#[test]
fn a_frame_begun_is_told() {
    let mut decoder = Decoder::default();
    let bytes = client_frame(TEXT, b"abc");
    assert_eq!(decoder.next(&bytes[..6], 9, &mut Vec::new()).0, 6);
    assert!(decoder.in_message());
    assert_eq!(decoder.assembled(), 0);
}

#[test]
fn any_sixteen_bytes_are_a_decoder() {
    let mut decoder: Decoder = bytemuck::cast([0xffu8; 16]);
    assert!(decoder.ended());
    assert_eq!(
        decoder.next(&[1, 2, 3], 9, &mut Vec::new()),
        (3, Event::NeedMore { left: 0 })
    );
}

#[test]
fn a_successor_finds_the_same_in_the_same_bytes() {
    let input = frames(&[
        (FIN | TEXT, b"all of it"),
        (FIN | PING, b"still there?"),
        (TEXT, b"half of "),
        (FIN | CONTINUE, b"it, and then"),
        (FIN | CLOSE, b"\x03\xe8bye"),
    ]);
    // The network cut the second half.
    let input = &input[..input.len() - 13];
    let (mut at, mut decoder) = (0, Decoder::default());
    loop {
        let mut successor = decoder;
        let (mut first, mut second) = (Vec::new(), b"of another call".to_vec());
        let (consumed, event) = decoder.next(&input[at..], 100, &mut first);
        let again = successor.next(&input[at..], 100, &mut second);
        assert_eq!(again, (consumed, event));
        assert_eq!(successor, decoder);
        at += consumed;
        if matches!(again.1, Event::NeedMore { .. }) {
            break;
        }
    }
    assert_eq!(decoder.assembled(), 18);
}
