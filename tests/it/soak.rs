//! Thousands come, log in, talk and go at random; afterwards every row, block, node, group, membership and descriptor is back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tests::random::Random;
use tests::wait::{PATIENCE, eventually};
use tests::{Client, Server, Settings, Transport, processes, status};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

/// Connections in all, and at one time.
const VISITS: usize = 6_000;
const AT_ONCE: usize = 1_200;
const USERS: usize = 700;
const GROUPS: usize = 40;

/// What the visitors did, together.
#[derive(Default)]
struct Tally {
    heard: usize,
    acknowledged: usize,
    refused: usize,
}

enum Visitor {
    WebSocket(Box<WebSocketStream<TcpStream>>),
    Tcp(BufReader<TcpStream>),
}

impl Visitor {
    async fn come(server: &Addresses, random: &mut Random) -> Visitor {
        if random.one_in(2) {
            let stream = TcpStream::connect(server.tcp).await.unwrap();
            return Visitor::Tcp(BufReader::new(stream));
        }
        let stream = TcpStream::connect(server.websocket).await.unwrap();
        let (socket, _) = client_async(format!("ws://{}/ws", server.websocket), stream)
            .await
            .unwrap();
        Visitor::WebSocket(Box::new(socket))
    }

    /// Says one thing; on WebSocket sometimes in fragments. False: the connection is gone.
    async fn say(&mut self, message: &Value, random: &mut Random) -> bool {
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
    async fn hear(&mut self) -> Option<Value> {
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

    /// Hears everything up to the answer to a ping; false: the connection is gone.
    async fn catch_up(&mut self, random: &mut Random, tally: &mut Tally) -> bool {
        if !self.say(&json!({"type": "ping"}), random).await {
            return false;
        }
        while let Some(message) = self.hear().await {
            match message["type"].as_str() {
                Some("pong") => return true,
                Some("message") => tally.heard += 1,
                Some("ack") => tally.acknowledged += 1,
                Some("error") => {
                    tally.refused += 1;
                    let code = message["code"].as_str().unwrap();
                    assert!(
                        ["not_a_member", "unknown_group", "overloaded"].contains(&code),
                        "{message}"
                    );
                }
                Some("system" | "presence") => {}
                _ => panic!("{message}"),
            }
        }
        false
    }

    /// Goes, in one of the ways clients go.
    async fn go(mut self, random: &mut Random) {
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

#[derive(Clone, Copy)]
struct Addresses {
    websocket: std::net::SocketAddr,
    tcp: std::net::SocketAddr,
}

/// One visit from beginning to end.
async fn visit(server: Addresses, mut random: Random) -> Tally {
    let mut tally = Tally::default();
    let mut visitor = Visitor::come(&server, &mut random).await;
    if random.one_in(10) {
        visitor.go(&mut random).await;
        return tally;
    }
    assert_eq!(visitor.hear().await.expect("open")["type"], "open");
    let name = format!("u{}", random.below(USERS));
    let device = format!("d{}", random.below(3));
    visitor
        .say(
            &json!({"type": "login", "userName": name, "deviceId": device}),
            &mut random,
        )
        .await;
    assert_eq!(visitor.hear().await.expect("a welcome")["event"], "login");
    for _ in 0..random.below(12) {
        let group = format!("g{}", random.below(GROUPS));
        let size = [1, 30, 500, 6_000][random.below(4)];
        let content = "x".repeat(random.below(size));
        let request = match random.below(8) {
            0 | 1 => json!({"type": "join", "group": group}),
            2 => json!({"type": "leave", "group": group}),
            3 | 4 => json!({"type": "sendgroup", "to": group, "content": content, "id": 1}),
            5 => json!({"type": "who", "group": group}),
            _ => {
                json!({"type": "sendto", "to": format!("u{}", random.below(USERS)), "content": content, "id": 2})
            }
        };
        if !visitor.say(&request, &mut random).await {
            panic!("{name} was thrown out");
        }
        if random.one_in(3) {
            assert!(
                visitor.catch_up(&mut random, &mut tally).await,
                "{name} was thrown out"
            );
        }
    }
    visitor.go(&mut random).await;
    tally
}

#[test]
fn thousands_come_and_go_and_leave_nothing() {
    let settings = Settings::new()
        .with("table.sessions", 2_000)
        .with("table.arena_mib", 32)
        .with("table.memberships", 20_000)
        .with("limits.login_timeout_ms", 60_000)
        .with("limits.handshake_timeout_ms", 60_000)
        .with("limits.outbox_bytes", 8 << 20);
    let server = Server::start(settings);
    let empty = settled(&server);
    let descriptors = holders(&server);
    let mut random = Random::of_the_day();
    let start = Instant::now();

    let addresses = Addresses {
        websocket: server.websocket(),
        tcp: server.tcp(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let tally = runtime.block_on(async {
        let gate = Arc::new(Semaphore::new(AT_ONCE));
        let mut visits = Vec::new();
        for _ in 0..VISITS {
            let permit = gate.clone().acquire_owned().await.unwrap();
            let random = Random::new(random.bits());
            visits.push(tokio::spawn(async move {
                let tally = timeout(4 * PATIENCE, visit(addresses, random))
                    .await
                    .expect("a visit that never ended");
                drop(permit);
                tally
            }));
        }
        let mut sum = Tally::default();
        for visit in visits {
            let tally = visit.await.unwrap();
            sum.heard += tally.heard;
            sum.acknowledged += tally.acknowledged;
            sum.refused += tally.refused;
        }
        sum
    });
    drop(runtime);
    println!(
        "{VISITS} visits in {:?}: {} messages heard, {} acknowledged, {} refused",
        start.elapsed(),
        tally.heard,
        tally.acknowledged,
        tally.refused
    );
    assert!(
        tally.heard > VISITS && tally.acknowledged > VISITS / 2,
        "too little was said to prove anything"
    );

    eventually(
        "every row, block, node, group and membership is back",
        || (status::fill(&server) == empty).then_some(()),
    );
    eventually("every descriptor is back", || {
        (holders(&server) <= descriptors).then_some(())
    });
    let high_water = status::sections(&server)["sessions"].high_water;
    assert!(high_water > 100, "only {high_water} at one time");
    Client::login(&server, Transport::WebSocket, "last").expect_nothing();
}

/// What is in use when nobody is there.
fn settled(server: &Server) -> std::collections::BTreeMap<String, u64> {
    eventually("the start's health check has left", || {
        Some(status::fill(server)).filter(|fill| fill["sessions"] == 0)
    })
}

/// The descriptors of the master and of each of its children.
fn holders(server: &Server) -> usize {
    let ended = Instant::now() + Duration::from_secs(1);
    let mut least = usize::MAX;
    // A command's connection to the control socket may still be open.
    while Instant::now() < ended {
        least = least.min(
            processes::children(server.pid())
                .into_iter()
                .chain([server.pid()])
                .map(processes::descriptors)
                .sum(),
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    least
}
