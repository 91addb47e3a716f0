use super::*;
use proptest::prelude::*;

fn v2(version_command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [V2_START, &[version_command, family][..], &length, body].concat()
}

const IPV4: [u8; 12] = [192, 0, 2, 1, 10, 0, 0, 1, 0x12, 0x67, 0, 80];

fn ipv6() -> Vec<u8> {
    let source: Ipv6Addr = "2001:db8::1".parse().unwrap();
    [&source.octets()[..], &[0; 16], &[0x12, 0x67, 0, 80]].concat()
}

/// What is found in the whole, after it was made sure that it is found as soon as it can be and not before, however it is cut, and
/// whatever comes behind.
fn found(input: &[u8]) -> Header {
    let whole = header(input);
    let mut decided = None;
    for end in 0..=input.len() {
        let now = header(&input[..end]);
        match decided {
            None if now == Header::Incomplete => {}
            None => decided = Some(now),
            Some(before) => assert_eq!(now, before, "{end} bytes of {:?}", input.escape_ascii()),
        }
    }
    assert_eq!(decided.unwrap_or(Header::Incomplete), whole);
    if whole != Header::Incomplete {
        for behind in [&b"x"[..], b"\r\n", b"PROXY UNKNOWN\r\n", &[0; 200]] {
            assert_eq!(header(&[input, behind].concat()), whole);
        }
    }
    if let Header::Complete { bytes, .. } = whole {
        assert_eq!(header(&input[..bytes - 1]), Header::Incomplete);
        assert_eq!(header(&input[..bytes]), whole);
    }
    whole
}

fn complete(input: &[u8], client: Option<&str>) {
    let expected = Header::Complete {
        bytes: input.len(),
        client: client.map(|client| client.parse().unwrap()),
    };
    assert_eq!(found(input), expected, "{:?}", input.escape_ascii());
}

fn malformed(input: &[u8]) {
    assert!(
        matches!(found(input), Header::Malformed(_)),
        "{:?}: {:?}",
        input.escape_ascii(),
        header(input)
    );
}

#[test]
fn version_1() {
    for (line, client) in [
        ("TCP4 192.0.2.1 10.0.0.1 4711 80", Some("192.0.2.1:4711")),
        (
            "TCP4 255.255.255.255 255.255.255.255 65535 65535",
            Some("255.255.255.255:65535"),
        ),
        ("TCP4 0.0.0.0 0.0.0.0 0 0", Some("0.0.0.0:0")),
        ("TCP6 2001:db8::1 ::1 4711 80", Some("[2001:db8::1]:4711")),
        (
            "TCP6 ffff:f...f:ffff ::1 1 2"
                .replace("f...f", "ffff:ffff:ffff:ffff:ffff:ffff")
                .as_str(),
            Some("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:1"),
        ),
        ("UNKNOWN", None),
        ("UNKNOWN 192.0.2.1 10.0.0.1 4711 80", None),
        ("UNKNOWN what ever", None),
    ] {
        complete(format!("PROXY {line}\r\n").as_bytes(), client);
    }
}

#[test]
fn what_is_not_quite_version_1_is_malformed() {
    for line in [
        "",
        "TCP4",
        "TCP5 192.0.2.1 10.0.0.1 4711 80",
        "tcp4 192.0.2.1 10.0.0.1 4711 80",
        "UNKNOWNS",
        "TCP4 192.0.2.1 10.0.0.1 4711",
        "TCP4 192.0.2.1 10.0.0.1 4711 80 ",
        "TCP4 192.0.2.1 10.0.0.1 4711 80 1",
        "TCP4  192.0.2.1 10.0.0.1 4711 80",
        "TCP4 192.0.2.1 10.0.0.1 04711 80",
        "TCP4 192.0.2.1 10.0.0.1 +4711 80",
        "TCP4 192.0.2.1 10.0.0.1 65536 80",
        "TCP4 192.0.2.1 10.0.0.1 4711 -1",
        "TCP4 192.0.2.256 10.0.0.1 4711 80",
        "TCP4 192.0.2.1 10.0.0.01 4711 80",
        "TCP4 ::1 ::1 4711 80",
        "TCP6 192.0.2.1 10.0.0.1 4711 80",
        "TCP6 [::1] ::1 4711 80",
        "TCP4 192.0.2.1 10.0.0.1 4711 80\n",
        "TCP4 192.0.2.\u{ff11} 10.0.0.1 4711 80",
    ] {
        malformed(format!("PROXY {line}\r\n").as_bytes());
    }
    malformed(b"PROXY \xff\r\n");
    malformed(&[b"PROXY ", &[b'x'; 101][..]].concat());
    // The line may have 107 bytes, not one more.
    let longest = [b"PROXY UNKNOWN ", &[b'x'; 91][..], b"\r\n"].concat();
    assert_eq!(longest.len(), V1_BYTES_MAX);
    complete(&longest, None);
    malformed(&[b"PROXY UNKNOWN ", &[b'x'; 92][..], b"\r\n"].concat());
}

#[test]
fn version_2() {
    complete(&v2(0x21, 0x11, &IPV4), Some("192.0.2.1:4711"));
    complete(&v2(0x21, 0x21, &ipv6()), Some("[2001:db8::1]:4711"));
    // Extensions follow the addresses.
    complete(
        &v2(0x21, 0x11, &[&IPV4[..], b"\x04\x00\x01x"].concat()),
        Some("192.0.2.1:4711"),
    );
    complete(
        &v2(0x21, 0x21, &[ipv6(), vec![7; 500]].concat()),
        Some("[2001:db8::1]:4711"),
    );
    // The proxy's own connection.
    complete(&v2(0x20, 0x00, b""), None);
    complete(&v2(0x20, 0x11, &IPV4), None);
    complete(&v2(0x20, 0xff, b"whatever"), None);
    // No address of a client.
    for family in [0x00, 0x12, 0x22, 0x31, 0x32] {
        complete(&v2(0x21, family, &[0; 216]), None);
    }
    complete(&v2(0x21, 0x00, b""), None);
    complete(&v2(0x20, 0, &[0; HEADER_BYTES_MAX - V2_FIXED]), None);
}

#[test]
fn what_is_not_quite_version_2_is_malformed() {
    for (version_command, family, body) in [
        (0x11, 0x11, &IPV4[..]),
        (0x31, 0x11, &IPV4),
        (0x22, 0x11, &IPV4),
        (0x2f, 0x11, &IPV4),
        (0x21, 0x11, &IPV4[..11]),
        (0x21, 0x11, b""),
        (0x21, 0x21, &[0; 35]),
        (0x21, 0x13, &IPV4),
        (0x21, 0x41, &IPV4),
        (0x21, 0xff, &IPV4),
        (0x20, 0x00, &[0; HEADER_BYTES_MAX - V2_FIXED + 1]),
    ] {
        malformed(&v2(version_command, family, body));
    }
}

#[test]
fn what_begins_otherwise_is_the_clients_own() {
    for input in [
        &b"{\"type\":\"login\"}\n"[..],
        b"GET / HTTP/1.1\r\n",
        b"POST",
        b"PROXYING",
        b"proxy TCP4 192.0.2.1 10.0.0.1 4711 80\r\n",
        b"\n",
        b"\r\n{}",
        b"\r\n\r\n{}",
        b"\r\n\r\n\0\r\nQUIT\r",
        b"\0",
    ] {
        assert_eq!(found(input), Header::None, "{:?}", input.escape_ascii());
    }
    for start in [
        &b""[..],
        b"P",
        b"PROXY",
        b"PROXY ",
        b"\r",
        b"\r\n\r\n\0\r\nQUIT\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0",
    ] {
        assert_eq!(header(start), Header::Incomplete);
    }
}

proptest! {
    #[test]
    fn no_input_and_no_cut_confuses_it(
        start in prop_oneof![Just(&b""[..]), Just(&b"PROXY "[..]), Just(&b"PROXY TCP4 1.2.3.4 "[..]), Just(&V2_START[..])],
        rest in proptest::collection::vec(any::<u8>(), 0..150),
    ) {
        found(&[start, &rest].concat());
    }
}
