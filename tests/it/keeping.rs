//! Connections outlive their worker, in whatever state they are: each test kills every worker and goes on where it was.

use std::io::{Read, Write};

use serde_json::json;
use tests::client::BOTH;
use tests::frames::{CONTINUATION, PING, PONG, TEXT};
use tests::raw::upgrade_request;
use tests::wait::eventually;
use tests::{Bells, Client, Frame, RawWebSocket, Server, Settings, Transport, posts, status};

use crate::both;

/// Enough that every worker has several of each kind.
const CLIENTS: usize = 20;

fn crowd(server: &Server) -> Vec<Client> {
    let member = |number: usize| {
        let mut client = Client::login(server, BOTH[number % 2], &format!("u{number}"));
        client.join("all");
        client.join(&format!("few{}", number % 5));
        client
    };
    (0..CLIENTS).map(member).collect()
}

#[test]
fn sessions_groups_and_logins_stay() {
    let server = Server::standard();
    let mut clients = crowd(&server);
    let before = status::fill(&server);
    let workers = server.workers();
    posts::kill_each(&server, "worker");
    assert!(server.workers().iter().all(|pid| !workers.contains(pid)));
    clients.iter_mut().for_each(Client::expect_nothing);
    assert_eq!(status::fill(&server), before);
    for number in 0..CLIENTS {
        let say = |to: &str, content: &str| json!({"type": "sendgroup", "to": to, "content": content, "quiet": true});
        clients[number].send(say("all", "to all"));
        clients[number].send(say(&format!("few{}", number % 5), "to few"));
        for other in (0..CLIENTS).filter(|other| *other != number) {
            assert_eq!(clients[other].expect("message")["content"], "to all");
            if other % 5 == number % 5 {
                assert_eq!(clients[other].expect("message")["content"], "to few");
            }
        }
        assert_eq!(
            clients[number].sendto(&format!("u{}", (number + 1) % CLIENTS), json!(1)),
            "delivered"
        );
        clients[(number + 1) % CLIENTS].expect("message");
        clients[number].send(json!({"type": "login", "userName": "other"}));
        clients[number].expect_error("already_logged_in");
    }
    clients.into_iter().for_each(Client::logout);
    eventually("every row and membership is back", || {
        let fill = status::fill(&server);
        (fill["sessions"] == 0 && fill["memberships"] == 0 && fill["groups"] == 0).then_some(())
    });
    posts::audit(&server).unwrap();
}

#[test]
fn again_and_again_while_people_talk() {
    let server = Server::standard();
    let mut clients = crowd(&server);
    for round in 0..6 {
        let workers = server.workers();
        for client in &mut clients {
            // Some of these are being handled when their worker dies.
            client.send(json!({"type": "sendgroup", "to": "all", "content": round, "quiet": true}));
        }
        posts::kill(&server, workers[round % workers.len()]);
    }
    for client in &mut clients {
        let mut heard = [0; 6];
        let mut ids = std::collections::HashSet::new();
        while heard.iter().sum::<usize>() < 6 * (CLIENTS - 1) {
            let message = client.expect("message");
            // Once more only what was being handled, and with its id.
            if ids.insert(message["id"].to_string()) {
                heard[message["content"].as_u64().unwrap() as usize] += 1;
            }
        }
        assert_eq!(heard, [CLIENTS - 1; 6]);
    }
}

#[test]
fn before_a_login_and_after_it() {
    both(&Settings::new(), |server, transport| {
        let strangers: Vec<Client> = (0..6).map(|_| Client::open(server, transport)).collect();
        posts::kill_each(server, "worker");
        let mut known: Vec<Client> = strangers
            .into_iter()
            .zip(0..)
            .map(|(client, number)| {
                client.logged_in(json!({"type": "login", "userName": format!("u{number}")}))
            })
            .collect();
        posts::kill_each(server, "worker");
        known.iter_mut().for_each(Client::expect_nothing);
    });
}

#[test]
fn a_session_is_replaced_or_kicked_after_its_worker_died() {
    let settings = Settings::new().with("limits.same_user", "one");
    both(&settings, |server, transport| {
        let older: Vec<Client> = (0..4)
            .map(|number| Client::login(server, transport, &format!("u{number}")))
            .collect();
        posts::kill_each(server, "worker");
        for (number, older) in older.into_iter().enumerate() {
            Client::login(server, transport, &format!("u{number}")).expect_nothing();
            older.expect_ending(4004);
        }
    });
}

#[test]
fn in_half_a_handshake() {
    let server = Server::standard();
    let mut bells = Bells::hang(&server);
    let request = upgrade_request(server.websocket(), "/ws", "");
    let mut sockets: Vec<(RawWebSocket, usize)> = (0..=12)
        .map(|number| {
            (
                RawWebSocket::silent(server.websocket()),
                number * request.len() / 12,
            )
        })
        .collect();
    for (socket, place) in &mut sockets {
        socket.send_bytes(&request.as_bytes()[..*place]);
    }
    bells.ring();
    posts::kill_each(&server, "worker");
    for (socket, place) in &mut sockets {
        socket.send_bytes(&request.as_bytes()[*place..]);
        assert_eq!(socket.response().status, 101);
        assert_eq!(socket.json()["type"], "open");
        socket.send(&Frame::text(json!({"type": "login", "userName": "late"})));
        assert_eq!(socket.json()["event"], "login");
    }
}

#[test]
fn at_every_byte_of_a_frame() {
    let server = Server::standard();
    let mut bells = Bells::hang(&server);
    let mut bob = Client::login(&server, Transport::Tcp, "bob");
    let content = "z".repeat(150);
    let letter = json!({"type": "sendto", "to": "bob", "content": content, "quiet": true});
    let bytes = Frame::text(letter).bytes();
    // The whole header, its mask, and some of what follows.
    let places = (0..20).chain([bytes.len() - 1]);
    let mut sockets: Vec<(RawWebSocket, usize)> = places
        .map(|place| {
            (
                RawWebSocket::login(server.websocket(), &format!("u{place}")),
                place,
            )
        })
        .collect();
    for (socket, place) in &mut sockets {
        socket.send_bytes(&bytes[..*place]);
    }
    bells.ring();
    posts::kill_each(&server, "worker");
    for (socket, place) in &mut sockets {
        socket.send_bytes(&bytes[*place..]);
        let message = bob.expect("message");
        assert_eq!(
            (&message["from"], &message["content"]),
            (&json!(format!("u{place}")), &json!(content))
        );
    }
    bob.expect_nothing();
}

#[test]
fn in_the_middle_of_a_fragmented_message() {
    let server = Server::standard();
    let mut bells = Bells::hang(&server);
    let mut bob = Client::login(&server, Transport::WebSocket, "bob");
    let content = "ß🦀€".repeat(2_000);
    let text =
        json!({"type": "sendto", "to": "bob", "content": content, "quiet": true}).to_string();
    let thirds = [text.len() / 3, 2 * text.len() / 3];
    let fragments = [
        Frame::new(TEXT, &text[..0]).more(),
        Frame::new(CONTINUATION, &text.as_bytes()[..thirds[0]]).more(),
        Frame::new(CONTINUATION, &text.as_bytes()[thirds[0]..thirds[1]]).more(),
        Frame::new(CONTINUATION, &text.as_bytes()[thirds[1]..]),
    ];
    let mut sockets: Vec<RawWebSocket> = (0..6)
        .map(|number| RawWebSocket::login(server.websocket(), &format!("u{number}")))
        .collect();
    for (number, fragment) in fragments.iter().enumerate() {
        for socket in &mut sockets {
            let bytes = fragment.bytes();
            // Some of them in the middle of a fragment besides.
            let (one, two) = bytes.split_at(bytes.len() * (number % 2) / 2);
            socket.send_bytes(one);
            bells.ring();
            socket.send_bytes(two);
            if !fragment.fin {
                socket.send(&Frame::new(PING, number.to_string()));
            }
        }
        bells.ring();
        posts::kill_each(&server, "worker");
    }
    for _ in &sockets {
        assert_eq!(bob.expect("message")["content"], content);
    }
    bob.expect_nothing();
    for socket in &mut sockets {
        for number in 0..3 {
            let pong = socket.frame().unwrap();
            assert_eq!(
                (pong.opcode, pong.payload),
                (PONG, number.to_string().into_bytes())
            );
        }
    }
}

#[test]
fn in_half_a_line() {
    let server = Server::standard();
    let mut bells = Bells::hang(&server);
    let mut bob = Client::login(&server, Transport::WebSocket, "bob");
    let content = format!("🦀{}", "z".repeat(3_000));
    let line = json!({"type": "sendto", "to": "bob", "content": content, "quiet": true});
    let line = format!("\r\n{line}\r\n");
    let crab = line.find('🦀').unwrap();
    let places = [
        0,
        1,
        2,
        3,
        crab + 1,
        crab + 2,
        crab + 5,
        line.len() / 2,
        line.len() - 2,
        line.len() - 1,
    ];
    let mut clients: Vec<Client> = places
        .iter()
        .map(|place| Client::login(&server, Transport::Tcp, &format!("u{place}")))
        .collect();
    for (client, place) in clients.iter().zip(places) {
        client
            .stream()
            .write_all(&line.as_bytes()[..place])
            .unwrap();
    }
    bells.ring();
    posts::kill_each(&server, "worker");
    for (client, place) in clients.iter_mut().zip(places) {
        client
            .stream()
            .write_all(&line.as_bytes()[place..])
            .unwrap();
        assert_eq!(bob.expect("message")["content"], content);
        client.expect_nothing();
    }
    bob.expect_nothing();
}

#[test]
fn on_the_echo_path() {
    let server = Server::start(Settings::new().with("diagnostics.echo", true));
    let mut bells = Bells::hang(&server);
    let mut sockets: Vec<RawWebSocket> = (0..6)
        .map(|_| RawWebSocket::connect(server.websocket(), "/echo"))
        .collect();
    let payload: Vec<u8> = (0..40_000).map(|at| (at % 251) as u8).collect();
    let frame = Frame::new(tests::frames::BINARY, payload.clone());
    let bytes = frame.bytes();
    for socket in &mut sockets {
        socket.send_bytes(&bytes[..20_000]);
    }
    bells.ring();
    posts::kill_each(&server, "worker");
    for socket in &mut sockets {
        socket.send_bytes(&bytes[20_000..]);
        assert!(socket.frame().unwrap().payload == payload);
    }
}

#[test]
fn while_it_is_only_connected() {
    let server = Server::standard();
    let mut silent = std::net::TcpStream::connect(server.websocket()).unwrap();
    let mut bells = Bells::hang(&server);
    bells.ring();
    posts::kill_each(&server, "worker");
    // And a request that is no upgrade, on a connection that its worker never heard a word from.
    silent
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    silent.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    bells.ring();
}
