//! The access rule for browsers: a page of another site must not upgrade with its visitor's
//! cookies and address. Programs that are no browsers send no `Origin`, and are not asked.

use super::target::split_port;

/// Whether a page from `origin` may upgrade on a server that was addressed as `host`.
///
/// `origins` is `auth.origins`: empty, the page must come from the same host and port; otherwise
/// it must be in the list, where `*` stands for any. Scheme and host compare without regard to
/// case, and a port left out is the scheme's. Since TLS ends in front of this server, `host` has no
/// scheme of its own: without a port it stands for the default port of the origin's.
pub fn allowed(origin: &str, host: &str, origins: &[String]) -> bool {
    if origins.is_empty() {
        return Origin::read(origin).is_some_and(|origin| origin.is_of(host));
    }
    origins
        .iter()
        .any(|listed| listed == "*" || same(listed, origin))
}

/// Compares a listed origin with one that came. What is not of the usual form (`null`) must be
/// written the same.
fn same(listed: &str, origin: &str) -> bool {
    match (
        Origin::read(listed.strip_suffix('/').unwrap_or(listed)),
        Origin::read(origin),
    ) {
        (Some(listed), Some(origin)) => {
            listed.scheme.eq_ignore_ascii_case(origin.scheme)
                && listed.name.eq_ignore_ascii_case(origin.name)
                && listed.port == origin.port
        }
        (None, None) => listed.eq_ignore_ascii_case(origin),
        _ => false,
    }
}

/// Whether a listed origin is that of pages at a host, whose name this is.
pub(super) fn is_at(listed: &str, name: &str) -> bool {
    let listed = listed.strip_suffix('/').unwrap_or(listed);
    Origin::read(listed).is_some_and(|origin| origin.name.eq_ignore_ascii_case(name))
}

struct Origin<'a> {
    scheme: &'a str,
    name: &'a str,
    /// `None` only for schemes without a default port.
    port: Option<u16>,
}

impl<'a> Origin<'a> {
    fn read(text: &'a str) -> Option<Origin<'a>> {
        let (scheme, host) = text.split_once("://")?;
        let (name, port) = split_port(host);
        if name.is_empty() || host.contains(['/', '@', '?', '#', ' ', ',']) {
            return None;
        }
        let port = match port {
            None | Some("") => default_port(scheme),
            Some(port) => Some(port.parse().ok()?),
        };
        Some(Origin { scheme, name, port })
    }

    fn is_of(&self, host: &str) -> bool {
        // Without a default port the scheme is none that a page is served by.
        let Some(default) = default_port(self.scheme) else {
            return false;
        };
        let (name, port) = split_port(host);
        let port = match port {
            None | Some("") => Some(default),
            Some(port) => port.parse().ok(),
        };
        name.eq_ignore_ascii_case(self.name) && port.is_some() && port == self.port
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    if scheme.eq_ignore_ascii_case("http") {
        Some(80)
    } else if scheme.eq_ignore_ascii_case("https") {
        Some(443)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::allowed;

    #[test]
    fn without_a_list_the_same_host_may() {
        for (origin, host) in [
            ("http://localhost:9501", "localhost:9501"),
            ("http://LocalHost:9501", "localhost:9501"),
            ("http://example.com", "example.com"),
            ("http://example.com", "example.com:80"),
            ("http://example.com:80", "EXAMPLE.com"),
            ("https://example.com", "example.com"),
            ("https://example.com", "example.com:443"),
            ("HTTPS://example.com:443", "example.com"),
            ("http://[::1]:9501", "[::1]:9501"),
            ("http://[::1]", "[::1]"),
        ] {
            assert!(allowed(origin, host, &[]), "{origin} to {host}");
        }
    }

    #[test]
    fn without_a_list_nobody_else_may() {
        for (origin, host) in [
            ("http://evil.example", "localhost:9501"),
            ("http://localhost", "localhost:9501"),
            ("http://localhost:9502", "localhost:9501"),
            ("https://example.com", "example.com:80"),
            ("http://example.com", "example.com:443"),
            ("http://localhost:9501.evil.example", "localhost:9501"),
            ("http://localhost:9501@evil.example", "localhost:9501"),
            ("http://user@localhost:9501", "localhost:9501"),
            ("http://localhost:9501/path", "localhost:9501"),
            (
                "http://localhost:9501, http://localhost:9501",
                "localhost:9501",
            ),
            ("http://example.com:99999", "example.com:99999"),
            ("http://example.com:x", "example.com:x"),
            ("null", "null"),
            ("", ""),
            ("://", ""),
            ("http://", ""),
            ("localhost:9501", "localhost:9501"),
            ("file://localhost:9501", "localhost:9501"),
            ("file://localhost", "localhost"),
            ("http://[::1", "[::1"),
        ] {
            let host_is_one = super::super::target::is_host(host);
            assert!(
                !allowed(origin, host, &[]) || !host_is_one,
                "{origin} to {host}"
            );
        }
    }

    #[test]
    fn a_list_replaces_the_rule() {
        let list = [
            "https://chat.example.com".to_owned(),
            "http://localhost:3000/".to_owned(),
        ];
        assert!(allowed("https://chat.example.com", "anything", &list));
        assert!(allowed("HTTPS://Chat.Example.Com:443", "anything", &list));
        assert!(allowed("http://localhost:3000", "anything", &list));
        assert!(!allowed(
            "http://chat.example.com",
            "chat.example.com",
            &list
        ));
        assert!(!allowed(
            "https://chat.example.com:444",
            "chat.example.com",
            &list
        ));
        assert!(!allowed(
            "https://chat.example.com.evil.example",
            "x",
            &list
        ));
        assert!(!allowed("null", "x", &list));
    }

    #[test]
    fn a_star_lets_everyone_in_and_odd_origins_can_be_listed() {
        assert!(allowed("http://evil.example", "x", &["*".to_owned()]));
        assert!(allowed("null", "x", &["*".to_owned()]));
        assert!(allowed("null", "x", &["null".to_owned()]));
        assert!(allowed("app://chat", "x", &["app://chat".to_owned()]));
        assert!(!allowed("app://other", "x", &["app://chat".to_owned()]));
    }
}
