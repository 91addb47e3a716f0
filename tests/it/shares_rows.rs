//! Rows: one address, or many, that take all they get leave room for whoever comes next.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use serde_json::json;
use tests::addresses::connect_from;
use tests::client::BOTH;
use tests::wait::{eventually, median};
use tests::{Client, Server, Settings, Transport};

const ROWS: usize = 60;

fn small() -> Server {
    Server::start(
        Settings::new()
            .protected()
            .with("table.sessions", ROWS as i64),
    )
}

fn address(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 3, number as u8 + 1)
}

/// Opens connections from there until one is refused, and logs them in if `as_user`; the refusal.
fn take_all(
    server: &Server,
    from: Ipv4Addr,
    as_user: bool,
    clients: &mut Vec<Client>,
) -> Option<String> {
    for number in 0..ROWS {
        let transport = BOTH[number % 2];
        match Client::try_open_from(server, transport, from) {
            Ok(client) if as_user => {
                let user = format!("{from} {number}");
                clients.push(client.logged_in(json!({"type": "login", "userName": user})));
            }
            Ok(client) => clients.push(client),
            Err(refusal) => return Some(refusal),
        }
    }
    None
}

#[test]
fn one_address_leaves_rows_to_the_others() {
    let server = small();
    let mut clients = Vec::new();
    let refusal = take_all(&server, address(0), false, &mut clients);
    let refusal = refusal.expect("one address had all rows without logging in");
    assert!(
        refusal.contains("503") || refusal.contains("capacity"),
        "{refusal}"
    );
    let strangers = clients.len();
    assert!(
        (ROWS / 4..=ROWS / 2).contains(&strangers),
        "{strangers} of {ROWS} were not logged in"
    );
    // Somebody else may still have as many, and whoever logs in more.
    assert!(take_all(&server, address(1), true, &mut clients).is_some());
    let sessions = clients.len() - strangers;
    assert!(sessions >= (ROWS - strangers) / 3, "{sessions} sessions");
    for transport in BOTH {
        let newcomer = Client::try_open_from(&server, transport, address(2)).unwrap();
        clients.push(newcomer.logged_in(json!({"type": "login", "userName": "newcomer"})));
    }
    let log = server.house().log();
    assert!(
        log.contains("server.proxies") && log.contains("127.0.3.1"),
        "the log says nothing of it:\n{log}"
    );
}

#[test]
fn where_few_rows_are_free_the_oldest_go_who_are_not_logged_in() {
    let server = small();
    let mut neighbour = Client::login(&server, Transport::WebSocket, "neighbour");
    // Many addresses have a few each; the first has most.
    let mut strangers = Vec::new();
    for round in 0..ROWS {
        for from in [0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12].map(address) {
            let transport = BOTH[round % 2];
            strangers.extend(Client::try_open_from(&server, transport, from).ok());
        }
        if strangers.len() > ROWS * 3 / 4 {
            break;
        }
    }
    for number in 20..20 + ROWS {
        // One connection each, until there is no room but for those who are put out for it.
        strangers.extend(Client::try_open_from(&server, Transport::Tcp, address(number)).ok());
    }
    thread::sleep(Duration::from_millis(1_200));
    let newcomers: Vec<Client> = (100..110)
        .map(|number| {
            let newcomer = eventually("a newcomer finds a row", || {
                Client::try_open_from(&server, Transport::WebSocket, address(number)).ok()
            });
            let user = format!("newcomer {number}");
            newcomer.logged_in(json!({"type": "login", "userName": user}))
        })
        .collect();
    neighbour.expect_nothing();
    let told = strangers
        .into_iter()
        .map(|stranger| stranger.rest(Duration::from_millis(50)))
        .filter(|rest| rest.contains("capacity"))
        .count();
    assert!(told >= 3, "{told} were told why they were put out");
    for mut newcomer in newcomers {
        newcomer.expect_nothing();
    }
}

#[test]
fn who_connects_all_the_time_keeps_nobody_out() {
    let server = Server::start(
        Settings::new()
            .protected()
            .with("limits.connections_per_ip", 50),
    );
    let (over, made) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut took = Vec::new();
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut held = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    let Ok(stream) = connect_from(address(0), server.tcp()) else {
                        continue;
                    };
                    // A port that waits after its connection would be missing to the next ones.
                    let reset = nix::libc::linger {
                        l_onoff: 1,
                        l_linger: 0,
                    };
                    setsockopt(&stream, sockopt::Linger, &reset).unwrap();
                    made.fetch_add(1, Ordering::Relaxed);
                    held.push(stream);
                    if held.len() > 40 {
                        held.clear();
                    }
                }
            });
        }
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(3) {
            let at = Instant::now();
            let client = Client::try_open_from(&server, Transport::WebSocket, address(1));
            took.push((at.elapsed(), client.is_ok()));
            thread::sleep(Duration::from_millis(20));
        }
        over.store(true, Ordering::Relaxed);
    });
    let failed = took.iter().filter(|(_, done)| !done).count();
    let longest = took.iter().map(|(time, _)| *time).max().unwrap();
    let usual = median(took.iter().map(|(time, _)| *time).collect());
    println!(
        "{} connects, {} neighbours: half within {usual:?}, all within {longest:?}",
        made.load(Ordering::Relaxed),
        took.len()
    );
    assert_eq!(failed, 0, "of {}", took.len());
    assert!(usual < Duration::from_millis(500), "{usual:?}");
    let log = server.house().log();
    assert_eq!(
        log.matches("list it in server.proxies").count(),
        1,
        "it is told once"
    );
}
