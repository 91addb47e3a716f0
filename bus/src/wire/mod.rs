//! The connections of mesh and forwarder: TCP or TLS, an introduction in which both ends prove that they know the secret, then messages with a
//! length in front. Each end sends something four times as often as the other would lose patience.

mod address;
mod decoder;
mod door;
mod introduction;
mod message;
mod reader;
mod tls;
mod writer;

use ring::rand::{SecureRandom, SystemRandom};
use std::{io, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};

pub(crate) use address::Address;
pub(crate) use door::{Door, Friend};
pub(crate) use introduction::{Introducer, Peer, Role};
pub(crate) use message::Message;
pub(crate) use reader::Reader;
pub(crate) use tls::{Identity, Trust};
pub(crate) use writer::{Names, Writer};

/// Most time from the first byte of a connection to the end of the introduction.
pub(crate) const INTRODUCTION_TIME: Duration = Duration::from_secs(3);

/// How long a connection may be silent before it counts as broken: a third of the lease, at most 10 seconds.
#[must_use]
pub(crate) fn silence(lease: Duration) -> Duration {
    (lease / 3).min(Duration::from_secs(10))
}

/// Bytes that nobody can guess; `None` where the system has none.
pub(crate) fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).ok().map(|()| bytes)
}

/// A connection, encrypted or not.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// What ended a connection: a sentence's end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the other end closed the connection")]
    Closed,
    #[error("nothing came for {} ms", .0.as_millis())]
    Silent(Duration),
    #[error("the other end did not read for {} ms", .0.as_millis())]
    Unread(Duration),
    #[error("connecting or the introduction took longer than {} ms", INTRODUCTION_TIME.as_millis())]
    Slow,
    #[error("what came is no message of this protocol: {0}")]
    Malformed(&'static str),
    #[error("the other end is a stranger: {0}")]
    Stranger(&'static str),
    #[error("the other end refused: {0}")]
    Refused(String),
    #[error("{0}")]
    Broker(String),
    #[error("a newer connection of the same host took its place")]
    Replaced,
    #[error("the system has no random numbers")]
    NoRandom,
}

/// Connects and gets to know the other end.
pub(crate) async fn reach(
    address: &Address,
    trust: &Trust,
    introducer: &Introducer,
) -> Result<Friend, Broken> {
    let stream = timeout(INTRODUCTION_TIME, connect(address, trust))
        .await
        .map_err(|_| Broken::Slow)??;
    introducer.connected(stream).await
}

/// Connects; the TLS handshake included, the introduction not.
pub(crate) async fn connect(address: &Address, trust: &Trust) -> Result<Box<dyn Stream>, Broken> {
    let tcp = TcpStream::connect((address.host.as_str(), address.port)).await?;
    tcp.set_nodelay(true)?;
    if !address.tls {
        return Ok(Box::new(tcp));
    }
    Ok(Box::new(trust.connect(&address.host, tcp).await?))
}

#[cfg(test)]
mod tests;
