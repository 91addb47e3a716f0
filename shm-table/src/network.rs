//! Which addresses are one client's.

use std::net::IpAddr;

/// A number for the IPv4 address, or for the IPv6 network of 64 bits that a single host usually has to itself: whom shares and limits count
/// as one. An IPv4 address's has `0xffff` above its lower 32 bits, which is the prefix of no unicast network of IPv6.
pub fn network(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(v4) => 0xffff << 32 | u64::from(v4.to_bits()),
        IpAddr::V6(v6) => (v6.to_bits() >> 64) as u64,
    }
}
