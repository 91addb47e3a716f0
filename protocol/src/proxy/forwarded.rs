//! `X-Forwarded-For`: each proxy on the way adds whose connection it took, on the right. Anybody may have written what stands on the left.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::http::FIELDS_MAX;

/// The client for whom a request came, as its head says: the last address in `X-Forwarded-For` that is not a proxy's. `None`: the head
/// does not say, or what stands there is no address, so that nobody can tell who wrote what is on its left.
///
/// The port is 0 where none is named. To be asked only of a request from somebody who is believed.
pub fn client(head: &[u8], is_proxy: impl Fn(IpAddr) -> bool) -> Option<SocketAddr> {
    let mut room = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut request = httparse::Request::new(&mut room);
    if !matches!(request.parse(head), Ok(httparse::Status::Complete(_))) {
        return None;
    }
    // Several fields of one name are one list, and empty elements count for nothing (RFC 9110, 5.3 and 5.6.1).
    let elements = request
        .headers
        .iter()
        .rev()
        .filter(|field| field.name.eq_ignore_ascii_case("X-Forwarded-For"))
        .flat_map(|field| field.value.rsplit(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|element| !element.is_empty());
    for element in elements {
        let address = address(std::str::from_utf8(element).ok()?)?;
        if !is_proxy(address.ip()) {
            return Some(address);
        }
    }
    None
}

/// An address as proxies write it: with or without a port, and an IPv6 address with or without brackets.
fn address(text: &str) -> Option<SocketAddr> {
    let canonical = |ip: IpAddr, port| SocketAddr::new(ip.to_canonical(), port);
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(canonical(ip, 0));
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(canonical(address.ip(), address.port()));
    }
    let bare = text.strip_prefix('[')?.strip_suffix(']')?;
    Some(canonical(bare.parse::<Ipv6Addr>().ok()?.into(), 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(fields: &str) -> Option<String> {
        let head = format!("GET /ws HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
        let is_proxy = |ip: IpAddr| ip.to_string().starts_with("10.") || ip.is_loopback();
        client(head.as_bytes(), is_proxy).map(|address| address.to_string())
    }

    #[test]
    fn the_last_address_that_is_no_proxy_is_the_client() {
        for (fields, expected) in [
            ("", None),
            ("X-Forwarded-For: 192.0.2.1\r\n", Some("192.0.2.1:0")),
            (
                "X-Forwarded-For: 203.0.113.9, 192.0.2.1, 10.0.0.7\r\n",
                Some("192.0.2.1:0"),
            ),
            (
                "x-forwarded-for: 203.0.113.9\r\nX-Other: 1.1.1.1\r\nX-FORWARDED-FOR: 192.0.2.1,,10.0.0.7 , \r\n",
                Some("192.0.2.1:0"),
            ),
            (
                "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-For: 10.1.1.1\r\n",
                Some("192.0.2.1:0"),
            ),
            ("X-Forwarded-For: 10.0.0.1, 127.0.0.1\r\n", None),
            (
                "X-Forwarded-For: 192.0.2.1:4711\r\n",
                Some("192.0.2.1:4711"),
            ),
            ("X-Forwarded-For: 2001:db8::1\r\n", Some("[2001:db8::1]:0")),
            (
                "X-Forwarded-For: [2001:db8::1]\r\n",
                Some("[2001:db8::1]:0"),
            ),
            (
                "X-Forwarded-For: [2001:db8::1]:80\r\n",
                Some("[2001:db8::1]:80"),
            ),
            ("X-Forwarded-For: ::ffff:192.0.2.1\r\n", Some("192.0.2.1:0")),
            (
                "X-Forwarded-For: 192.0.2.1, ::ffff:10.0.0.1\r\n",
                Some("192.0.2.1:0"),
            ),
        ] {
            assert_eq!(found(fields).as_deref(), expected, "{fields}");
        }
    }

    #[test]
    fn what_is_no_address_hides_everything_on_its_left() {
        for garbage in [
            "unknown",
            "192.0.2.256",
            "192.0.2.1:99999",
            "192.0.2.1:",
            "[192.0.2.1]",
            "[::1",
            "\u{ff11}",
            "192.0.2.1 192.0.2.2",
            "_hidden",
            "\"192.0.2.1\"",
        ] {
            assert_eq!(
                found(&format!("X-Forwarded-For: 192.0.2.9, {garbage}\r\n")),
                None
            );
            assert_eq!(
                found(&format!(
                    "X-Forwarded-For: 192.0.2.9, {garbage}, 10.0.0.1\r\n"
                )),
                None
            );
            assert_eq!(
                found(&format!("X-Forwarded-For: {garbage}, 192.0.2.9\r\n")),
                Some("192.0.2.9:0".to_owned())
            );
        }
    }

    #[test]
    fn what_is_no_head_says_nothing() {
        let is_proxy = |_| false;
        for head in [
            &b""[..],
            b"\0",
            b"GET / HTTP/1.1\r\nX-Forwarded-For: 192.0.2.1",
        ] {
            assert_eq!(client(head, is_proxy), None);
        }
    }
}
