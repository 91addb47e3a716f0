//! How a yardstick is told where to listen, and made ready for many connections.

use std::net::SocketAddr;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// The address of `--listen ADDRESS`, the only argument; as many descriptors as there may be are allowed from here on.
///
/// # Panics
/// With how it is to be called, if it was called otherwise.
#[must_use]
pub fn listen_at(name: &str) -> SocketAddr {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let address = match &arguments[..] {
        [flag, address] if flag == "--listen" => address.parse().ok(),
        _ => None,
    };
    let Some(address) = address else {
        panic!("usage: {name} --listen ADDRESS:PORT");
    };
    // Where it stays as it is, fewer connections fit, and the load says so.
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
    address
}
