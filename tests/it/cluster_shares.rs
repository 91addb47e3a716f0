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
use tests::waits::ORDERLY;
use tests::{Client, Settings};

/// How long a neighbour is measured, in silence and in a flood.
const MEASURED: Duration = Duration::from_secs(3);

/// A flooded neighbour's 99th percentile is at most so many times that in silence; but nothing is said of less than what each of two hosts may
/// always take.
const TIMES: u32 = 10;
const LEAST: Duration = ORDERLY.saturating_mul(2);

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
    (&stream)
        .write_all(format!("{login}\n").as_bytes())
        .unwrap();
    stream
}

/// Writes requests as fast as they are taken, and reads what comes, until it is over; comes again when it is thrown out. `written`: bytes.
fn attack(
    address: SocketAddr,
    name: &str,
    requests: &[u8],
    over: &AtomicBool,
    written: &AtomicUsize,
) {
    let mut heard = vec![0; 256 * 1024];
    while !over.load(Relaxed) {
        let stream = attacker(address, name);
        let mut at = 0;
        while !over.load(Relaxed) {
            let read = (&stream).read(&mut heard);
            let wrote = (&stream).write(&requests[at..]);
            if let Ok(n) = wrote {
                at = (at + n) % requests.len();
                written.fetch_add(n, Relaxed);
            }
            let waits = |result: &std::io::Result<usize>| match result {
                Ok(0) => None,
                Ok(_) => Some(false),
                Err(error) => (error.kind() == ErrorKind::WouldBlock).then_some(true),
            };
            match (waits(&read), waits(&wrote)) {
                (Some(true), Some(true)) => std::thread::sleep(Duration::from_millis(1)),
                (Some(_), Some(_)) => {}
                _ => break,
            }
        }
    }
}

/// Times, and the same less what the machine was late with.
#[derive(Default)]
struct Times {
    took: Vec<Duration>,
    net: Vec<Duration>,
}

impl Times {
    fn add(&mut self, began: Instant, delays: &[Delays]) {
        let now = Instant::now();
        let (mut queued, mut late) = (Duration::ZERO, Duration::ZERO);
        for host in delays {
            let (of_host, clock) = host.between(began, now);
            queued += of_host;
            late = late.max(clock);
        }
        let wait = now - began;
        self.took.push(wait);
        self.net
            .push(wait.saturating_sub(late + queued.min(wait * 3 / 4)));
    }

    fn sort(&mut self) {
        self.took.sort_unstable();
        self.net.sort_unstable();
    }

    /// The value below which so many of a hundred are.
    fn percentile(sorted: &[Duration], hundredths: usize) -> Duration {
        sorted[sorted.len() * hundredths / 100]
    }
}

/// What a neighbour has seen.
struct Seen {
    refused: usize,
    /// Messages to another host, and pings, which only its worker answers.
    messages: Times,
    pings: Times,
}

impl Seen {
    /// The 99th percentiles of messages and of pings, less what the machine was late with.
    fn net(&self) -> (Duration, Duration) {
        let of = |times: &Times| Times::percentile(&times.net, 99);
        (of(&self.messages), of(&self.pings))
    }

    fn told(&self) -> String {
        let (messages, pings) = self.net();
        let took = |hundredths| Times::percentile(&self.messages.took, hundredths);
        format!(
            "{} messages, {} refused, p50 {:.1?}, p99 {:.1?}, net p99 {messages:.1?} (of pings {pings:.1?})",
            self.messages.took.len(),
            self.refused,
            took(50),
            took(99),
        )
    }
}

/// Sends one message after another to a user elsewhere, and pings between them, and waits for the answer to each.
fn neighbour(client: &mut Client, to: &str, delays: &[Delays]) -> Seen {
    let mut seen = Seen {
        refused: 0,
        messages: Times::default(),
        pings: Times::default(),
    };
    let end = Instant::now() + MEASURED;
    while Instant::now() < end || seen.messages.took.len() < 20 {
        let began = Instant::now();
        client.send(json!({"type": "sendto", "to": to, "content": "neighbour", "id": "n"}));
        let answer = client.json();
        seen.messages.add(began, delays);
        if answer["status"] != "routed" {
            seen.refused += 1;
            println!("{answer}");
        }
        let began = Instant::now();
        client.send(json!({"type": "ping"}));
        client.expect("pong");
        seen.pings.add(began, delays);
        std::thread::sleep(Duration::from_millis(2));
    }
    seen.messages.sort();
    seen.pings.sort();
    seen
}

/// Commands that Redis has carried out.
fn commands(cluster: &Cluster) -> u64 {
    let stats = cluster.redis.ask(&["INFO", "stats"]);
    let count = stats
        .iter()
        .find_map(|line| line.trim().strip_prefix("total_commands_processed:"));
    count.unwrap().parse().unwrap()
}

/// Long times and much room: what a busy machine delays, and what attackers do not read of their answers, is not what is tested here.
fn settings() -> Settings {
    Settings::new()
        .with("server.workers", 2)
        .with("cluster.lease_ms", 10_000)
        .with("cluster.timeout_ms", 60_000)
        .with("limits.heartbeat_timeout_ms", 600_000)
        .with("table.arena_mib", 256)
}

fn flooded(bus: Bus, floods: &[Flood]) {
    let cluster = Cluster::with(bus, 2, settings());
    let delays: Vec<Delays> = cluster.hosts().map(|host| Delays::of(host.pid())).collect();
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
    println!("in silence: {}", quiet.told());
    assert_eq!(quiet.refused, 0);
    let least = (quiet.net().0 * TIMES).max(LEAST);
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
                    let (requests, stop, written) = (&requests, &stop, &written);
                    let address = cluster.host(0).tcp();
                    let name = format!("mallory{user}");
                    scope.spawn(move || attack(address, &name, requests, stop, written));
                }
            }
            std::thread::sleep(Duration::from_millis(500));
            let seen = neighbour(&mut ann, "bob", &delays);
            stop.store(true, Relaxed);
            seen
        });
        let rate = (commands(&cluster) - before) as f64 / began.elapsed().as_secs_f64();
        let requests = written.load(Relaxed) / (requests.len() / 200);
        let name = flood.name;
        let told = format!(
            "{name}: {requests} requests, {rate:.0} Redis commands/s; {}",
            seen.told()
        );
        println!("{told}");
        // How long its worker takes is another's subject: a message waits for it on its way in and on its way out.
        let (messages, pings) = seen.net();
        let bound = least + 2 * pings;
        if seen.refused > 0 || messages > bound {
            faults.push(format!("{told}; allowed {bound:.0?}"));
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
    let cluster = Cluster::with(Bus::Redis, 2, settings);
    let mut ann = cluster.login(0, Tcp, "ann");
    let mut bob = cluster.login(1, Tcp, "bob");
    cluster.expect_users(&[("ann", &[0]), ("bob", &[1])]);
    // Standing still, so that the directory forgets nobody.
    cluster.redis.pause(true);
    let mallory = attacker(cluster.host(0).tcp(), "mallory");
    mallory.set_nonblocking(false).unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(mallory.try_clone().unwrap()));
    let mut hear = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    assert_eq!(hear()["type"], "open");
    assert_eq!(hear()["event"], "login");
    for n in 0..600 {
        let flood = json!({"type": "sendto", "to": "bob", "content": "x".repeat(1000), "id": n});
        (&mallory)
            .write_all(format!("{flood}\n").as_bytes())
            .unwrap();
    }
    let refusal = hear();
    assert_eq!(refusal["code"], "overloaded", "{refusal}");
    let sentence = refusal["content"].as_str().unwrap();
    assert!(sentence.contains("this session"), "{sentence}");
    for n in 0..10 {
        ann.send(json!({"type": "sendto", "to": "bob", "content": n, "id": n}));
    }
    ann.expect_nothing();
    cluster.redis.pause(false);
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

/// A link that is replaced in a flood sends first what the one before may have sent: the other host remembers only the last ids.
#[test]
fn reloads_in_a_flood_of_many_repeat_nothing() {
    let settings = settings().with("limits.outbox_bytes", 64 << 20);
    let cluster = Cluster::with(Bus::Redis, 2, settings);
    let victims = 6;
    let readers: Vec<Client> = (0..victims)
        .map(|n| cluster.login(1, Tcp, &format!("victim{n}")))
        .collect();
    let over = AtomicBool::new(false);
    let requests: Vec<Vec<u8>> = (0..victims)
        .map(|n| {
            let to = format!("victim{n}");
            let one = json!({"type": "sendto", "to": to, "content": "x", "quiet": true});
            format!("{one}\n").repeat(200).into_bytes()
        })
        .collect();
    let (heard, repeated) = std::thread::scope(|scope| {
        for (n, requests) in requests.iter().enumerate() {
            let (address, over) = (cluster.host(0).tcp(), &over);
            let name = format!("sender{n}");
            scope.spawn(move || attack(address, &name, requests, over, &AtomicUsize::new(0)));
        }
        let listeners: Vec<_> = readers
            .into_iter()
            .map(|mut reader| scope.spawn(move || listen(&mut reader)))
            .collect();
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(700));
            let output = cluster.host(0).house().run(&["reload"]);
            assert!(output.status.success(), "{output:?}");
        }
        std::thread::sleep(Duration::from_millis(300));
        over.store(true, Relaxed);
        let counts = listeners.into_iter().map(|one| one.join().unwrap());
        counts.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    });
    println!("{heard} messages");
    assert!(heard > 10_000, "{heard}: no flood");
    assert_eq!(repeated, 0, "messages that came twice");
}

/// Hears messages until none comes for a while; how many there were, and how many came twice.
fn listen(reader: &mut Client) -> (usize, usize) {
    let stream = reader.stream().try_clone().unwrap();
    let mut ids = std::collections::HashSet::new();
    let mut repeated = 0;
    stream
        .set_read_timeout(Some(Duration::from_secs(3)))
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(stream));
    while let Some(Ok(line)) = lines.next() {
        let message: Value = serde_json::from_str(&line).unwrap();
        if let Some(id) = message["id"].as_str()
            && !ids.insert(id.to_owned())
        {
            repeated += 1;
        }
    }
    (ids.len(), repeated)
}
