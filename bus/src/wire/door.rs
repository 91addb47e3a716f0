//! Where others connect.
//!
//! Whoever connects costs little until it has proved who it is: a short buffer, a few seconds, and one of a few places. When all places are taken,
//! the one who has been introducing himself longest gives way, since a friend needs milliseconds for it.

use std::{collections::VecDeque, io, net::SocketAddr, time::Duration};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    task::{AbortHandle, JoinSet},
    time::timeout,
};

use super::{
    Address, Broken, INTRODUCTION_TIME, Identity, Introducer, Peer, Reader, Stream, Writer,
};
use crate::notice::Notice;

/// Most connections that have not proved anything yet.
const STRANGERS_MAX: usize = 64;

/// A listener that lets in who proves to be a friend.
pub(crate) struct Door {
    listener: TcpListener,
    identity: Option<Identity>,
    introducer: Introducer,
    strangers: JoinSet<Result<Friend, Broken>>,
    /// The strangers, the one waiting longest first; finished ones among them.
    order: VecDeque<AbortHandle>,
    refused: Notice,
}

/// A connection whose other end has proved who it is.
pub(crate) type Friend = (Reader, Writer, Peer);

impl Door {
    /// Listens. `identity`: for TLS.
    pub(crate) async fn open(
        address: &Address,
        identity: Option<Identity>,
        introducer: Introducer,
    ) -> io::Result<Self> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in tokio::net::lookup_host((address.host.as_str(), address.port)).await? {
            match listen(address) {
                Ok(listener) => {
                    return Ok(Self {
                        listener,
                        identity,
                        introducer,
                        strangers: JoinSet::new(),
                        order: VecDeque::new(),
                        refused: Notice::default(),
                    });
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Where it listens: the port is never 0.
    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The next friend. Nothing is lost when the future is dropped.
    pub(crate) async fn next(&mut self) -> Friend {
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((tcp, _)) => self.introduce(tcp),
                    // Out of descriptors, most likely: it passes, and asking at once again would only burn the processor.
                    Err(error) => {
                        self.refused.tell(format_args!("a connection of another host cannot be accepted: {error}"));
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                },
                Some(done) = self.strangers.join_next() => match done {
                    Ok(Ok(friend)) => return friend,
                    Ok(Err(broken)) => self.refused.tell(format_args!("a connection is refused: {broken}")),
                    Err(_) => {}
                },
            }
        }
    }

    fn introduce(&mut self, tcp: TcpStream) {
        self.order.retain(|stranger| !stranger.is_finished());
        while self.order.len() >= STRANGERS_MAX {
            if let Some(oldest) = self.order.pop_front() {
                oldest.abort();
            }
        }
        let (identity, introducer) = (self.identity.clone(), self.introducer.clone());
        self.order.push_back(self.strangers.spawn(async move {
            tcp.set_nodelay(true)?;
            let stream: Box<dyn Stream> = match identity {
                None => Box::new(tcp),
                Some(identity) => Box::new(
                    timeout(INTRODUCTION_TIME, identity.accept(tcp))
                        .await
                        .map_err(|_| Broken::Slow)??,
                ),
            };
            introducer.accepted(stream).await
        }));
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    // A successor takes the port over while connections of its predecessor linger.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(256)
}
