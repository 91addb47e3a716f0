//! What one client, one user or one address asks of other hosts does not keep a neighbour's messages from them: none is refused, and none waits
//! behind the flood.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::Transport::Tcp;
use tests::cluster::{Bus, Cluster};
use tests::delays::Delays;
use tests::{Client, Settings};

/// How long a neighbour is measured, in silence and in a flood.
const MEASURED: Duration = Duration::from_secs(3);

/// A flooded neighbour's 99th percentile is at most so many times that in silence; but nothing is said of less than the second.
const TIMES: u32 = 10;
const LEAST: Duration = Duration::from_millis(100);

/// Where floods come from; neighbours are at 127.0.0.1.
const ATTACKER: &str = "127.0.0.2:0";

/// What a flood consists of.
struct Flood {
    name: &'static str,
    /// Users, and connections of each.
    users: usize,
    connections: usize,
    /// One request of many, by its number.
    request: fn(usize) -> Value,
}

const FLOODS: [Flood; 6] = [
    Flood {
        name: "messages to a user elsewhere, one session",
        users: 1,
        connections: 1,
        request: |n| json!({"type": "sendto", "to": "victim", "content": "x".repeat(200), "id": n}),
    },
    Flood {
        name: "messages to users who do not exist, one session",
        users: 1,
        connections: 1,
        request: |n| json!({"type": "sendto", "to": format!("nobody{n}"), "content": 1, "id": n}),
    },
    Flood {
        name: "messages to a user elsewhere, many sessions of one user",
        users: 1,
        connections: 8,
        request: |n| json!({"type": "sendto", "to": "victim", "content": "x".repeat(200), "id": n}),
    },
    Flood {
        name: "messages to users who do not exist, many users of one address",
        users: 8,
        connections: 1,
        request: |n| json!({"type": "sendto", "to": format!("nobody{n}"), "content": 1, "id": n}),
    },
    Flood {
        name: "who with 5,000 names, one session",
        users: 1,
        connections: 1,
        request: |n| json!({"type": "who", "users": names(n), "id": n}),
    },
    Flood {
        name: "who with 5,000 names, many users of one address",
        users: 8,
        connections: 1,
        request: |n| json!({"type": "who", "users": names(n), "id": n}),
    },
];

fn names(n: usize) -> Vec<String> {
    (0..5_000).map(|name| format!("{n}-{name}")).collect()
}

/// A connection from the attacker's address, logged in.
fn attacker(address: SocketAddr, name: &str) -> TcpStream {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(ATTACKER.parse().unwrap()).unwrap();
        socket.connect(address).await.unwrap().into_std().unwrap()
    });
    stream.set_nonblocking(true).unwrap();
    let login = json!({"type": "login", "userName": name});
    (&stream).write_all(format!("{login}\n").as_bytes()).unwrap();
    stream
}

/// Writes requests as fast as they are taken, and reads what comes, until it is over; how many bytes were written.
fn attack(stream: &TcpStream, requests: &[u8], over: &AtomicBool, written: &AtomicUsize) {
    let mut heard = vec![0; 256 * 1024];
    let mut at = 0;
    while !over.load(Relaxed) {
        let mut idle = true;
        match (&mut &*stream).write(&requests[at..]) {
            Ok(n) => {
                idle = false;
                at = (at + n) % requests.len();
                written.fetch_add(n, Relaxed);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => panic!("the attacker writes: {error}"),
        }
        match (&mut &*stream).read(&mut heard) {
            Ok(0) => panic!("the attacker was closed"),
            Ok(_) => idle = false,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => panic!("the attacker reads: {error}"),
        }
        if idle {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// What a neighbour has seen.
#[derive(Debug)]
struct Seen {
    sent: usize,
    refused: usize,
    p50: Duration,
    p99: Duration,
    /// Less what the machine was late with.
    net_p99: Duration,
}

/// Sends one message after another to a user elsewhere, and waits for the answer to each.
fn neighbour(client: &mut Client, to: &str, delays: &[Delays]) -> Seen {
    let (mut took, mut net) = (Vec::new(), Vec::new());
    let mut refused = 0;
    let end = Instant::now() + MEASURED;
    while Instant::now() < end || took.len() < 20 {
        let began = Instant::now();
        client.send(json!({"type": "sendto", "to": to, "content": "neighbour", "id": "n"}));
        let answer = client.json();
        let now = Instant::now();
        refused += usize::from(answer["status"] != "routed");
        let (mut queued, mut late) = (Duration::ZERO, Duration::ZERO);
        for host in delays {
            let (of_host, clock) = host.between(began, now);
            queued += of_host;
            late = late.max(clock);
        }
        let wait = now - began;
        took.push(wait);
        net.push(wait.saturating_sub(late + queued.min(wait * 3 / 4)));
        std::thread::sleep(Duration::from_millis(3));
    }
    took.sort_unstable();
    net.sort_unstable();
    Seen {
        sent: took.len(),
        refused,
        p50: took[took.len() / 2],
        p99: took[took.len() * 99 / 100],
        net_p99: net[net.len() * 99 / 100],
    }
}

/// Commands that Redis has carried out.
fn commands(cluster: &Cluster) -> u64 {
    let stats = cluster.redis.ask(&["INFO", "stats"]);
    let count = stats
        .iter()
        .find_map(|line| line.trim().strip_prefix("total_commands_processed:"));
    count.unwrap().parse().unwrap()
}

fn flooded(bus: Bus, floods: &[Flood]) {
    let settings = Settings::new().with("server.workers", 2);
    let cluster = Cluster::with(bus, 2, settings);
    let delays: Vec<Delays> = cluster
        .hosts()
        .map(|host| Delays::of(host.pid()))
        .collect();
    let mut ann = cluster.login(0, Tcp, "ann");
    let bob = cluster.login(1, Tcp, "bob");
    let victim = cluster.login(1, Tcp, "victim");
    cluster.expect_users(&[("ann", &[0]), ("bob", &[1]), ("victim", &[1])]);
    let over = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = [bob, victim]
        .into_iter()
        .map(|reader| {
            let over = Arc::clone(&over);
            let stream = reader.stream().try_clone().unwrap();
            std::thread::spawn(move || {
                stream
                    .set_read_timeout(Some(Duration::from_millis(50)))
                    .unwrap();
                let mut heard = vec![0; 256 * 1024];
                while !over.load(Relaxed) {
                    let _ = (&stream).read(&mut heard);
                }
                drop(reader);
            })
        })
        .collect();
    let quiet = neighbour(&mut ann, "bob", &delays);
    println!("in silence: {quiet:?}");
    assert_eq!(quiet.refused, 0);
    let bound = (quiet.net_p99 * TIMES).max(LEAST);
    let mut faults = Vec::new();
    for flood in floods {
        let stop = AtomicBool::new(false);
        let written = AtomicUsize::new(0);
        let requests: Vec<u8> = (0..200)
            .flat_map(|n| format!("{}\n", (flood.request)(n)).into_bytes())
            .collect();
        let before = commands(&cluster);
        let began = Instant::now();
        let seen = std::thread::scope(|scope| {
            for user in 0..flood.users {
                for _ in 0..flood.connections {
                    let stream = attacker(cluster.host(0).tcp(), &format!("mallory{user}"));
                    let (requests, stop, written) = (&requests, &stop, &written);
                    scope.spawn(move || attack(&stream, requests, stop, written));
                }
            }
            std::thread::sleep(Duration::from_millis(500));
            let seen = neighbour(&mut ann, "bob", &delays);
            stop.store(true, Relaxed);
            seen
        });
        let rate = (commands(&cluster) - before) as f64 / began.elapsed().as_secs_f64();
        let requests = written.load(Relaxed) / (requests.len() / 200);
        println!("{}: {requests} requests, {rate:.0} Redis commands/s, {seen:?}", flood.name);
        if seen.refused > 0 || seen.net_p99 > bound {
            faults.push(format!("{}: {seen:?}, allowed {bound:?}", flood.name));
        }
    }
    over.store(true, Relaxed);
    for reader in readers {
        reader.join().unwrap();
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn floods_of_messages_do_not_reach_a_neighbour() {
    flooded(Bus::Redis, &FLOODS[..4]);
}

#[test]
fn floods_of_questions_do_not_reach_a_neighbour() {
    flooded(Bus::Redis, &FLOODS[4..]);
}

/// With the directory away everything waits, and the mailbox fills: whoever fills it is told so, and a neighbour's still has room.
#[test]
fn a_mailbox_that_one_client_fills_has_room_for_others() {
    let settings = Settings::new()
        .with("cluster.timeout_ms", 0)
        .with("cluster.queue_bytes", 262_144);
    let mut cluster = Cluster::with(Bus::Redis, 2, settings);
    let mut ann = cluster.login(0, Tcp, "ann");
    let mut bob = cluster.login(1, Tcp, "bob");
    cluster.expect_users(&[("ann", &[0]), ("bob", &[1])]);
    cluster.redis.stop();
    let mallory = attacker(cluster.host(0).tcp(), "mallory");
    mallory.set_nonblocking(false).unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(mallory.try_clone().unwrap()));
    let mut hear = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    assert_eq!(hear()["type"], "open");
    assert_eq!(hear()["event"], "login");
    for n in 0..600 {
        let flood = json!({"type": "sendto", "to": "bob", "content": "x".repeat(1000), "id": n});
        (&mallory).write_all(format!("{flood}\n").as_bytes()).unwrap();
    }
    let refusal = hear();
    assert_eq!(refusal["code"], "overloaded", "{refusal}");
    let sentence = refusal["content"].as_str().unwrap();
    assert!(sentence.contains("this session"), "{sentence}");
    for n in 0..10 {
        ann.send(json!({"type": "sendto", "to": "bob", "content": n, "id": n}));
    }
    ann.expect_nothing();
    cluster.redis.start_again();
    for n in 0..10 {
        let ack = ann.expect("ack");
        assert_eq!((&ack["id"], &ack["status"]), (&json!(n), &json!("routed")));
    }
    let mut next = 0;
    while next < 10 {
        let message = bob.expect("message");
        if message["from"] == "ann" {
            assert_eq!(message["content"], next, "in order");
            next += 1;
        }
    }
}
