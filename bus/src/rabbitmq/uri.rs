//! `amqp://user:password@host:port/vhost`.

use crate::wire::Address;

/// Where RabbitMQ is and who this host is there.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Uri {
    pub(super) address: Address,
    pub(super) user: String,
    pub(super) password: String,
    pub(super) vhost: String,
}

impl Uri {
    /// Err: a sentence, without the password.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            "cluster.rabbitmq is not an address like \"amqp://user:password@host:5672/vhost\" or \"amqps://...\"".to_owned()
        };
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        let (wire, port) = match scheme {
            "amqp" => ("tcp", 5672),
            "amqps" => ("tls", 5671),
            _ => return Err(wrong()),
        };
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        let (authority, vhost) = rest.split_once('/').unwrap_or((rest, ""));
        let (who, host) = authority
            .rsplit_once('@')
            .unwrap_or(("guest:guest", authority));
        let (user, password) = who.split_once(':').unwrap_or((who, ""));
        let has_port = host
            .rsplit_once(':')
            .is_some_and(|(before, _)| !before.contains(':') || before.ends_with(']'));
        let host = if has_port {
            host.to_owned()
        } else {
            format!("{host}:{port}")
        };
        Ok(Self {
            address: Address::parse(&format!("{wire}://{host}")).map_err(|_| wrong())?,
            user: decode(user).ok_or_else(wrong)?,
            password: decode(password).ok_or_else(wrong)?,
            vhost: match decode(vhost).ok_or_else(wrong)? {
                vhost if vhost.is_empty() => "/".into(),
                vhost if vhost.len() > 255 => return Err(wrong()),
                vhost => vhost,
            },
        })
    }
}

/// `%2f` means `/`.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        let digits = std::str::from_utf8(digits)
            .ok()
            .filter(|digits| !digits.starts_with('+'))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_an_address() {
        let read = |text: &str| {
            let uri = Uri::parse(text).unwrap();
            (uri.address.to_string(), uri.user, uri.password, uri.vhost)
        };
        let of = |a: &str, b: &str, c: &str, d: &str| {
            (a.to_owned(), b.to_owned(), c.to_owned(), d.to_owned())
        };
        assert_eq!(
            read("amqp://a.example"),
            of("tcp://a.example:5672", "guest", "guest", "/")
        );
        assert_eq!(
            read("amqps://u:p%40:x@[::1]/"),
            of("tls://[::1]:5671", "u", "p@:x", "/")
        );
        assert_eq!(
            read("amqp://u@[::1]:7/a%2fb?heartbeat=5"),
            of("tcp://[::1]:7", "u", "", "a/b")
        );
        assert_eq!(
            read("amqp://h:1/%2f"),
            of("tcp://h:1", "guest", "guest", "/")
        );
        for text in [
            "",
            "h",
            "http://h",
            "amqp://",
            "amqp://h:x",
            "amqp://h/%2",
            "amqp://h/%+1",
            "amqp://u:%ff@h",
        ] {
            assert!(Uri::parse(text).is_err(), "{text}");
        }
    }
}
