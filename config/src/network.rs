//! A set of addresses, as `server.proxies` names them: one address, or a network like `10.0.0.0/8`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An address, or all that begin with the same bits. IPv4 addresses inside of IPv6 (`::ffff:10.0.0.1`) are IPv4 addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network {
    /// Of which all bits but the first ones are zero.
    first: IpAddr,
    /// How many bits they have in common.
    bits: u8,
}

impl Network {
    /// Whether an address is one of these.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.first, address.to_canonical()) {
            (IpAddr::V4(first), IpAddr::V4(address)) => masked_v4(address, self.bits) == first,
            (IpAddr::V6(first), IpAddr::V6(address)) => masked_v6(address, self.bits) == first,
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, bits) = match text.split_once('/') {
            None => (text, None),
            Some((address, bits)) => (address, Some(bits)),
        };
        let wrong = || format!("{text:?} is neither an address nor a network like \"10.0.0.0/8\"");
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => width,
            Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => {
                bits.parse().map_err(|_| wrong())?
            }
            Some(_) => return Err(wrong()),
        };
        if bits > width {
            return Err(format!("{text:?}: there are only {width} bits"));
        }
        // An address that came over IPv6 as one of IPv4 is looked for among those.
        let (address, bits) = match address.to_canonical() {
            v4 @ IpAddr::V4(_) if width == 128 && bits >= 96 => (v4, bits - 96),
            v4 @ IpAddr::V4(_) if width == 32 => (v4, bits),
            _ => (address, bits),
        };
        let network = Self {
            first: match address {
                IpAddr::V4(v4) => masked_v4(v4, bits).into(),
                IpAddr::V6(v6) => masked_v6(v6, bits).into(),
            },
            bits,
        };
        if network.first != address {
            return Err(format!(
                "{text:?} names one address and a whole network; the network is \"{network}\""
            ));
        }
        Ok(network)
    }
}

fn masked_v4(address: Ipv4Addr, bits: u8) -> Ipv4Addr {
    let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
    Ipv4Addr::from_bits(address.to_bits() & mask)
}

fn masked_v6(address: Ipv6Addr, bits: u8) -> Ipv6Addr {
    let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
    Ipv6Addr::from_bits(address.to_bits() & mask)
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = if self.first.is_ipv4() { 32 } else { 128 };
        if self.bits == width {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}/{}", self.first, self.bits)
        }
    }
}

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(network: &str, address: &str) -> bool {
        let network: Network = network.parse().unwrap();
        network.contains(address.parse().unwrap())
    }

    #[test]
    fn what_is_in_it_and_what_is_beside_it() {
        for (network, inside, outside) in [
            ("127.0.0.1", "127.0.0.1", "127.0.0.2"),
            ("127.0.0.1", "::ffff:127.0.0.1", "::1"),
            ("127.0.0.1/32", "127.0.0.1", "127.0.0.0"),
            ("10.0.0.0/8", "10.255.255.255", "11.0.0.0"),
            ("10.1.2.192/26", "10.1.2.255", "10.1.2.191"),
            ("0.0.0.0/0", "255.255.255.255", "2001:db8::1"),
            ("::1", "::1", "::2"),
            ("fd00::/8", "fdff::1", "fe00::1"),
            ("2001:db8::/64", "2001:db8::ffff:0:0:1", "2001:db8:0:1::"),
            ("::/0", "ffff::1", "192.0.2.1"),
            ("::ffff:10.0.0.0/104", "10.1.1.1", "11.0.0.0"),
            ("::ffff:10.0.0.1", "10.0.0.1", "10.0.0.2"),
        ] {
            assert!(contains(network, inside), "{inside} in {network}");
            assert!(!contains(network, outside), "{outside} in {network}");
        }
    }

    #[test]
    fn its_text_says_the_same() {
        for text in ["127.0.0.1", "10.0.0.0/8", "0.0.0.0/0", "fd00::/8", "::1"] {
            let network: Network = text.parse().unwrap();
            assert_eq!(network.to_string(), text);
        }
        assert_eq!(
            "10.0.0.1/32".parse::<Network>().unwrap().to_string(),
            "10.0.0.1"
        );
    }

    #[test]
    fn what_is_none_is_refused_with_the_reason() {
        for text in [
            "",
            "localhost",
            "10.0.0",
            "10.0.0.0/",
            "10.0.0.0/x",
            "10.0.0.0/+8",
            "10.0.0.0/-1",
            "10.0.0.0/999",
            "10.0.0.0/8/8",
            "/8",
            "[::1]",
            "10.0.0.1:80",
            " 10.0.0.1",
        ] {
            let reason = text.parse::<Network>().unwrap_err();
            assert!(
                reason.contains("neither an address nor a network"),
                "{reason}"
            );
        }
        let reason = "10.0.0.0/33".parse::<Network>().unwrap_err();
        assert!(reason.contains("only 32 bits"), "{reason}");
        let reason = "10.1.2.3/8".parse::<Network>().unwrap_err();
        assert!(reason.contains("the network is \"10.0.0.0/8\""), "{reason}");
        let reason = "fd00::1/8".parse::<Network>().unwrap_err();
        assert!(reason.contains("the network is \"fd00::/8\""), "{reason}");
    }
}
