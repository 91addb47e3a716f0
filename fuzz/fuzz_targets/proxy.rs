//! What a proxy says: any bytes, cut anywhere, are decided once and for good, as soon as that is possible, and from nothing behind the
//! header; and no head makes its `X-Forwarded-For` name a proxy.
#![no_main]

use std::net::IpAddr;

use fuzz::Case;
use libfuzzer_sys::fuzz_target;
use protocol::proxy::{self, HEADER_BYTES_MAX, Header};

/// What a worker finds that asks after each chunk, with all that came so far.
fn found<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> Header {
    let mut kept = Vec::new();
    for chunk in chunks {
        kept.extend_from_slice(chunk);
        let header = proxy::header(&kept);
        if header != Header::Incomplete {
            return header;
        }
        // It is never kept waiting for more than a header may have.
        assert!(kept.len() < HEADER_BYTES_MAX);
    }
    Header::Incomplete
}

fn is_proxy(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.octets()[0] == 10,
        IpAddr::V6(v6) => v6.is_loopback(),
    }
}

fuzz_target!(|data: &[u8]| {
    let Some(case) = Case::read(data) else { return };
    let whole = proxy::header(case.bytes);
    assert_eq!(found(case.chunks()), whole);
    assert_eq!(found(case.bytes.chunks(1)), whole);
    if let Header::Complete { bytes, .. } = whole {
        assert!(bytes <= HEADER_BYTES_MAX);
        assert_eq!(proxy::header(&case.bytes[..bytes]), whole);
        assert_eq!(proxy::header(&case.bytes[..bytes - 1]), Header::Incomplete);
    }
    if let Some(client) = proxy::client(case.bytes, is_proxy) {
        assert!(!is_proxy(client.ip()));
        assert_eq!(client.ip(), client.ip().to_canonical());
    }
});
