//! What a proxy in front says about whose connection it is: the header of the PROXY protocol (versions 1 and 2, haproxy's
//! `proxy-protocol.txt`) before everything else, or `X-Forwarded-For` in the request.
//!
//! Whether a proxy is believed is the caller's to decide; nothing here knows who sent the bytes.

mod forwarded;

pub use forwarded::client;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest header that is read. The longest of version 1 has 107 bytes; one of version 2 may carry extensions, of which no sender
/// needs nearly as much.
pub const HEADER_BYTES_MAX: usize = 4096;

/// The longest header of version 1, its line end included.
const V1_BYTES_MAX: usize = 107;
const V1_START: &[u8] = b"PROXY ";

const V2_START: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2 up to the length of what follows.
const V2_FIXED: usize = 16;

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// They may be a header, or part of one: ask again with more behind the same bytes.
    Incomplete,
    /// They are not a header, so all of them are the client's own.
    None,
    /// They begin with a header.
    Complete {
        /// Its bytes; behind them come the client's own.
        bytes: usize,
        /// The client. `None`: the connection is the proxy's own (a health check), or the client has no address that could be told.
        client: Option<SocketAddr>,
    },
    /// They begin like a header and are none. The sentence is for the log.
    Malformed(&'static str),
}

/// Looks at all that came of a connection so far. Pure: what is decided depends on the bytes alone, not on how they were cut, and once
/// it is decided more bytes change nothing.
pub fn header(input: &[u8]) -> Header {
    if begins_like(input, V1_START) {
        v1(input)
    } else if begins_like(input, V2_START) {
        v2(input)
    } else {
        Header::None
    }
}

/// Whether input, as far as it came, is the start or what follows it.
fn begins_like(input: &[u8], start: &[u8]) -> bool {
    input.iter().zip(start).all(|(a, b)| a == b)
}

fn v1(input: &[u8]) -> Header {
    // Never a byte past the limit, lest the verdict depend on how many came at once.
    let input = input.get(..V1_BYTES_MAX).unwrap_or(input);
    let Some(end) = input.windows(2).position(|two| two == b"\r\n") else {
        return if input.len() < V1_BYTES_MAX {
            Header::Incomplete
        } else {
            Header::Malformed("a PROXY line has no end")
        };
    };
    let line = input.get(V1_START.len()..end);
    let Some(line) = line.and_then(|line| std::str::from_utf8(line).ok()) else {
        return Header::Malformed("a PROXY line is not text");
    };
    let client = match v1_client(line) {
        Some(client) => client,
        None => return Header::Malformed("a PROXY line does not name two addresses and two ports"),
    };
    Header::Complete {
        bytes: end + 2,
        client,
    }
}

/// The line behind `PROXY `; `None`: it is not one.
fn v1_client(line: &str) -> Option<Option<SocketAddr>> {
    let mut words = line.split(' ');
    let family = words.next()?;
    if family == "UNKNOWN" {
        // What else it says is to be ignored.
        return Some(None);
    }
    let (source, destination) = (words.next()?, words.next()?);
    let (source_port, destination_port) = (words.next()?, words.next()?);
    if words.next().is_some() {
        return None;
    }
    let address = |text: &str| -> Option<IpAddr> {
        match family {
            "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    address(destination)?;
    port(destination_port)?;
    Some(Some(SocketAddr::new(address(source)?, port(source_port)?)))
}

/// A decimal number without a sign or a zero in front.
fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    (plain && (text == "0" || !text.starts_with('0')))
        .then(|| text.parse().ok())
        .flatten()
}

fn v2(input: &[u8]) -> Header {
    let Some(&version_command) = input.get(12) else {
        return Header::Incomplete;
    };
    if version_command >> 4 != 2 {
        return Header::Malformed("a PROXY header is of another version");
    }
    let local = match version_command & 0xf {
        0 => true,
        1 => false,
        _ => return Header::Malformed("a PROXY header has another command than LOCAL and PROXY"),
    };
    let Some((&family, length)) = input
        .get(13)
        .and_then(|family| Some((family, input.get(14..V2_FIXED)?)))
    else {
        return Header::Incomplete;
    };
    let length = length
        .iter()
        .fold(0, |sum, &byte| sum << 8 | usize::from(byte));
    let bytes = V2_FIXED + length;
    if bytes > HEADER_BYTES_MAX {
        return Header::Malformed("a PROXY header is too long");
    }
    let Some(body) = input.get(V2_FIXED..bytes) else {
        return Header::Incomplete;
    };
    if local {
        // Whatever else it says is to be skipped.
        return Header::Complete {
            bytes,
            client: None,
        };
    }
    let client = match family {
        0x11 => v2_ipv4(body).map(Some),
        0x21 => v2_ipv6(body).map(Some),
        // Unspecified, datagrams, and sockets of one machine: nothing that could be a client's address here.
        0x00..=0x02 | 0x10 | 0x12 | 0x20 | 0x22 | 0x30..=0x32 => Some(None),
        _ => return Header::Malformed("a PROXY header is of an unknown family"),
    };
    match client {
        Some(client) => Header::Complete { bytes, client },
        None => Header::Malformed("a PROXY header is too short for its addresses"),
    }
}

fn v2_ipv4(body: &[u8]) -> Option<SocketAddr> {
    let (addresses, _) = body.split_first_chunk::<12>()?;
    let [a, b, c, d, _, _, _, _, high, low, ..] = *addresses;
    let port = u16::from_be_bytes([high, low]);
    Some(SocketAddr::from(([a, b, c, d], port)))
}

fn v2_ipv6(body: &[u8]) -> Option<SocketAddr> {
    let (source, rest) = body.split_first_chunk::<16>()?;
    let (_destination, rest) = rest.split_first_chunk::<16>()?;
    let (ports, _) = rest.split_first_chunk::<4>()?;
    let [high, low, ..] = *ports;
    Some(SocketAddr::from((*source, u16::from_be_bytes([high, low]))))
}

#[cfg(test)]
mod tests;
