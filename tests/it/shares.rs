//! Whatever one client, one user, one address or many of them hold of the server's memory, a neighbour's messages are delivered and none of
//! them is refused.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::frames::{CLOSE, Frame, PING, PONG};
use tests::raw::upgrade_request;
use tests::wait::eventually;
use tests::{Client, RawWebSocket, Server, Settings, Transport, status};

/// Where the attackers come from, and as whom.
#[derive(Clone, Copy, Debug)]
enum Origin {
    OneAddress,
    OneUser,
    Many,
}

const ORIGINS: [Origin; 3] = [Origin::OneAddress, Origin::OneUser, Origin::Many];

impl Origin {
    fn address(self, number: usize) -> String {
        match self {
            Origin::OneAddress => "127.0.0.9".to_owned(),
            Origin::OneUser | Origin::Many => {
                format!("127.0.{}.{}", 1 + number / 200, 1 + number % 200)
            }
        }
    }

    fn user(self, number: usize) -> String {
        match self {
            Origin::OneUser => "mallory".to_owned(),
            Origin::OneAddress | Origin::Many => format!("mallory {number}"),
        }
    }
}

/// A connection that takes little into its own buffers, and on which nothing is read but at its begin.
fn connect(runtime: &tokio::runtime::Runtime, source: &str, to: SocketAddr) -> TcpStream {
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(format!("{source}:0").parse().unwrap()).unwrap();
        socket.connect(to).await.unwrap().into_std().unwrap()
    });
    stream.set_nonblocking(false).unwrap();
    stream
        .set_write_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    stream
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_io()
        .build()
        .unwrap()
}

/// Logged in over TCP. Where the server has no place or no memory for it, it is not.
fn login_over_tcp(stream: &mut TcpStream, user: &str) {
    let login = json!({"type": "login", "userName": user});
    let _ = stream.write_all(format!("{login}\n").as_bytes());
    read_until(stream, "welcome");
}

/// Logged in over WebSocket, likewise.
fn login_over_websocket(stream: &mut TcpStream, user: &str) {
    let request = upgrade_request(stream.peer_addr().unwrap(), "/ws", "");
    let _ = stream.write_all(request.as_bytes());
    read_until(stream, "\"open\"");
    let login = json!({"type": "login", "userName": user});
    let _ = stream.write_all(&Frame::text(login).bytes());
    read_until(stream, "welcome");
}

fn read_until(stream: &mut TcpStream, what: &str) {
    let (mut seen, mut byte) = (Vec::new(), [0]);
    while !seen.ends_with(what.as_bytes()) && matches!(stream.read(&mut byte), Ok(1)) {
        seen.extend(byte);
    }
}

/// Two who send each other messages, one at a time, while `attack` goes on and a while longer: each must be delivered. What the attack
/// returns is kept until then.
fn undisturbed<Held: Send>(server: &Server, attack: impl FnOnce() -> Held + Send) -> Held {
    let mut ann = Client::login(server, Transport::WebSocket, "ann");
    let mut bob = Client::login(server, Transport::Tcp, "bob");
    let mut exchange = |number: u64, sizes: &[usize]| {
        let content = "n".repeat(sizes[number as usize % sizes.len()]);
        assert_eq!(
            ann.sendto("bob", json!([number, content])),
            "delivered",
            "{number}"
        );
        assert_eq!(bob.expect("message")["content"][0], number);
    };
    std::thread::scope(|scope| {
        let attackers = scope.spawn(attack);
        let (mut number, mut until) = (0, None::<Instant>);
        while until.is_none_or(|until| Instant::now() < until) {
            exchange(number, &[5, 300, 5, 3_000]);
            number += 1;
            if until.is_none() && attackers.is_finished() {
                until = Some(Instant::now() + Duration::from_secs(1));
            }
        }
        println!("{number} messages");
        attackers.join().unwrap()
    })
}

fn small() -> Settings {
    Settings::new()
        .with("table.arena_mib", 1)
        .with("limits.message_bytes", 65_536)
        .with("table.sessions", 400)
}

/// A quarter of the memory is free again, and what is left is in order.
fn assert_there_is_memory(server: &Server) {
    eventually("a quarter of the memory is free", || {
        let sections = status::sections(server);
        let has_room = ["arena_blocks", "outbox_entries"].iter().all(|name| {
            let section = sections[*name];
            section.used <= section.capacity * 3 / 4
        });
        has_room.then_some(())
    });
    let audit = server.house().run(&["audit"]);
    assert!(audit.status.success(), "{audit:?}");
}

fn evicted(server: &Server) -> u64 {
    let status = status::whole(server);
    let processes = status["processes"].as_array().unwrap();
    let of = |process: &Value| process["counters"]["evicted"].as_u64();
    processes.iter().filter_map(of).sum()
}

#[test]
fn a_client_that_pings_and_never_reads_holds_next_to_nothing() {
    for logged_in in [false, true] {
        for between in [Vec::new(), Frame::new(PONG, "").bytes()] {
            let server = Server::start(small());
            // Large ones fill what the system keeps for the connection, small ones then what the server does.
            let large = [Frame::new(PING, "x".repeat(125)).bytes(), between.clone()].concat();
            let small_ones = [Frame::new(PING, "").bytes(), between].concat();
            let pings = [large.repeat(50_000), small_ones.repeat(50_000)].concat();
            let held = undisturbed(&server, || {
                let runtime = runtime();
                let mut stream = connect(&runtime, "127.0.0.9", server.websocket());
                if logged_in {
                    login_over_websocket(&mut stream, "mallory");
                } else {
                    let request = upgrade_request(server.websocket(), "/ws", "");
                    stream.write_all(request.as_bytes()).unwrap();
                }
                stream
                    .set_write_timeout(Some(Duration::from_secs(20)))
                    .unwrap();
                let _ = stream.write_all(&pings);
                let used = status::fill(&server);
                assert!(used["arena_blocks"] < 1_000, "{used:?}");
                stream
            });
            drop(held);
            assert_there_is_memory(&server);
        }
    }
}

#[test]
fn of_several_pings_at_once_the_last_is_answered() {
    let server = Server::standard();
    let mut socket = RawWebSocket::login(server.websocket(), "ann");
    let pings: Vec<u8> = (0..500)
        .flat_map(|number| Frame::new(PING, format!("ping {number}")).bytes())
        .collect();
    socket.send_bytes(&pings);
    let mut pongs = 0;
    loop {
        let frame = socket.frame().expect("a pong");
        assert_eq!(frame.opcode, PONG);
        pongs += 1;
        if frame.payload == b"ping 499" {
            break;
        }
    }
    assert!(pongs < 100, "{pongs} pongs");
    // One at a time, each is answered; and what is between two pings stays between their pongs.
    socket.send_bytes(
        &[
            Frame::new(PING, "a").bytes(),
            Frame::text(json!({"type": "ping"})).bytes(),
            Frame::new(PING, "b").bytes(),
        ]
        .concat(),
    );
    assert_eq!(socket.frame().unwrap().payload, b"a");
    assert_eq!(socket.json()["type"], "pong");
    assert_eq!(socket.frame().unwrap().payload, b"b");
}

#[test]
fn incomplete_messages_of_hundreds_of_connections() {
    for origin in ORIGINS {
        println!("{origin:?}");
        let server = Server::start(small());
        let mut held = undisturbed(&server, || {
            let runtime = runtime();
            let mut held = Vec::new();
            for number in 0..200 {
                let user = origin.user(number);
                let address = origin.address(number);
                let is_framed = number % 2 == 0;
                let to = match is_framed {
                    true => server.websocket(),
                    false => server.tcp(),
                };
                let mut stream = connect(&runtime, &address, to);
                let part = match is_framed {
                    true => {
                        login_over_websocket(&mut stream, &user);
                        let whole = Frame::text("x".repeat(60_000)).bytes();
                        whole[..59_000].to_vec()
                    }
                    false => {
                        login_over_tcp(&mut stream, &user);
                        vec![b'x'; 59_000]
                    }
                };
                let _ = stream.write_all(&part);
                held.push(stream);
            }
            held
        });
        assert_there_is_memory(&server);
        assert!(evicted(&server) > 0);
        // Who was put out was told why.
        let told = held.iter_mut().any(|stream| {
            let _ = stream.set_read_timeout(Some(Duration::from_millis(100)));
            let mut said = Vec::new();
            let _ = stream.read_to_end(&mut said);
            let said = String::from_utf8_lossy(&said).into_owned();
            said.contains("overloaded") && said.contains("too much of the server's memory")
        });
        assert!(told, "nobody was told");
    }
}

#[test]
fn readers_who_do_not_read() {
    for origin in ORIGINS {
        println!("{origin:?}");
        let server = Server::start(small().with("limits.outbox_bytes", 131_072));
        undisturbed(&server, || {
            let runtime = runtime();
            let mut held = Vec::new();
            for number in 0..12 {
                let address = origin.address(number);
                let mut stream = connect(&runtime, &address, server.tcp());
                login_over_tcp(&mut stream, &origin.user(number));
                held.push(stream);
            }
            let mut sender = connect(&runtime, "127.0.0.10", server.tcp());
            login_over_tcp(&mut sender, "sender");
            let until = Instant::now() + Duration::from_secs(10);
            let content = "x".repeat(16_000);
            // A user with all the sessions gets one copy for all of them.
            for round in 0..400 {
                for number in 0..12 {
                    let message = json!({"type": "sendto", "to": origin.user(number),
                        "content": [round, content], "quiet": true});
                    let _ = sender.write_all(format!("{message}\n").as_bytes());
                    if matches!(origin, Origin::OneUser) {
                        break;
                    }
                }
                if Instant::now() > until {
                    break;
                }
            }
            held.push(sender);
            held
        });
        assert_there_is_memory(&server);
    }
}

#[test]
fn a_group_whose_readers_are_behind() {
    for origin in ORIGINS {
        println!("{origin:?}");
        let server = Server::start(small());
        undisturbed(&server, || {
            let runtime = runtime();
            let mut held = Vec::new();
            for number in 0..20 {
                let address = origin.address(number);
                let mut stream = connect(&runtime, &address, server.tcp());
                login_over_tcp(&mut stream, &origin.user(number));
                let _ = stream.write_all(b"{\"type\":\"join\",\"group\":\"all\"}\n");
                held.push(stream);
            }
            let until = Instant::now() + Duration::from_secs(12);
            let content = "x".repeat(700);
            let message =
                json!({"type": "sendgroup", "to": "all", "content": content, "quiet": true});
            let messages = format!("{message}\n").repeat(20);
            for _ in 0..300 {
                if held[0].write_all(messages.as_bytes()).is_err() || Instant::now() > until {
                    break;
                }
            }
            held
        });
        assert_there_is_memory(&server);
    }
}

#[test]
fn a_slow_reader_is_told_so_also_where_memory_is_short() {
    // One that is past its shrunk share, and far below its limit.
    let server = Server::start(
        small()
            .with("limits.outbox_bytes", 900_000)
            .with("limits.drain_timeout_ms", 30_000),
    );
    let slow = RawWebSocket::login(server.websocket(), "slow");
    undisturbed(&server, || {
        let mut sender = Client::login(&server, Transport::Tcp, "sender");
        let content = "x".repeat(8_000);
        let mut was_delivered = true;
        for _ in 0..3_000 {
            was_delivered = sender.sendto("slow", json!(content)) == "delivered";
            if !was_delivered {
                break;
            }
        }
        assert!(!was_delivered, "it is here still");
    });
    let mut slow = slow;
    let last = std::iter::from_fn(|| slow.frame()).last().unwrap();
    assert_eq!(last.opcode, CLOSE);
    assert_eq!(last.close_code(), Some(4008));
    assert_there_is_memory(&server);
}
