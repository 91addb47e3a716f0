//! Clients from several addresses: all of 127.0.0.0/8 is this machine.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, setsockopt, socket, sockopt,
};

/// Connects to an IPv4 address from one of this machine's.
pub fn connect_from(from: Ipv4Addr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let SocketAddr::V4(to) = to else {
        panic!("{to} is no IPv4 address");
    };
    let stream: OwnedFd = socket(
        AddressFamily::Inet,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    // The port is chosen when it is known where to, so that one address has as many as there are to each.
    setsockopt(&stream, sockopt::IpBindAddressNoPort, &true)?;
    let [a, b, c, d] = from.octets();
    bind(stream.as_raw_fd(), &SockaddrIn::new(a, b, c, d, 0))?;
    connect(stream.as_raw_fd(), &SockaddrIn::from(to))?;
    Ok(TcpStream::from(stream))
}
