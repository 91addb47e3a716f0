//! Heads of HTTP requests: decided once and for all however many bytes come at once, never from
//! more than the limit, and every answer is itself a sound response.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::http::{self, HEAD_BYTES_MAX, Head, Rules, What};

/// That a response is a head with what must stand in it; returns its body.
fn check_response(response: &[u8], status: u16) -> &[u8] {
    let text = std::str::from_utf8(response).expect("our answers are text");
    assert!(text.starts_with(&format!("HTTP/1.1 {status} ")));
    let end = text.find("\r\n\r\n").expect("the head ends");
    &response[end + 4..]
}

fuzz_target!(|data: &[u8]| {
    let Some((choice, data)) = data.split_first() else {
        return;
    };
    let origins = ["https://chat.example".to_owned(), "*".to_owned()];
    let origins = &origins[..usize::from(choice % 3)];
    let rules = Rules {
        origins,
        echo: choice & 0x80 != 0,
        hosts: (choice & 0x40 != 0).then_some(&[]),
        from_proxy: choice & 0x20 != 0,
    };
    let at_once = http::parse(data, &rules);
    // Every length would make the work quadratic; short heads get it all the same.
    let step = 1 + data.len() / 256;
    for length in (0..data.len()).step_by(step) {
        let early = http::parse(&data[..length], &rules);
        assert!(
            early == Head::Incomplete || early == at_once,
            "{early:?} then {at_once:?}"
        );
    }
    match at_once {
        Head::Incomplete => assert!(data.len() < HEAD_BYTES_MAX),
        Head::Complete { bytes, what } => {
            assert!(bytes <= data.len().min(HEAD_BYTES_MAX));
            match what {
                What::Upgrade { response, .. } => {
                    assert!(check_response(&response, 101).is_empty())
                }
                What::Refuse { status, response } => {
                    assert!((400..=505).contains(&status));
                    check_response(&response, status);
                }
                What::RefuseHost { response, .. } => {
                    assert!(choice & 0x40 != 0);
                    check_response(&response, 403);
                }
                What::Get { .. } => {}
            }
        }
    }
});
