//! Clients from several addresses: all of 127.0.0.0/8 is this machine.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};

use tokio::net::TcpSocket;
use tokio::runtime::Builder;

/// Connects to an IPv4 address from one of this machine's.
///
/// # Errors
/// What the system says.
pub fn connect_from(from: Ipv4Addr, to: SocketAddr) -> io::Result<TcpStream> {
    let runtime = Builder::new_current_thread().enable_io().build()?;
    let stream = runtime.block_on(async {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(IpAddr::V4(from), 0))?;
        socket.connect(to).await
    })?;
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    Ok(stream)
}
