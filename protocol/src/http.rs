//! The WebSocket port before it speaks WebSocket: the head of one HTTP/1 request becomes an upgrade
//! with its answer ready, a page to serve, or the refusal to send. One request per connection: every
//! answer but the upgrade closes.
//!
//! Syntax is httparse's and the handshake tungstenite's; which requests are allowed is decided here,
//! by RFC 9110, 9112 and 6455.

mod answer;
mod head;
mod host;
pub mod origin;
mod target;
mod upgrade;

pub use answer::{refusal, response};

/// The longest head, request line and blank line included, in bytes.
pub const HEAD_BYTES_MAX: usize = 8192;

/// The most header fields a head may have.
pub const FIELDS_MAX: usize = 100;

/// The subprotocol that is confirmed to a client that offers it, and never asked of one.
pub const SUBPROTOCOL: &str = "steadfast.v1";

/// What the configuration says about requests.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// `auth.origins`: who may upgrade, see [`origin::allowed`].
    pub origins: &'a [String],
    /// `diagnostics.echo`: whether there is a path `/echo`.
    pub echo: bool,
    /// `server.hosts`, if the request came to a loopback address: then it must name a host of this machine or one of these. `None`: it
    /// may name any.
    pub hosts: Option<&'a [String]>,
    /// Who connected is a proxy that is believed: if it says for whom (`X-Forwarded-For`), the request may name any host.
    pub from_proxy: bool,
}

/// A request's head, as far as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Head {
    /// Its end has not come: ask again with more behind the same bytes.
    Incomplete,
    /// It is decided.
    Complete {
        /// Bytes of the head; what follows an upgrade's are frames already. 0 where it was refused
        /// before its end was found.
        bytes: usize,
        /// What to do.
        what: What,
    },
}

/// What to do about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Send the response, and speak WebSocket from then on.
    Upgrade {
        /// Which protocol lies behind the path.
        endpoint: Endpoint,
        /// The 101, whole.
        response: Vec<u8>,
    },
    /// Answer with [`response`], and close.
    Get {
        /// What to serve.
        page: Page,
        /// The method was HEAD: the same without the body.
        head_only: bool,
    },
    /// Send the response, and close: the request is for a host that is none of ours, see [`Rules::hosts`].
    RefuseHost {
        /// Which.
        host: String,
        /// The answer, whole.
        response: Vec<u8>,
    },
    /// Send the response, and close.
    Refuse {
        /// For the counters and the log.
        status: u16,
        /// The answer, whole.
        response: Vec<u8>,
    },
}

/// What an upgraded connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `/` and `/ws`: the protocol.
    Chat,
    /// `/echo`: everything comes back.
    Echo,
}

/// What can be read without an upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// `/`: the chat page.
    Chat,
    /// `/healthz`
    Healthz,
    /// The same for one who is told no reasons: it comes through a proxy, or names a host that is none of ours.
    HealthzForAnybody,
}

/// Reads a request's head from all that came of it so far. Pure: what is decided depends on the
/// bytes alone, not on how they were cut, and once it is decided more bytes change nothing.
pub fn parse(input: &[u8], rules: &Rules<'_>) -> Head {
    head::parse(input, rules)
}

#[cfg(test)]
mod tests;
