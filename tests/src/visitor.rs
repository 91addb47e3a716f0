//! A client for crowds: asynchronous, random in its manners, the same on both transports.

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::random::Random;
use crate::wire::Addresses;

/// One connection.
pub enum Visitor {
    /// A text message per object.
    WebSocket(Box<WebSocketStream<TcpStream>>),
    /// A line per object.
    Tcp(BufReader<TcpStream>),
}

impl Visitor {
    /// Connects on one transport or the other; `None` where the server gives up before the connection stands.
    pub async fn come(server: Addresses, random: &mut Random) -> Option<Visitor> {
        if random.one_in(2) {
            let stream = TcpStream::connect(server.tcp).await.ok()?;
            return Some(Visitor::Tcp(BufReader::new(stream)));
        }
        let stream = TcpStream::connect(server.websocket).await.ok()?;
        let (socket, _) = client_async(format!("ws://{}/ws", server.websocket), stream)
            .await
            .ok()?;
        Some(Visitor::WebSocket(Box::new(socket)))
    }

    /// Says one thing; on WebSocket sometimes in fragments. False: the connection is gone.
    pub async fn say(&mut self, message: &Value, random: &mut Random) -> bool {
        let text = message.to_string();
        match self {
            Visitor::Tcp(stream) => stream
                .write_all(format!("{text}\n").as_bytes())
                .await
                .is_ok(),
            Visitor::WebSocket(socket) if random.one_in(5) => {
                let (one, two) = text.split_at(text.len() / 2);
                let first = Frame::message(one.to_owned(), OpCode::Data(Data::Text), false);
                let second = Frame::message(two.to_owned(), OpCode::Data(Data::Continue), true);
                socket.feed(Message::Frame(first)).await.is_ok()
                    && socket.send(Message::Frame(second)).await.is_ok()
            }
            Visitor::WebSocket(socket) => socket.send(Message::text(text)).await.is_ok(),
        }
    }

    /// The next thing the server says; `None` when it is gone.
    pub async fn hear(&mut self) -> Option<Value> {
        let text = match self {
            Visitor::Tcp(stream) => {
                let mut line = String::new();
                if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                    return None;
                }
                line
            }
            Visitor::WebSocket(socket) => loop {
                match socket.next().await? {
                    Ok(Message::Text(text)) => break text.to_string(),
                    Ok(_) => {}
                    Err(
                        Error::Protocol(_)
                        | Error::Io(_)
                        | Error::ConnectionClosed
                        | Error::AlreadyClosed,
                    ) => return None,
                    Err(error) => panic!("{error}"),
                }
            },
        };
        Some(serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text:?}")))
    }

    /// Goes, in one of the ways clients go.
    pub async fn go(mut self, random: &mut Random) {
        match random.below(5) {
            // Politely.
            0 => {
                if self.say(&json!({"type": "logout"}), random).await {
                    while self.hear().await.is_some() {}
                }
            }
            // Without a word.
            1 => {}
            // In the middle of one.
            2 => match &mut self {
                Visitor::Tcp(stream) => drop(
                    stream
                        .write_all(br#"{"type":"sendto","to":"u1","content":"half"#)
                        .await,
                ),
                Visitor::WebSocket(socket) => {
                    drop(socket.get_mut().write_all(&[0x81, 0xFE, 0x01]).await)
                }
            },
            // With everything unread, which resets the connection.
            3 => {
                for _ in 0..20 {
                    self.say(&json!({"type": "who", "users": ["u1", "u2", "u3"]}), random)
                        .await;
                }
            }
            // With a mistake.
            _ => {
                match &mut self {
                    Visitor::Tcp(stream) => drop(stream.write_all(b"\xFF\n").await),
                    Visitor::WebSocket(socket) => {
                        drop(socket.get_mut().write_all(&[0x8F, 0x80, 0, 0, 0, 0]).await)
                    }
                }
                match &mut self {
                    Visitor::Tcp(stream) => drop(stream.read_to_end(&mut Vec::new()).await),
                    Visitor::WebSocket(socket) => {
                        drop(socket.get_mut().read_to_end(&mut Vec::new()).await)
                    }
                }
            }
        }
    }
}
