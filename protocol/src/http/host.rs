//! Which hosts a request to an address of this machine alone may name.
//!
//! A browser takes any name for an address that its DNS server says, 127.0.0.1 among them, and to it a page of that name is a page of this server
//! (DNS rebinding): `Origin` equals `Host`. What the page cannot do is have another name than its own in `Host`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::origin;
use super::target::split_port;

/// Whether `host`, perhaps with a port, is a name or an address of loopback, is listed in `hosts` (`server.hosts`, without ports; `*` stands
/// for any), or is that of a page which may connect in any case (`auth.origins`). Of HTTP/1.0, which no browser speaks, it may be missing.
pub(super) fn allowed(host: &str, hosts: &[String], origins: &[String]) -> bool {
    let (name, _) = split_port(host);
    let name = name.strip_suffix('.').unwrap_or(name);
    let any_or_it = |listed: &String| {
        let listed = listed.strip_suffix('.').unwrap_or(listed);
        listed == "*" || listed.eq_ignore_ascii_case(name)
    };
    name.is_empty()
        || is_loopback(name)
        || hosts.iter().any(any_or_it)
        || origins
            .iter()
            .any(|listed| listed == "*" || origin::is_at(listed, name))
}

fn is_loopback(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    if last.eq_ignore_ascii_case("localhost") {
        return true;
    }
    match name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'))
    {
        Some(v6) => v6
            .parse::<Ipv6Addr>()
            .is_ok_and(|address| address.to_canonical().is_loopback()),
        None => name
            .parse::<Ipv4Addr>()
            .map(IpAddr::V4)
            .is_ok_and(|it| it.is_loopback()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_and_addresses_of_loopback_are_this_machines() {
        for host in [
            "localhost",
            "localhost:9501",
            "LOCALHOST",
            "localhost.",
            "chat.localhost:1",
            "a.b.localhost",
            "127.0.0.1",
            "127.0.0.1:9501",
            "127.255.0.9",
            "[::1]",
            "[::1]:9501",
            "[::ffff:127.0.0.1]:9501",
            "",
        ] {
            assert!(allowed(host, &[], &[]), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:9501",
            "localhost.evil.example",
            "notlocalhost",
            "127.0.0.1.evil.example",
            "127.1",
            "0x7f000001",
            "2130706433",
            "0.0.0.0",
            "[::]",
            "192.168.1.1",
            "10.0.0.1:9501",
            "[fe80::1]",
            "localhost..",
            "[::1].evil.example",
            "*",
        ] {
            assert!(!allowed(host, &[], &[]), "{host}");
        }
    }

    #[test]
    fn listed_ones_are_too_and_those_of_listed_pages() {
        let list = |names: &[&str]| {
            names
                .iter()
                .map(|&name| name.to_owned())
                .collect::<Vec<_>>()
        };
        let hosts = list(&["chat.example.org", "[fd00::1]"]);
        for host in [
            "chat.example.org",
            "Chat.Example.Org:443",
            "chat.example.org.",
            "[fd00::1]:9501",
        ] {
            assert!(allowed(host, &hosts, &[]), "{host}");
        }
        assert!(!allowed("evil.chat.example.org", &hosts, &[]));
        assert!(allowed("evil.example", &list(&["*"]), &[]));
        let origins = list(&["https://chat.example.org", "app://chat", "null"]);
        assert!(allowed("chat.example.org", &[], &origins));
        assert!(!allowed("evil.example", &[], &origins));
        assert!(!allowed("null", &[], &origins));
        assert!(allowed("evil.example", &[], &list(&["*"])));
    }
}
