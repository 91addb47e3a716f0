//! How a client may close: RFC 6455, 5.5.1 and 7.4.

use super::*;

#[test]
fn close_frames_have_no_code_or_a_whole_one() {
    assert_eq!(
        seen(&client_frame(FIN | CLOSE, b""), 9),
        [Seen::Close(None, String::new())]
    );
    breaks(&client_frame(FIN | CLOSE, b"\x03"), 1002);
    let bytes = client_frame(FIN | CLOSE, b"\x03\xe8");
    assert_eq!(seen(&bytes, 9), [Seen::Close(Some(1000), String::new())]);
    let bytes = client_frame(FIN | CLOSE, &[&[0x0f, 0xa1], "grüße".as_bytes()].concat());
    assert_eq!(
        seen(&bytes, 9),
        [Seen::Close(Some(4001), "grüße".to_owned())]
    );
    let mut longest = vec![0x03, 0xe9];
    longest.extend([b'z'; 123]);
    assert_eq!(
        seen(&client_frame(FIN | CLOSE, &longest), 0),
        [Seen::Close(Some(1001), "z".repeat(123))]
    );
}

#[test]
fn close_codes_are_those_a_peer_may_send() {
    for code in [1000u16, 1003, 1007, 1011, 1014, 3000, 4999] {
        let bytes = client_frame(FIN | CLOSE, &code.to_be_bytes());
        assert_eq!(seen(&bytes, 0), [Seen::Close(Some(code), String::new())]);
    }
    for code in [
        0u16, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65_535,
    ] {
        breaks(&client_frame(FIN | CLOSE, &code.to_be_bytes()), 1002);
    }
}

#[test]
fn close_reasons_are_utf8() {
    breaks(&client_frame(FIN | CLOSE, b"\x03\xe8\xff"), 1007);
    breaks(&client_frame(FIN | CLOSE, b"\x03\xe8\xce\xba\xe1"), 1007);
}

#[test]
fn nothing_is_seen_after_a_close() {
    let bytes = frames(&[
        (TEXT, b"half"),
        (FIN | CLOSE, b""),
        (FIN | CONTINUE, b"x"),
        (7, b""),
    ]);
    assert_eq!(seen(&bytes, 9), [Seen::Close(None, String::new())]);
}
