//! A WebSocket connection with every byte in the test's hand.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use crate::frames::{CLOSE, Frame, TEXT};
use crate::http::{self, Response};
use crate::wait::PATIENCE;

/// The key of every test's handshake, and the answer it must get (both from RFC 6455, 1.3).
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// See [`KEY`].
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// An upgraded connection.
pub struct RawWebSocket {
    stream: TcpStream,
    rest: Vec<u8>,
}

/// An upgrade request for `path` with more header lines, each ending in `\r\n`.
pub fn upgrade_request(address: SocketAddr, path: &str, more: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
    )
}

impl RawWebSocket {
    /// Upgrades at `path`.
    pub fn connect(address: SocketAddr, path: &str) -> RawWebSocket {
        let (socket, response) =
            RawWebSocket::request(address, &upgrade_request(address, path, ""));
        assert_eq!(response.status, 101, "{response:?}");
        assert_eq!(response.header("sec-websocket-accept"), Some(ACCEPT));
        socket
    }

    /// Sends a whole request and reads the head of the response.
    pub fn request(address: SocketAddr, request: &str) -> (RawWebSocket, Response) {
        let mut socket = RawWebSocket::silent(address);
        socket.send_bytes(request.as_bytes());
        let response = socket.response();
        (socket, response)
    }

    /// Connects and says nothing.
    pub fn silent(address: SocketAddr) -> RawWebSocket {
        RawWebSocket::over(TcpStream::connect(address).unwrap())
    }

    /// The same on a connection that is there already.
    pub fn over(stream: TcpStream) -> RawWebSocket {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        RawWebSocket {
            stream,
            rest: Vec::new(),
        }
    }

    /// Reads the head of a response.
    pub fn response(&mut self) -> Response {
        http::read_response(&mut self.stream, &mut self.rest, false).unwrap()
    }

    /// Upgrades at `/ws` and reads `open`.
    pub fn open(address: SocketAddr) -> RawWebSocket {
        let mut socket = RawWebSocket::connect(address, "/ws");
        assert_eq!(socket.json()["type"], "open");
        socket
    }

    /// Upgrades at `/ws` and logs in.
    pub fn login(address: SocketAddr, name: &str) -> RawWebSocket {
        let mut socket = RawWebSocket::open(address);
        socket.send(&Frame::text(
            serde_json::json!({"type": "login", "userName": name}),
        ));
        assert_eq!(socket.json()["event"], "login");
        socket
    }

    /// The connection itself.
    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Sends a frame.
    pub fn send(&mut self, frame: &Frame) {
        self.send_bytes(&frame.bytes());
    }

    /// Sends bytes. A peer that has closed already is not a failure here: what it said is read next.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        match self.stream.write_all(bytes) {
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
                ) => {}
            other => other.unwrap(),
        }
    }

    /// The next frame, or `None` when the connection is closed without one.
    pub fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some((frame, len)) = Frame::parse(&self.rest) {
                self.rest.drain(..len);
                assert_eq!(
                    (frame.mask, frame.reserved),
                    (None, 0),
                    "a server masks nothing and reserves nothing: {frame:?}"
                );
                return Some(frame);
            }
            let mut bytes = [0; 65536];
            match self.stream.read(&mut bytes) {
                Ok(0) => return None,
                Ok(count) => self.rest.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("no frame came: {error}"),
            }
        }
    }

    /// The next frame, which must be a whole text message.
    pub fn text(&mut self) -> String {
        let frame = self
            .frame()
            .expect("a text message, but the connection was closed");
        assert_eq!((frame.fin, frame.opcode), (true, TEXT), "{frame:?}");
        String::from_utf8(frame.payload).unwrap()
    }

    /// The next frame, which must be a JSON object in a text message.
    pub fn json(&mut self) -> Value {
        serde_json::from_str(&self.text()).unwrap()
    }

    /// Reads until the server's close frame, which must carry `code`, and then to the end of the connection.
    pub fn expect_close(mut self, code: u16) {
        let close = loop {
            let frame = self
                .frame()
                .unwrap_or_else(|| panic!("closed without a close frame; expected {code}"));
            if frame.opcode == CLOSE {
                break frame;
            }
        };
        let reason =
            String::from_utf8_lossy(close.payload.get(2..).unwrap_or_default()).into_owned();
        assert_eq!(close.close_code(), Some(code), "reason: {reason}");
        self.send(&Frame::close(code, ""));
        assert_eq!(self.frame(), None, "a frame behind the close frame");
    }
}
