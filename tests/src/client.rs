//! A client for ordinary traffic, the same on both transports: one JSON object at a time.

use std::fmt::Display;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::client::client;
use tokio_tungstenite::tungstenite::protocol::WebSocket;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::addresses::connect_from;
use crate::server::Server;
use crate::wait::PATIENCE;

/// How a client is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A text message per object.
    WebSocket,
    /// A line per object.
    Tcp,
}

/// Both transports, for tests of what holds on either.
pub const BOTH: [Transport; 2] = [Transport::WebSocket, Transport::Tcp];

/// One connection.
pub struct Client {
    wire: Wire,
    name: String,
}

enum Wire {
    WebSocket(Box<WebSocket<TcpStream>>),
    Tcp(BufReader<TcpStream>),
}

/// What comes next on a connection.
#[derive(Debug)]
enum Next {
    Text(String),
    Closed(Option<u16>),
}

/// How a connection ended.
#[derive(Debug)]
pub struct Ending {
    /// The close code: of the close frame, or of the last line.
    pub code: Option<u16>,
    /// The last message before the end.
    pub last: Option<Value>,
    /// Every message before the end that had not been read.
    pub unread: Vec<Value>,
}

impl Client {
    /// Connects; `open` is not read yet.
    pub fn connect(server: &Server, transport: Transport) -> Client {
        match transport {
            Transport::WebSocket => Client::connect_to(server.websocket(), transport),
            Transport::Tcp => Client::connect_to(server.tcp(), transport),
        }
    }

    /// Connects to an address.
    pub fn connect_to(address: SocketAddr, transport: Transport) -> Client {
        Client::try_connect_to(address, transport)
            .unwrap_or_else(|error| panic!("connecting to {address}: {error}"))
    }

    /// Connects and reads `open`; the server may refuse, by whatever it says first or by closing.
    pub fn try_open(server: &Server, transport: Transport) -> Option<Client> {
        let address = if transport == Transport::Tcp {
            server.tcp()
        } else {
            server.websocket()
        };
        let mut client = Client::try_connect_to(address, transport).ok()?;
        let Next::Text(text) = client.next() else {
            return None;
        };
        text.starts_with(r#"{"type":"open""#).then_some(client)
    }

    /// Connects from an address of this machine and reads `open`. An error is what the server said instead.
    pub fn try_open_from(
        server: &Server,
        transport: Transport,
        from: Ipv4Addr,
    ) -> Result<Client, String> {
        let address = match transport {
            Transport::Tcp => server.tcp(),
            Transport::WebSocket => server.websocket(),
        };
        let stream = connect_from(from, address).map_err(|error| error.to_string())?;
        let mut client = Client::over(stream, address, transport)?;
        match client.next() {
            Next::Text(text) if text.starts_with(r#"{"type":"open""#) => Ok(client),
            said => Err(format!("{said:?}")),
        }
    }

    fn try_connect_to(address: SocketAddr, transport: Transport) -> Result<Client, String> {
        let stream = TcpStream::connect(address).map_err(|error| error.to_string())?;
        Client::over(stream, address, transport)
    }

    fn over(
        stream: TcpStream,
        address: SocketAddr,
        transport: Transport,
    ) -> Result<Client, String> {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let wire = match transport {
            Transport::Tcp => Wire::Tcp(BufReader::new(stream)),
            Transport::WebSocket => {
                let (socket, _) = client(format!("ws://{address}/ws"), stream)
                    .map_err(|error| error.to_string())?;
                Wire::WebSocket(Box::new(socket))
            }
        };
        Ok(Client {
            wire,
            name: String::new(),
        })
    }

    /// Connects and reads `open`.
    pub fn open(server: &Server, transport: Transport) -> Client {
        let mut client = Client::connect(server, transport);
        client.expect("open");
        client
    }

    /// Connects and logs in as `name`.
    pub fn login(server: &Server, transport: Transport, name: &str) -> Client {
        Client::open(server, transport).logged_in(json!({"type": "login", "userName": name}))
    }

    /// Connects and logs in as `name` on a device.
    pub fn device(
        server: &Server,
        transport: Transport,
        name: &str,
        id: &str,
        model: &str,
    ) -> Client {
        Client::open(server, transport).logged_in(
            json!({"type": "login", "userName": name, "deviceId": id, "deviceModel": model}),
        )
    }

    /// Sends a login and reads the welcome.
    pub fn logged_in(mut self, login: Value) -> Client {
        self.name = login["userName"]
            .as_str()
            .or(login["name"].as_str())
            .unwrap_or_default()
            .to_owned();
        self.send(login);
        let welcome = self.expect("system");
        assert_eq!(welcome["event"], "login", "{welcome}");
        self
    }

    /// The name it logged in with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The connection itself.
    pub fn stream(&self) -> &TcpStream {
        match &self.wire {
            Wire::WebSocket(socket) => socket.get_ref(),
            Wire::Tcp(reader) => reader.get_ref(),
        }
    }

    /// Sends one message, as it is written.
    pub fn send(&mut self, message: impl Display) {
        let message = message.to_string();
        self.try_send(&message)
            .unwrap_or_else(|error| panic!("{} sends {message}: {error}", self.name));
    }

    /// Sends one message; the server may have closed the connection.
    pub fn try_send(&mut self, message: &str) -> std::io::Result<()> {
        match &mut self.wire {
            Wire::WebSocket(socket) => match socket.send(Message::text(message)) {
                Ok(()) => Ok(()),
                Err(Error::Io(error)) => Err(error),
                Err(error) => Err(std::io::Error::other(error)),
            },
            Wire::Tcp(reader) => reader
                .get_mut()
                .write_all(format!("{message}\n").as_bytes()),
        }
    }

    /// The next message as it was written.
    pub fn text(&mut self) -> String {
        match self.next() {
            Next::Text(text) => text,
            Next::Closed(code) => panic!(
                "{} was closed with {code:?} where a message was expected",
                self.name
            ),
        }
    }

    /// The next message.
    pub fn json(&mut self) -> Value {
        let text = self.text();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
    }

    /// The next message, which must be of this type.
    pub fn expect(&mut self, kind: &str) -> Value {
        let message = self.json();
        assert_eq!(message["type"], kind, "{} got {message}", self.name);
        message
    }

    /// The next message, which must be an error with this code.
    pub fn expect_error(&mut self, code: &str) -> Value {
        let message = self.expect("error");
        assert_eq!(message["code"], code, "{message}");
        assert!(
            message["content"]
                .as_str()
                .is_some_and(|sentence| !sentence.is_empty()),
            "a sentence for a person: {message}"
        );
        message
    }

    /// Proves that nothing was waiting: what is sent to a session comes in order, and the next to come is the answer to a ping.
    pub fn expect_nothing(&mut self) {
        self.send(json!({"type": "ping"}));
        self.expect("pong");
    }

    /// Whether the connection still answers a ping that was sent; what comes before the answer is passed over.
    pub fn survives(&mut self) -> bool {
        loop {
            match self.next() {
                Next::Text(text) if text.starts_with(r#"{"type":"pong""#) => return true,
                Next::Text(_) => {}
                Next::Closed(_) => return false,
            }
        }
    }

    /// Sends `content` to `to` with an id and returns the status of its acknowledgement.
    pub fn sendto(&mut self, to: &str, content: Value) -> String {
        self.send(json!({"type": "sendto", "to": to, "content": content, "id": "s"}));
        let ack = self.expect("ack");
        assert_eq!(ack["id"], "s", "{ack}");
        ack["status"].as_str().unwrap().to_owned()
    }

    /// Leaves with a logout and waits until the server has closed the connection.
    pub fn logout(mut self) {
        self.send(json!({"type": "logout"}));
        self.expect_ending(1000);
    }

    /// Joins a group and waits until it is in it.
    pub fn join(&mut self, group: &str) {
        self.send(json!({"type": "join", "group": group}));
        self.send(json!({"type": "ping"}));
        loop {
            let message = self.json();
            assert_ne!(message["type"], "error", "{message}");
            if message["type"] == "pong" {
                break;
            }
        }
    }

    /// All that still comes until the end, or until nothing comes for a moment, as it is on the wire.
    pub fn rest(self, moment: Duration) -> String {
        let mut stream = self.stream();
        stream.set_read_timeout(Some(moment)).unwrap();
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Reads to the end of the connection.
    pub fn ending(mut self) -> Ending {
        let mut unread: Vec<Value> = Vec::new();
        loop {
            match self.next() {
                Next::Text(text) => unread.push(serde_json::from_str(&text).unwrap()),
                Next::Closed(code) => {
                    let last = unread.last().cloned();
                    let said = last
                        .as_ref()
                        .and_then(|last| last["closeCode"].as_u64())
                        .map(|code| code as u16);
                    let code = if matches!(self.wire, Wire::Tcp(_)) {
                        said
                    } else {
                        code
                    };
                    return Ending { code, last, unread };
                }
            }
        }
    }

    /// Reads to the end of the connection, which must carry this close code; on TCP in a last line that is `kicked` or `error`.
    pub fn expect_ending(self, code: u16) -> Ending {
        let (name, tcp) = (self.name.clone(), matches!(self.wire, Wire::Tcp(_)));
        let ending = self.ending();
        assert_eq!(ending.code, Some(code), "{name}: {ending:?}");
        if tcp {
            let kind = ending.last.as_ref().map(|last| last["type"].clone());
            assert!(
                kind == Some("kicked".into()) || kind == Some("error".into()),
                "{ending:?}"
            );
        }
        ending
    }

    fn next(&mut self) -> Next {
        match &mut self.wire {
            Wire::Tcp(reader) => {
                let mut line = Vec::new();
                match reader.read_until(b'\n', &mut line) {
                    Ok(_) if line.last() == Some(&b'\n') => {
                        Next::Text(String::from_utf8(line[..line.len() - 1].to_vec()).unwrap())
                    }
                    Ok(_) if line.is_empty() => Next::Closed(None),
                    Ok(_) => panic!(
                        "{} got half a line: {:?}",
                        self.name,
                        String::from_utf8_lossy(&line)
                    ),
                    Err(error) if error.kind() == ErrorKind::ConnectionReset => Next::Closed(None),
                    Err(error) => panic!("nothing came for {}: {error}", self.name),
                }
            }
            Wire::WebSocket(socket) => {
                let mut code = None;
                loop {
                    match socket.read() {
                        Ok(Message::Text(text)) => return Next::Text(text.as_str().to_owned()),
                        Ok(Message::Close(frame)) => {
                            code = frame.map(|frame| u16::from(frame.code))
                        }
                        Ok(Message::Binary(bytes)) => {
                            panic!("{} got a binary message: {bytes:?}", self.name)
                        }
                        Ok(_) => {}
                        Err(Error::Io(error))
                            if matches!(
                                error.kind(),
                                ErrorKind::WouldBlock | ErrorKind::TimedOut
                            ) =>
                        {
                            panic!(
                                "nothing came for {} (close code so far: {code:?}): {error}",
                                self.name
                            )
                        }
                        Err(
                            Error::ConnectionClosed
                            | Error::AlreadyClosed
                            | Error::Io(_)
                            | Error::Protocol(_),
                        ) => return Next::Closed(code),
                        Err(error) => panic!("{}: {error}", self.name),
                    }
                }
            }
        }
    }
}
