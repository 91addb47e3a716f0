//! Where a request wants to go: its host, and its path among those there are.

/// The paths of the WebSocket port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Path {
    Root,
    Ws,
    Echo,
    Healthz,
}

/// A request target, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target<'a> {
    /// The host of an absolute target, which then counts instead of the `Host` field.
    pub(super) host: Option<&'a str>,
    /// `None`: nothing is there.
    pub(super) path: Option<Path>,
}

/// Takes apart the two forms a target can have for a server that is no proxy: `/path?query` and
/// `http://host/path?query`. `None` for any other.
pub(super) fn read(target: &str) -> Option<Target<'_>> {
    if target.starts_with('/') {
        return Some(Target {
            host: None,
            path: path(target),
        });
    }
    let (scheme, rest) = target.split_once("://")?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return None;
    }
    let host_bytes = rest.find(['/', '?']).unwrap_or(rest.len());
    let (host, target) = rest.split_at(host_bytes);
    Some(Target {
        host: Some(host),
        path: path(target),
    })
}

fn path(target: &str) -> Option<Path> {
    let path = target.split(['?', '#']).next().unwrap_or_default();
    match path {
        "/" | "" => Some(Path::Root),
        "/ws" => Some(Path::Ws),
        "/echo" => Some(Path::Echo),
        "/healthz" => Some(Path::Healthz),
        _ => None,
    }
}

/// Whether this can be a `Host`: a name or an address, and perhaps a port.
pub(super) fn is_host(host: &str) -> bool {
    let (name, port) = split_port(host);
    let name_is_good = match name
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        Some(address) => address
            .bytes()
            .all(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.')),
        None => name.bytes().all(|b| {
            b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~' | b'%' | b'!' | b'*')
        }),
    };
    let port_is_good = port.is_none_or(|port| port.is_empty() || port.parse::<u16>().is_ok());
    !name.is_empty() && name_is_good && port_is_good
}

/// Cuts a port off a host. The colons inside an IPv6 address are none of a port's.
pub(super) fn split_port(host: &str) -> (&str, Option<&str>) {
    let name_bytes = if host.starts_with('[') {
        host.find(']').map_or(0, |at| at + 1)
    } else {
        0
    };
    match host[name_bytes..].find(':') {
        Some(at) => (&host[..name_bytes + at], Some(&host[name_bytes + at + 1..])),
        None => (host, None),
    }
}
