//! `tcp://host:port` and `tls://host:port`.

use std::fmt;

/// Where to listen or to connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) tls: bool,
    /// A name or an IP address, without the brackets of IPv6.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Address {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!("{text:?} is not an address like \"tcp://host:port\" or \"tls://host:port\"")
        };
        let (tls, rest) = if let Some(rest) = text.strip_prefix("tcp://") {
            (false, rest)
        } else {
            (true, text.strip_prefix("tls://").ok_or_else(wrong)?)
        };
        let (host, port) = rest.rsplit_once(':').ok_or_else(wrong)?;
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let host = match bare {
            Some(inner) if inner.parse::<std::net::Ipv6Addr>().is_ok() => inner,
            None if !host.is_empty()
                && host.len() <= 253
                && !host.contains([':', '/', '@', '[', ']', ' ']) =>
            {
                host
            }
            _ => return Err(wrong()),
        };
        Ok(Self {
            tls,
            host: host.into(),
            port: port.parse().map_err(|_| wrong())?,
        })
    }

    /// Whether it means every address of the machine, which says nothing to another machine.
    pub(crate) fn is_every(&self) -> bool {
        self.host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_unspecified())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "tls" } else { "tcp" };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written() {
        for text in [
            "tcp://127.0.0.1:0",
            "tls://a.example:9510",
            "tcp://[::1]:65535",
        ] {
            assert_eq!(Address::parse(text).unwrap().to_string(), text);
        }
        for text in [
            "",
            "a:1",
            "tcp://",
            "tcp://a",
            "tcp://:1",
            "tcp://a:",
            "tcp://a:65536",
            "tcp://::1:5",
            "udp://a:1",
            "tcp://a:1/x",
            "tcp://[a]:1",
        ] {
            assert!(Address::parse(text).is_err(), "{text}");
        }
    }
}
