//! Requests as browsers, old programs and attackers write them, and the answer each gets.

mod handshake;
mod requests;

use super::*;

const DEFAULT: Rules<'static> = Rules {
    origins: &[],
    echo: false,
    hosts: None,
    from_proxy: false,
};

/// For a request to an address of this machine alone.
const LOOPBACK: Rules<'static> = Rules {
    hosts: Some(&[]),
    ..DEFAULT
};

/// What a head is answered with, the same however it was cut.
fn parsed(head: &str, rules: &Rules<'_>) -> What {
    let bytes = head.as_bytes();
    let at_once = parse(bytes, rules);
    let growing = (0..=bytes.len())
        .map(|length| parse(&bytes[..length], rules))
        .find(|head| *head != Head::Incomplete);
    assert_eq!(growing.as_ref(), Some(&at_once), "{head:?}");
    match at_once {
        Head::Complete { what, .. } => what,
        Head::Incomplete => panic!("incomplete: {head:?}"),
    }
}

fn answer(head: &str, rules: &Rules<'_>) -> String {
    match parsed(head, rules) {
        What::Upgrade { response, .. } | What::Refuse { response, .. } => {
            String::from_utf8(response).unwrap()
        }
        what => panic!("{what:?}"),
    }
}

/// That a head is refused with this status, in a response that is sound and closes.
#[track_caller]
fn refused(head: &str, expected: u16) -> String {
    match parsed(head, &DEFAULT) {
        What::Refuse { status, response } => {
            let response = String::from_utf8(response).unwrap();
            assert_eq!(status, expected, "{response}");
            assert!(
                response.starts_with(&format!("HTTP/1.1 {expected} ")),
                "{response}"
            );
            assert!(response.contains("\r\nConnection: close"), "{response}");
            let (head, body) = response.split_once("\r\n\r\n").unwrap();
            assert!(
                head.contains(&format!("\r\nContent-Length: {}", body.len())),
                "{response}"
            );
            response
        }
        what => panic!("{what:?}"),
    }
}

/// A sound handshake in which some fields are replaced, added, or with an empty value left out.
fn handshake(path: &str, changed: &[(&str, &str)]) -> String {
    let mut fields = vec![
        ("Host", "localhost:9501"),
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    for (name, value) in changed {
        fields.retain(|(field, _)| field != name);
        if !value.is_empty() {
            fields.push((name, value));
        }
    }
    let lines: String = fields
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    format!("GET {path} HTTP/1.1\r\n{lines}\r\n")
}
