//! An asynchronous connection for crowds, in two halves, with every outgoing byte in the test's hand.
//!
//! What goes out may be cut anywhere ([`Manner`]): in the middle of the handshake, of a frame's header, of a fragment, of a line. What comes in
//! is read strictly: tungstenite judges every frame, and a line must end before the connection does.

use std::io::{Error, ErrorKind, Result};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use futures_util::StreamExt;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Join, Sink, join, sink};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{self, Message};

use crate::client::Transport;
use crate::frames::{CONTINUATION, Frame, PING, TEXT};
use crate::random::Random;
use crate::raw::{ACCEPT, upgrade_request};
use crate::server::Server;

/// Where a server listens.
#[derive(Clone, Copy)]
pub struct Addresses {
    /// For WebSocket.
    pub websocket: SocketAddr,
    /// For lines.
    pub tcp: SocketAddr,
}

impl Addresses {
    /// Of this server.
    pub fn of(server: &Server) -> Addresses {
        Addresses {
            websocket: server.websocket(),
            tcp: server.tcp(),
        }
    }

    /// The one for this transport.
    pub fn on(&self, transport: Transport) -> SocketAddr {
        match transport {
            Transport::WebSocket => self.websocket,
            Transport::Tcp => self.tcp,
        }
    }
}

/// How the bytes of a client go out.
pub struct Manner {
    /// Decides where.
    pub random: Random,
    /// One write in so many is cut into pieces; 0: none.
    pub cut_one_in: usize,
    /// The longest pause between two pieces.
    pub pause_max: Duration,
    /// One WebSocket message in so many goes in fragments; 0: none.
    pub fragments_one_in: usize,
}

impl Manner {
    /// Everything in one piece.
    pub fn plain() -> Manner {
        Manner {
            random: Random::new(0),
            cut_one_in: 0,
            pause_max: Duration::ZERO,
            fragments_one_in: 0,
        }
    }

    /// Up to three places in a text of that length, in their order.
    fn places(&mut self, len: usize) -> Vec<usize> {
        let mut places: Vec<usize> = (0..1 + self.random.below(3))
            // Half of them where the headers are.
            .map(|_| match self.random.below(2) {
                0 => self.random.below(len.min(15) + 1),
                _ => self.random.below(len + 1),
            })
            .collect();
        places.sort_unstable();
        places
    }

    fn falls(&mut self, one_in: usize) -> bool {
        one_in > 0 && self.random.one_in(one_in)
    }
}

/// The half that speaks.
pub struct Mouth {
    half: OwnedWriteHalf,
    transport: Transport,
    /// How it speaks.
    pub manner: Manner,
}

/// The half that listens.
pub struct Ear(Hearing);

enum Hearing {
    // What tungstenite would answer goes nowhere: the other half is not its own.
    WebSocket(Box<WebSocketStream<Join<OwnedReadHalf, Sink>>>),
    Tcp(BufReader<OwnedReadHalf>),
}

/// What came.
#[derive(Debug)]
pub enum Heard {
    /// A message.
    Text(String),
    /// The answer to a WebSocket ping, with what the ping carried.
    Pong(Vec<u8>),
    /// A close frame; the connection itself is still there.
    Close(Option<u16>),
    /// The end of the connection, in order.
    End,
}

/// Connects and, on WebSocket, upgrades at `/ws`. `receive_buffer` bytes of the socket, `None`: as the system has it.
pub async fn connect(
    addresses: Addresses,
    transport: Transport,
    receive_buffer: Option<u32>,
    manner: Manner,
) -> Result<(Mouth, Ear)> {
    let address = addresses.on(transport);
    let socket = TcpSocket::new_v4()?;
    if let Some(bytes) = receive_buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    over(socket.connect(address).await?, address, transport, manner).await
}

/// The same from an address of this host's loopback network.
pub async fn come_from(
    source: Ipv4Addr,
    addresses: Addresses,
    transport: Transport,
) -> Result<(Mouth, Ear)> {
    let address = addresses.on(transport);
    let stream = connect_from(source, address, false).await?;
    over(stream, address, transport, Manner::plain()).await
}

/// A bare connection from an address of this host's loopback network. `hasty`: from a port that still waits for its end, where there is no
/// other.
pub async fn connect_from(source: Ipv4Addr, address: SocketAddr, hasty: bool) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(hasty)?;
    socket.bind((source, 0).into())?;
    socket.connect(address).await
}

async fn over(
    stream: TcpStream,
    address: SocketAddr,
    transport: Transport,
    manner: Manner,
) -> Result<(Mouth, Ear)> {
    stream.set_nodelay(true)?;
    let (read, write) = stream.into_split();
    let mut mouth = Mouth {
        half: write,
        transport,
        manner,
    };
    let hearing = match transport {
        Transport::Tcp => Hearing::Tcp(BufReader::new(read)),
        Transport::WebSocket => {
            mouth
                .write(upgrade_request(address, "/ws", "").as_bytes())
                .await?;
            Hearing::WebSocket(Box::new(upgraded(read).await?))
        }
    };
    Ok((mouth, Ear(hearing)))
}

async fn upgraded(mut read: OwnedReadHalf) -> Result<WebSocketStream<Join<OwnedReadHalf, Sink>>> {
    let mut head = Vec::new();
    let end = loop {
        if let Some(at) = head.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if read.read_buf(&mut head).await? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
    };
    let rest = head.split_off(end);
    let head = String::from_utf8_lossy(&head);
    if !head.starts_with("HTTP/1.1 101 ") || !head.contains(ACCEPT) {
        return Err(Error::other(format!("not upgraded: {head}")));
    }
    Ok(WebSocketStream::from_partially_read(join(read, sink()), rest, Role::Client, None).await)
}

impl Mouth {
    /// Says one thing.
    pub async fn say(&mut self, text: &str) -> Result<()> {
        let bytes = self.encoded(text);
        self.write(&bytes).await
    }

    /// Says several things at once.
    pub async fn say_all(&mut self, texts: &[String]) -> Result<()> {
        let bytes: Vec<u8> = texts.iter().flat_map(|text| self.encoded(text)).collect();
        self.write(&bytes).await
    }

    /// A frame of the test's own making; on WebSocket only.
    pub async fn frame(&mut self, frame: &Frame) -> Result<()> {
        self.write(&frame.bytes()).await
    }

    /// A WebSocket ping.
    pub async fn ping(&mut self, payload: &[u8]) -> Result<()> {
        self.frame(&Frame::new(PING, payload)).await
    }

    /// These bytes, in pieces or not.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let mut from = 0;
        let cut = self.manner.cut_one_in;
        if self.manner.falls(cut) {
            for place in self.manner.places(bytes.len()) {
                self.half.write_all(&bytes[from..place]).await?;
                from = place;
                let longest = self.manner.pause_max.as_micros() as usize;
                let pause = self.manner.random.below(longest + 1);
                tokio::time::sleep(Duration::from_micros(pause as u64)).await;
            }
        }
        self.half.write_all(&bytes[from..]).await
    }

    fn encoded(&mut self, text: &str) -> Vec<u8> {
        if self.transport == Transport::Tcp {
            return [text.as_bytes(), b"\n"].concat();
        }
        let fragments = self.manner.fragments_one_in;
        if !self.manner.falls(fragments) {
            return self.masked(Frame::new(TEXT, text));
        }
        let (mut from, mut opcode, mut bytes) = (0, TEXT, Vec::new());
        for place in self.manner.places(text.len()) {
            let frame = Frame::new(opcode, &text.as_bytes()[from..place]).more();
            bytes.extend(self.masked(frame));
            (from, opcode) = (place, CONTINUATION);
        }
        bytes.extend(self.masked(Frame::new(opcode, &text.as_bytes()[from..])));
        bytes
    }

    fn masked(&mut self, mut frame: Frame) -> Vec<u8> {
        let mask = self.manner.random.bits().to_le_bytes();
        frame.mask = Some([mask[0], mask[1], mask[2], mask[3]]);
        frame.bytes()
    }
}

impl Ear {
    /// The next thing that comes; an error is a connection that broke or spoke nonsense.
    pub async fn hear(&mut self) -> Result<Heard> {
        match &mut self.0 {
            Hearing::Tcp(stream) => {
                let mut line = String::new();
                stream.read_line(&mut line).await?;
                match line.pop() {
                    Some('\n') => Ok(Heard::Text(line)),
                    None => Ok(Heard::End),
                    Some(_) => Err(Error::other(format!("half a line: {line:?}"))),
                }
            }
            Hearing::WebSocket(socket) => match socket.next().await {
                Some(Ok(Message::Text(text))) => Ok(Heard::Text(text.as_str().to_owned())),
                Some(Ok(Message::Pong(payload))) => Ok(Heard::Pong(payload.to_vec())),
                Some(Ok(Message::Close(frame))) => {
                    Ok(Heard::Close(frame.map(|frame| u16::from(frame.code))))
                }
                Some(Ok(other)) => Err(Error::other(format!("unasked for: {other:?}"))),
                None | Some(Err(tungstenite::Error::ConnectionClosed)) => Ok(Heard::End),
                Some(Err(tungstenite::Error::Io(error))) => Err(error),
                Some(Err(error)) => Err(Error::other(error)),
            },
        }
    }
}
