//! The five things a worker does to a client's socket, none of which ever waits.
//!
//! `MSG_DONTWAIT` says so with each call: whether the descriptor itself is non-blocking is shared
//! with the master's duplicate and not ours to decide.

use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    MsgFlags, Shutdown, SockaddrStorage, getpeername, getsockname, recv, send, shutdown,
};
use shm_table::kill_point;

/// Reads what there is, up to the length of `into`; 0 is the end of the stream.
pub(crate) fn read(socket: &OwnedFd, into: &mut [u8]) -> io::Result<usize> {
    let bytes = recv(socket.as_raw_fd(), into, MsgFlags::MSG_DONTWAIT)?;
    kill_point::called();
    Ok(bytes)
}

/// Writes as many of the bytes as the kernel takes.
pub(crate) fn write(socket: &OwnedFd, bytes: &[u8]) -> io::Result<usize> {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    let bytes = send(socket.as_raw_fd(), bytes, flags)?;
    kill_point::called();
    Ok(bytes)
}

/// Ends our direction: the peer reads what is under way and then the end of the stream.
pub(crate) fn end_writing(socket: &OwnedFd) {
    // Fails only on a connection that is over already.
    let _ = shutdown(socket.as_raw_fd(), Shutdown::Write);
    kill_point::called();
}

/// Ends both directions. Closing our descriptor alone would not: the master has a duplicate.
pub(crate) fn end(socket: &OwnedFd) {
    // As above.
    let _ = shutdown(socket.as_raw_fd(), Shutdown::Both);
    kill_point::called();
}

/// Who is at the other end, as the kernel knows it; `None` for one that has gone, or is not on a network.
pub(crate) fn peer(socket: &OwnedFd) -> Option<IpAddr> {
    ip(getpeername(socket.as_raw_fd()).ok()?)
}

/// The address that the client has connected to, likewise.
pub(crate) fn local(socket: &OwnedFd) -> Option<IpAddr> {
    ip(getsockname(socket.as_raw_fd()).ok()?)
}

fn ip(address: SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| v4.ip().into());
    let v6 = || {
        address
            .as_sockaddr_in6()
            .map(|v6| Ipv6Addr::to_canonical(&v6.ip()))
    };
    v4.or_else(v6)
}
