//! The wire protocol as pure functions over bytes: nothing here reads a socket, keeps a clock or
//! knows the table, so every rule can be tested, fuzzed and replayed without a server.
//!
//! Bytes come in through one of three doors and leave through one:
//!
//! | module | promises |
//! | --- | --- |
//! | [`http`] | the head of a request on the WebSocket port: the upgrade, a page, or the refusal to send; [`http::origin`] says who may upgrade |
//! | [`ws`] | WebSocket frames, decoded with 16 bytes of state between reads from input that stays as it is; headers and closing frames to send |
//! | [`mod@line`] | lines of the TCP port |
//! | [`proxy`] | what a proxy in front says about whose connection it is |
//! | [`request`] | one message from a client, understood or refused, borrowing from its text |
//! | [`reply`] | every message the server sends, written to any `io::Write` without allocating |
//! | [`name`] | what a user, a group or a device may be called |
//! | [`code`] | the error codes inside messages and the close codes behind them |
//!
//! Invariants: no function blocks or panics on any input; nothing is handed out past the limit the
//! caller gives; the same bytes mean the same however the network cut them; `content` is passed on
//! byte for byte.
#![forbid(unsafe_code)]

pub mod code;
pub mod http;
pub mod letter;
pub mod line;
pub mod name;
pub mod proxy;
pub mod reply;
pub mod request;
mod scan;
pub mod ws;

use code::CloseCode;

/// What is not longer is short text.
const SHORT_BYTES_MAX: usize = 256;

/// The text of one whole message, WebSocket or TCP.
///
/// Ask once the message is complete: a character may be cut by a fragment. On error the connection
/// is to be closed with the code given (RFC 6455, 8.1).
pub fn text(bytes: &[u8]) -> Result<&str, CloseCode> {
    let text = match bytes.len() {
        // What short text takes is the call, and the wait for bytes that have just been unmasked in smaller pieces than it loads.
        ..=SHORT_BYTES_MAX => str::from_utf8(bytes).ok(),
        _ => simdutf8::basic::from_utf8(bytes).ok(),
    };
    text.ok_or(CloseCode::INVALID_TEXT)
}

/// As much of `text` as `bytes_max` bytes hold without cutting a character.
fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_utf8_or_closes_with_1007() {
        assert_eq!(text("añ🦀".as_bytes()), Ok("añ🦀"));
        for bytes in [
            &b"\xff"[..],
            b"\xc0\xaf",
            b"\xed\xa0\x80",
            b"\xf4\x90\x80\x80",
            b"a\xce",
        ] {
            assert_eq!(text(bytes), Err(CloseCode(1007)), "{bytes:?}");
            // Long text is looked at by another way.
            let long = [&[b'x'; SHORT_BYTES_MAX], bytes].concat();
            assert_eq!(text(&long), Err(CloseCode(1007)), "{bytes:?}");
            let good = &long[..SHORT_BYTES_MAX];
            assert_eq!(
                text(&[good, "é".as_bytes()].concat()).map(str::len),
                Ok(258)
            );
        }
    }

    #[test]
    fn a_cut_falls_between_characters() {
        assert_eq!(cut("aéx", 2), "a");
        assert_eq!(cut("aéx", 3), "aé");
        assert_eq!(cut("aéx", 9), "aéx");
        assert_eq!(cut("é", 0), "");
    }
}
