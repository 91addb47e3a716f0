//! A client that costs little itself: what it sends is prepared, what it gets is cut into messages and not parsed.

use std::io::{BufRead, BufReader, Write};

use serde_json::{Value, json};
use tests::{Frame, RawWebSocket, Server, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One logged-in connection.
pub struct Light {
    stream: TcpStream,
    transport: Transport,
    /// What was read and not looked at yet.
    rest: Vec<u8>,
}

impl Light {
    /// Logs in and joins. Blocks; to be called within a runtime.
    pub fn login(server: &Server, transport: Transport, name: &str, group: Option<&str>) -> Light {
        let mut requests = vec![json!({"type": "login", "userName": name})];
        requests.extend(group.map(|group| json!({"type": "join", "group": group})));
        let stream = match transport {
            Transport::WebSocket => {
                let mut socket = RawWebSocket::open(server.websocket());
                for request in requests {
                    socket.send(&Frame::text(request));
                    assert_eq!(socket.json()["type"], "system");
                }
                socket.stream().try_clone().unwrap()
            }
            Transport::Tcp => {
                let stream = std::net::TcpStream::connect(server.tcp()).unwrap();
                stream.set_nodelay(true).unwrap();
                let mut lines = BufReader::new(&stream).lines();
                let mut hear =
                    || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
                assert_eq!(hear()["type"], "open");
                for request in requests {
                    (&stream)
                        .write_all(format!("{request}\n").as_bytes())
                        .unwrap();
                    assert_eq!(hear()["type"], "system");
                }
                stream
            }
        };
        stream.set_nonblocking(true).unwrap();
        Light {
            stream: TcpStream::from_std(stream).unwrap(),
            transport,
            rest: Vec::new(),
        }
    }

    /// A request as it goes over the wire.
    pub fn prepared(&self, request: &Value) -> Vec<u8> {
        match self.transport {
            Transport::WebSocket => Frame::text(request).bytes(),
            Transport::Tcp => format!("{request}\n").into_bytes(),
        }
    }

    /// Sends what was prepared.
    pub async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Waits until something comes, and hands out each message that is complete.
    pub async fn hear(&mut self, mut message: impl FnMut(&[u8])) {
        let read = self.stream.read_buf(&mut self.rest).await.unwrap();
        assert!(read > 0, "a connection ended");
        let mut from = 0;
        while let Some((len, header)) = next(self.transport, &self.rest[from..]) {
            message(&self.rest[from + header..from + len]);
            from += len;
        }
        self.rest.drain(..from);
    }
}

/// The length of the first message on the wire, and of what stands before its text.
fn next(transport: Transport, bytes: &[u8]) -> Option<(usize, usize)> {
    match transport {
        Transport::Tcp => {
            let line = bytes.iter().position(|byte| *byte == b'\n')?;
            Some((line + 1, 0))
        }
        Transport::WebSocket => {
            let (len, header) = match *bytes.get(1)? {
                126 => (
                    u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?).into(),
                    4,
                ),
                127 => panic!("a message of more than 65,535 bytes"),
                short => (usize::from(short), 2),
            };
            (bytes.len() >= header + len).then_some((header + len, header))
        }
    }
}
