//! Messages for thousands: everybody gets each once and in order, whatever becomes of the processes meanwhile, and nobody else waits for them.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::{Value, json};
use tests::wait::PATIENCE;
use tests::{Client, Server, Settings, Transport, posts};

const MEMBERS: usize = 5_000;

/// Messages to the group, one behind the other in one write.
const MESSAGES: usize = 6;

/// A member of the group: the least that a client is, as there are thousands.
struct Member {
    wire: BufReader<TcpStream>,
    /// Content and id of each message.
    heard: Vec<(usize, String)>,
}

impl Member {
    fn begin(server: &Server, name: &str) -> Member {
        let wire = TcpStream::connect(server.tcp()).unwrap();
        wire.set_read_timeout(Some(PATIENCE)).unwrap();
        let requests = format!(
            "{{\"type\":\"login\",\"userName\":\"{name}\"}}\n{{\"type\":\"join\",\"group\":\"all\"}}\n"
        );
        (&wire).write_all(requests.as_bytes()).unwrap();
        Member {
            wire: BufReader::with_capacity(512, wire),
            heard: Vec::new(),
        }
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.wire.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line:?}"))
    }

    /// Reads until it has been told of the join.
    fn joined(mut self) -> Member {
        while self.line()["event"] != "join" {}
        self
    }

    /// Reads until it has the last message.
    fn hear_all(&mut self) {
        while self.heard.last().is_none_or(|(last, _)| *last < MESSAGES) {
            let message = self.line();
            assert_eq!(message["type"], "message", "{message}");
            let content = message["content"].as_u64().unwrap() as usize;
            self.heard
                .push((content, message["id"].as_str().unwrap().to_owned()));
        }
    }
}

fn server() -> Server {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    Server::start(
        Settings::new()
            .with("table.sessions", MEMBERS + 50)
            .with("table.memberships", MEMBERS + 50)
            .with("limits.login_timeout_ms", 60_000)
            .with("limits.heartbeat_timeout_ms", 120_000),
    )
}

/// A message to everybody while something happens; returns how often somebody heard one again.
fn everybody_hears_all(server: &Server, meanwhile: impl FnOnce()) -> usize {
    let members: Vec<Member> = (0..MEMBERS)
        .map(|number| Member::begin(server, &format!("m{number}")))
        .collect();
    let mut members: Vec<Member> = members.into_iter().map(Member::joined).collect();
    let mut sender = Client::login(server, Transport::Tcp, "sender");
    sender.join("all");
    let mut all = String::new();
    for content in 1..=MESSAGES {
        let message = json!({"type": "sendgroup", "to": "all", "content": content, "id": content});
        all += &format!("{message}\n");
    }
    let mut wire = sender.stream();
    wire.write_all(all.as_bytes()).unwrap();
    meanwhile();
    let mut acks: Vec<u64> = Vec::new();
    while acks.last() != Some(&(MESSAGES as u64)) {
        let ack = sender.expect("ack");
        assert_eq!(ack["status"], "delivered");
        acks.push(ack["id"].as_u64().unwrap());
    }
    acks.dedup();
    assert_eq!(acks, (1..=MESSAGES as u64).collect::<Vec<_>>());
    let mut ids = HashMap::new();
    let mut again = 0;
    for member in &mut members {
        member.hear_all();
        for (content, id) in &member.heard {
            assert_eq!(ids.entry(*content).or_insert_with(|| id.clone()), id);
        }
        let before = member.heard.len();
        member.heard.dedup();
        again += before - member.heard.len();
        let contents: Vec<usize> = member.heard.iter().map(|(content, _)| *content).collect();
        assert_eq!(contents, (1..=MESSAGES).collect::<Vec<_>>());
    }
    posts::audit(server).unwrap();
    again
}

#[test]
fn a_reload_in_the_middle_of_messages_for_thousands() {
    let server = server();
    let again = everybody_hears_all(&server, || {
        let output = server.house().run(&["reload"]);
        assert!(output.status.success(), "{output:?}");
    });
    assert_eq!(again, 0);
}

#[test]
fn deaths_in_the_middle_of_messages_for_thousands() {
    let server = server();
    let again = everybody_hears_all(&server, || posts::kill_each(&server, "worker"));
    // One recipient for each death.
    assert!(again <= 2, "{again}");
}

#[test]
fn a_neighbour_is_answered_between_the_slices() {
    let server = server();
    let mut neighbour = Client::login(&server, Transport::WebSocket, "neighbour");
    let mut waited = Vec::new();
    everybody_hears_all(&server, || {
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(300) {
            let asked = Instant::now();
            neighbour.send(json!({"type": "ping"}));
            neighbour.expect("pong");
            waited.push(asked.elapsed());
        }
    });
    assert!(waited.len() > 5, "{waited:?}");
}
