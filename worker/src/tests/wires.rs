//! TCP connections whose two ends a test holds.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};

/// How many connections were made.
static MADE: AtomicU32 = AtomicU32::new(0);

/// A connection: the client's end, the server's, the client's address. Each has a loopback address of its
/// own, 127.1.0.1 and on: the tests make more of them than one address has ports while the kernel keeps what
/// is closed in TIME_WAIT.
pub fn tcp() -> (TcpStream, TcpStream, SocketAddr) {
    let made = MADE.fetch_add(1, Ordering::Relaxed);
    let [_, high, middle, low] = made.to_be_bytes();
    let address = Ipv4Addr::new(127, 1 | high & 0x7e, middle, low | 1);
    let listener = TcpListener::bind((address, 0)).unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, peer) = listener.accept().unwrap();
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    (client, server, peer)
}
