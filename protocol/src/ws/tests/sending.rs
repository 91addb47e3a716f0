//! What the server sends, byte by byte.

use super::*;

fn written(write: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut bytes).unwrap();
    bytes
}

#[test]
fn headers_take_the_shortest_form() {
    assert_eq!(header(Opcode::Text, 0).as_slice(), [0x81, 0]);
    assert_eq!(header(Opcode::Binary, 125).as_slice(), [0x82, 125]);
    assert_eq!(header(Opcode::Text, 126).as_slice(), [0x81, 126, 0, 126]);
    assert_eq!(
        header(Opcode::Text, 65_535).as_slice(),
        [0x81, 126, 255, 255]
    );
    assert_eq!(
        header(Opcode::Text, 65_536).as_slice(),
        [0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]
    );
    assert_eq!(
        header(Opcode::Text, 5),
        Header {
            bytes: [0x81, 5, 0, 0, 0, 0, 0, 0, 0, 0],
            len: 2
        }
    );
}

#[test]
fn frames_are_header_and_payload() {
    assert_eq!(written(|w| frame(w, Opcode::Pong, b"hi")), *b"\x8a\x02hi");
    assert_eq!(written(|w| frame(w, Opcode::Ping, b"")), *b"\x89\x00");
    assert_eq!(
        written(|w| frame(w, Kind::Binary.into(), b"x")),
        *b"\x82\x01x"
    );
    assert_eq!(
        written(|w| frame(w, Kind::Text.into(), b"x")),
        *b"\x81\x01x"
    );
}

#[test]
fn close_frames_carry_code_and_what_fits_of_the_reason() {
    assert_eq!(
        written(|w| close_frame(w, CloseCode(4001), "late")),
        *b"\x88\x06\x0f\xa1late"
    );
    assert_eq!(
        written(|w| close_payload(w, CloseCode(4001), "late")),
        *b"\x0f\xa1late"
    );
    let long = "é".repeat(100);
    let bytes = written(|w| close_frame(w, CloseCode::NORMAL, &long));
    assert_eq!(bytes.len(), 2 + 2 + 122);
    assert_eq!(usize::from(bytes[1]), bytes.len() - 2);
    assert!(std::str::from_utf8(&bytes[4..]).is_ok());
}

#[test]
fn an_answer_repeats_the_code() {
    assert_eq!(written(|w| close_answer(w, None)), *b"\x88\x00");
    assert_eq!(
        written(|w| close_answer(w, Some(CloseCode(1001)))),
        *b"\x88\x02\x03\xe9"
    );
}
