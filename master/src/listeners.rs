//! The listening sockets. All of them are bound before anything is promised to anyone, and accepting never spins: not without
//! descriptors, not without workers.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::EpollFlags;
use nix::sys::socket::{
    self, AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, setsockopt, sockopt,
};
use shm_table::Transport;

use crate::poller::{Poller, Token};

/// How long nothing is accepted after the system had no room for another connection.
const RECOVERY_TIME: Duration = Duration::from_millis(100);

struct Listener {
    socket: TcpListener,
    transport: Transport,
    address: SocketAddr,
}

/// All listening sockets.
pub struct Listeners {
    listeners: Vec<Listener>,
    /// Given up for a moment when there is no descriptor left, to accept one connection and close it.
    spare: Option<File>,
    open: bool,
    again_at: Option<Instant>,
}

/// What an attempt to accept gave.
pub enum Accepted {
    /// A connection: non-blocking, closed on exec, without delay.
    Connection(TcpStream, SocketAddr),
    /// This one is gone already; there may be others.
    Lost,
    /// The system had no descriptor for this one, who was closed; there may be others.
    Shed(io::Error),
    /// Nobody is waiting; `epoll` says when somebody is.
    Nobody,
    /// The system has no room; [`Listeners::again_at`] says when to try again.
    NoRoom(io::Error),
}

impl Listeners {
    /// Binds every address. Nothing is accepted before [`Self::open`].
    ///
    /// # Errors
    /// A sentence with the address and the key it comes from.
    pub fn bind(server: &config::Server) -> Result<Self, String> {
        let mut listeners = Vec::new();
        for (key, addresses, transport) in [
            ("server.websocket", &server.websocket, Transport::WebSocket),
            ("server.tcp", &server.tcp, Transport::Tcp),
        ] {
            for &address in addresses {
                let socket = listen(address)
                    .map_err(|e| format!("{key}: cannot listen on {address}: {e}"))?;
                let address = socket
                    .local_addr()
                    .map_err(|e| format!("{key}: {address}: {e}"))?;
                listeners.push(Listener {
                    socket,
                    transport,
                    address,
                });
            }
        }
        Ok(Self {
            listeners,
            spare: spare(),
            open: false,
            again_at: None,
        })
    }

    /// Sockets that another master has bound, with their addresses.
    pub fn inherited(sockets: Vec<(Transport, OwnedFd, SocketAddr)>) -> Self {
        let listeners = sockets.into_iter();
        Self {
            listeners: listeners
                .map(|(transport, socket, address)| Listener {
                    socket: TcpListener::from(socket),
                    transport,
                    address,
                })
                .collect(),
            spare: spare(),
            open: false,
            again_at: None,
        }
    }

    /// The sockets, with the transport that is spoken there.
    pub fn sockets(&self) -> impl Iterator<Item = (Transport, BorrowedFd<'_>)> {
        self.listeners
            .iter()
            .map(|l| (l.transport, l.socket.as_fd()))
    }

    /// Registers every listener, silent until [`Self::set_open`].
    ///
    /// # Errors
    /// What the system says.
    pub fn register(&self, poller: &Poller) -> io::Result<()> {
        for (token, listener) in self.tokens() {
            poller.add(&listener.socket, token, EpollFlags::empty())?;
        }
        Ok(())
    }

    /// Lets newcomers in, or leaves them in the kernel's queue.
    pub fn set_open(&mut self, poller: &Poller, open: bool) {
        if self.open == open {
            return;
        }
        let flags = if open {
            EpollFlags::EPOLLIN
        } else {
            EpollFlags::empty()
        };
        let mut done = true;
        for (token, listener) in self.tokens() {
            if let Err(error) = poller.modify(&listener.socket, token, flags) {
                tracing::error!(%error, address = %listener.address, "a listener cannot be opened or closed; tried again");
                done = false;
            }
        }
        if done {
            self.open = open;
        }
    }

    /// When accepting may be tried again after the system had no room; until then the listeners must stay closed.
    pub fn again_at(&self) -> Option<Instant> {
        self.again_at
    }

    /// Forgets an [`Self::again_at`] that has passed.
    pub fn time(&mut self, now: Instant) {
        if self.again_at.take_if(|at| *at <= now).is_some() && self.spare.is_none() {
            self.spare = spare();
        }
    }

    /// The addresses as bound, with the transport that is spoken there.
    pub fn addresses(&self) -> impl Iterator<Item = (Transport, SocketAddr)> {
        self.listeners.iter().map(|l| (l.transport, l.address))
    }

    /// What a listener speaks.
    pub fn transport(&self, number: u32) -> Option<Transport> {
        Some(self.listeners.get(number as usize)?.transport)
    }

    /// Accepts one connection.
    pub fn accept(&mut self, number: u32) -> Accepted {
        let Some(listener) = self.listeners.get(number as usize) else {
            return Accepted::Nobody;
        };
        let error = match accept(&listener.socket) {
            Ok((connection, peer)) => return Accepted::Connection(connection, peer),
            Err(error) => error,
        };
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EAGAIN) => Accepted::Nobody,
            Some(Errno::EMFILE | Errno::ENFILE) => self.shed(number, error),
            Some(Errno::ENOBUFS | Errno::ENOMEM) => self.rest(error),
            // Network errors of the new connection itself, and interruptions: accept(2) passes them on.
            _ => Accepted::Lost,
        }
    }

    /// Without a descriptor nobody can be accepted, and nobody can be told. One at a time is accepted with the spare one and closed, so
    /// that they do not wait in vain and epoll does not report them for ever.
    fn shed(&mut self, number: u32, error: io::Error) -> Accepted {
        if self.spare.take().is_none() {
            return self.rest(error);
        }
        let shed = self
            .listeners
            .get(number as usize)
            .map(|listener| listener.socket.accept().map(drop));
        self.spare = spare();
        match shed {
            _ if self.spare.is_none() => self.rest(error),
            // The system looks for a descriptor before it looks whether anybody is there.
            Some(Err(e)) if e.kind() == io::ErrorKind::WouldBlock => Accepted::Nobody,
            Some(Err(e)) => self.rest(e),
            Some(Ok(())) => Accepted::Shed(error),
            None => Accepted::Nobody,
        }
    }

    fn rest(&mut self, error: io::Error) -> Accepted {
        self.again_at = Some(Instant::now() + RECOVERY_TIME);
        Accepted::NoRoom(error)
    }

    fn tokens(&self) -> impl Iterator<Item = (Token, &Listener)> {
        (0..).map(Token::Listener).zip(&self.listeners)
    }
}

fn accept(socket: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let (connection, peer) = socket.accept()?;
    connection.set_nonblocking(true)?;
    // Every write is whole messages: waiting for more would only delay them. A connection that is gone already refuses.
    let _ = connection.set_nodelay(true);
    Ok((connection, peer))
}

fn spare() -> Option<File> {
    File::open("/dev/null").ok()
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let family = if address.is_ipv6() {
        AddressFamily::Inet6
    } else {
        AddressFamily::Inet
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket: OwnedFd = socket::socket(family, SockType::Stream, flags, None)?;
    // An urgent byte out of line would be counted by the kernel and read by nobody, and a successor could not tell where the stream
    // stands. What is accepted inherits this.
    setsockopt(&socket, sockopt::OobInline, &true)?;
    // A restart must not wait for the connections of before to be forgotten.
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    if address.is_ipv6() {
        // An address means what it says: `[::]` beside `0.0.0.0` in one list works.
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    socket::bind(socket.as_fd().as_raw_fd(), &SockaddrStorage::from(address))?;
    // As long as the system allows (net.core.somaxconn): a crowd that comes back after a break comes at once.
    socket::listen(&socket, Backlog::MAXALLOWABLE)?;
    Ok(TcpListener::from(socket))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(addresses: &[&str]) -> config::Server {
        config::Server {
            websocket: addresses.iter().map(|a| a.parse().unwrap()).collect(),
            tcp: Vec::new(),
            ..config::Server::default()
        }
    }

    #[test]
    fn an_address_in_use_is_named_with_its_key() {
        let first = Listeners::bind(&server(&["127.0.0.1:0"])).unwrap();
        let (_, address) = first.addresses().next().unwrap();
        let reason = Listeners::bind(&server(&[&address.to_string()]))
            .map(drop)
            .unwrap_err();
        assert!(
            reason.starts_with(&format!("server.websocket: cannot listen on {address}: ")),
            "{reason}"
        );
    }

    #[test]
    fn both_families_share_a_port() {
        let first = Listeners::bind(&server(&["0.0.0.0:0"])).unwrap();
        let port = first.addresses().next().unwrap().1.port();
        Listeners::bind(&server(&[&format!("[::]:{port}")])).unwrap();
    }

    #[test]
    fn an_accepted_connection_does_not_block() {
        let mut listeners = Listeners::bind(&server(&["127.0.0.1:0"])).unwrap();
        assert!(matches!(listeners.accept(0), Accepted::Nobody));
        let client = TcpStream::connect(listeners.addresses().next().unwrap().1).unwrap();
        let Accepted::Connection(connection, peer) = listeners.accept(0) else {
            panic!("nobody came")
        };
        assert_eq!(peer, client.local_addr().unwrap());
        assert!(connection.nodelay().unwrap());
        assert!(socket::getsockopt(&connection, sockopt::OobInline).unwrap());
        assert_eq!(
            io::Read::read(&mut &connection, &mut [0])
                .unwrap_err()
                .kind(),
            io::ErrorKind::WouldBlock
        );
        assert!(matches!(listeners.accept(7), Accepted::Nobody));
    }
}
