//! Clients that come through a proxy: the PROXY protocol and `X-Forwarded-For`, from those who are believed and from others.
//!
//! Whom the server takes a client for shows in `limits.connections_per_ip`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tests::frames::{CLOSE, Frame};
use tests::raw::upgrade_request;
use tests::wait::{PATIENCE, eventually};
use tests::{RawWebSocket, Server, Settings};

/// Believed.
const PROXY: &str = "127.0.0.1";
/// Not believed.
const STRANGER: &str = "127.0.0.2";
const MOST: usize = 2;

fn server() -> Server {
    Server::start(
        Settings::new()
            .with("server.proxies", vec![PROXY])
            .with("limits.connections_per_ip", MOST),
    )
}

/// Connects from one of the addresses of this machine.
pub fn connect_from(source: &str, to: SocketAddr) -> TcpStream {
    let source: IpAddr = source.parse().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_io()
        .build()
        .unwrap();
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind((source, 0).into()).unwrap();
        socket.connect(to).await.unwrap().into_std().unwrap()
    });
    stream.set_nonblocking(false).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A TCP client and what a proxy says about it.
pub struct Lines(BufReader<TcpStream>);

impl Lines {
    /// Connects, reads `open`, and sends bytes as they are.
    pub fn open(stream: TcpStream) -> Lines {
        let mut lines = Lines(BufReader::new(stream));
        assert_eq!(lines.json()["type"], "open");
        lines
    }

    pub fn send(&mut self, bytes: &[u8]) {
        // A server that has closed already has said why.
        let _ = self.0.get_mut().write_all(bytes);
    }

    /// The next line; `None`: the end.
    pub fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.0.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(serde_json::from_str(&line).unwrap()),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(error) => panic!("no line came: {error}"),
        }
    }

    pub fn json(&mut self) -> Value {
        self.next().expect("the connection was closed")
    }

    /// Logs in. What comes instead of the welcome where that is refused.
    pub fn login(&mut self, name: &str) -> Result<(), Value> {
        self.send(format!("{}\n", json!({"type": "login", "userName": name})).as_bytes());
        let answer = self.json();
        if answer["event"] == "login" {
            Ok(())
        } else {
            Err(answer)
        }
    }

    /// Whether it is still there, which says nothing of what may come later.
    pub fn pings(&mut self) -> bool {
        self.send(b"{\"type\":\"ping\"}\n");
        self.next().is_some_and(|answer| answer["type"] == "pong")
    }

    /// It is told that there are too many from its address, and closed.
    pub fn expect_crowded(mut self) {
        // The order to go may come behind the first answers.
        let mut last = Value::Null;
        while let Some(line) = self.next() {
            last = line;
        }
        expect_capacity(&last);
        assert_eq!(last["closeCode"], 1013, "{last}");
    }
}

pub fn expect_capacity(message: &Value) {
    assert_eq!(message["type"], "error", "{message}");
    assert_eq!(message["code"], "capacity", "{message}");
    let sentence = message["message"].to_string() + &message["content"].to_string();
    assert!(sentence.contains("your address"), "{message}");
}

fn from_proxy(server: &Server) -> Lines {
    Lines::open(connect_from(PROXY, server.tcp()))
}

fn version_1(address: &str) -> Vec<u8> {
    format!("PROXY TCP4 {address} 10.0.0.1 4711 9502\r\n").into_bytes()
}

fn version_2(address: &str) -> Vec<u8> {
    let ip: std::net::Ipv4Addr = address.parse().unwrap();
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0f".to_vec();
    header.extend(ip.octets());
    header.extend([10, 0, 0, 1, 0x12, 0x67, 0, 80]);
    // An extension of no content.
    header.extend([4, 0, 0]);
    header
}

#[test]
fn the_clients_behind_a_proxy_are_counted_one_by_one() {
    let server = server();
    let mut kept = Vec::new();
    for (number, header) in [version_1("192.0.2.1"), version_2("192.0.2.1")]
        .into_iter()
        .enumerate()
    {
        let mut client = from_proxy(&server);
        client.send(&header);
        assert_eq!(client.login(&format!("one{number}")), Ok(()));
        // An answer may be written before the master knows whom it is for; the next one is not.
        assert!(client.pings());
        kept.push(client);
    }
    let mut third = from_proxy(&server);
    third.send(&version_1("192.0.2.1"));
    third.expect_crowded();
    // Others come through the same proxy, as many as like.
    for number in 0..5 {
        let mut client = from_proxy(&server);
        client.send(&version_2(&format!("192.0.2.{}", 10 + number)));
        assert_eq!(client.login(&format!("two{number}")), Ok(()));
        kept.push(client);
    }
    assert!(kept.iter_mut().all(Lines::pings));
    // A place that is free again can be had again.
    kept.remove(0);
    eventually("the place of one who has gone is free", || {
        let mut client = from_proxy(&server);
        client.send(&version_1("192.0.2.1"));
        client.login("again").is_ok().then_some(())?;
        client.pings().then_some(())
    });
}

#[test]
fn a_header_may_come_in_any_pieces() {
    let server = server();
    for (number, header) in [version_1("192.0.2.1"), version_2("192.0.2.2")]
        .into_iter()
        .enumerate()
    {
        let mut client = from_proxy(&server);
        for byte in header {
            client.send(&[byte]);
        }
        assert_eq!(client.login(&format!("user{number}")), Ok(()));
    }
    // No address of a client, and no header at all, are the proxy's own.
    for start in [
        &b"PROXY UNKNOWN\r\n"[..],
        b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
        b"",
    ] {
        for _ in 0..MOST + 1 {
            let mut client = from_proxy(&server);
            client.send(start);
            assert_eq!(client.login("proxy"), Ok(()));
        }
    }
}

#[test]
fn a_header_that_is_none_ends_the_connection() {
    let server = server();
    for garbage in [
        &b"PROXY TCP4 192.0.2.1\r\n"[..],
        b"PROXY TCP4 192.0.2.1 10.0.0.1 4711 99999\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\0",
    ] {
        let mut client = from_proxy(&server);
        client.send(garbage);
        assert_eq!(client.next(), None);
        let mut stream = connect_from(PROXY, server.websocket());
        stream.write_all(garbage).unwrap();
        let mut answer = Vec::new();
        // Its end may be a reset.
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.is_empty(), "{:?}", answer.escape_ascii());
    }
}

#[test]
fn nobody_else_is_believed() {
    let server = server();
    let mut clients: Vec<Lines> = (0..MOST)
        .map(|_| Lines::open(connect_from(STRANGER, server.tcp())))
        .collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(&version_1(&format!("192.0.2.{number}")));
        assert_eq!(client.json()["code"], "bad_json");
        assert_eq!(client.login("stranger"), Ok(()));
    }
    // Refused where it comes from, whatever it would say.
    let mut third = BufReader::new(connect_from(STRANGER, server.tcp()));
    let mut line = String::new();
    third.read_line(&mut line).unwrap();
    expect_capacity(&serde_json::from_str(&line).unwrap());
    let mut web = connect_from(STRANGER, server.websocket());
    let request = upgrade_request(server.websocket(), "/ws", "X-Forwarded-For: 192.0.2.9\r\n");
    web.write_all(request.as_bytes()).unwrap();
    let mut answer = [0; 12];
    web.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 503");
}

#[test]
fn an_upgrade_says_for_whom_it_is() {
    let server = server();
    let request = |forwarded: &str| {
        let field = format!("X-Forwarded-For: {forwarded}\r\n");
        let request = upgrade_request(server.websocket(), "/ws", &field);
        RawWebSocket::request(server.websocket(), &request)
    };
    let mut kept = Vec::new();
    for forwarded in ["192.0.2.1", "203.0.113.1, 192.0.2.1:4711, 127.0.0.1"] {
        let (mut socket, answer) = request(forwarded);
        assert_eq!(answer.status, 101);
        assert_eq!(socket.json()["type"], "open");
        // As above.
        socket.send(&Frame::text(json!({"type": "ping"})));
        assert_eq!(socket.json()["type"], "pong");
        kept.push(socket);
    }
    let (mut third, answer) = request("192.0.2.1");
    assert_eq!(answer.status, 101);
    assert_eq!(third.json()["type"], "open");
    expect_capacity(&third.json());
    let close = third.frame().expect("a close frame");
    assert_eq!((close.opcode, close.close_code()), (CLOSE, Some(1013)));
    // Of another address, of an address that nobody can read, and of none.
    for forwarded in ["192.0.2.2", "192.0.2.1, unknown", "", "[2001:db8::1]:443"] {
        let (mut socket, answer) = request(forwarded);
        assert_eq!(answer.status, 101);
        assert_eq!(socket.json()["type"], "open");
        socket.send(&Frame::text(json!({"type": "ping"})));
        assert_eq!(socket.json()["type"], "pong", "{forwarded}");
        kept.push(socket);
    }
    for socket in &mut kept {
        socket.send(&Frame::text(json!({"type": "ping"})));
        assert_eq!(socket.json()["type"], "pong");
    }
}

#[test]
fn a_header_before_a_request_is_understood_and_a_page_is_served_behind_it() {
    let server = server();
    let mut stream = connect_from(PROXY, server.websocket());
    let mut request = version_2("192.0.2.1");
    request.extend(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    for piece in request.chunks(7) {
        stream.write_all(piece).unwrap();
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer:.100}");
}

#[test]
fn who_the_clients_are_is_known_after_workers_died_and_were_replaced() {
    let server = server();
    let mut kept: Vec<Lines> = (0..MOST)
        .map(|number| {
            let mut client = from_proxy(&server);
            client.send(&version_1("192.0.2.1"));
            assert_eq!(client.login(&format!("user{number}")), Ok(()));
            client
        })
        .collect();
    for signal in [None, Some(Signal::SIGUSR1), Some(Signal::SIGUSR2)] {
        match signal {
            None => {
                for pid in server.workers() {
                    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
                }
            }
            Some(signal) => server.signal(signal),
        }
        assert!(kept.iter_mut().all(Lines::pings));
        // One that comes now is one too many, whoever serves it, and the others are not.
        let mut third = from_proxy(&server);
        third.send(&version_2("192.0.2.1"));
        third.expect_crowded();
        assert!(kept.iter_mut().all(Lines::pings));
    }
}
