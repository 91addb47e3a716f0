//! What an idle, logged-in connection costs in memory.
//!
//! Private bytes are what all processes of the server together have more of (`Private_*` of
//! /proc/PID/smaps, see proc(5); the segment's mapping not counted). Shared bytes are what the table reserves for each session whether it is
//! used or not: the segment's size with these sessions less its size with half of them.

use serde_json::json;
use shm_table::Capacity;
use tests::{Client, Server, Settings, Transport, status};

/// Bytes that only this process has, the segment's not counted: which of its pages a process happened to touch
/// alone says nothing.
fn private_bytes(pid: i32) -> u64 {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
    let mut kib = 0;
    let mut counts = false;
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or_default();
        if !first.ends_with(':') {
            counts = !line.contains("/dev/shm/");
        } else if counts && first.starts_with("Private_") && first != "Private_Hugetlb:" {
            kib += words.next().unwrap().parse::<u64>().unwrap();
        }
    }
    kib * 1024
}

fn all_private(server: &Server) -> Vec<(String, u64)> {
    let mut processes = vec![("master".to_owned(), server.pid())];
    for role in ["worker", "timer"] {
        processes.extend(
            server
                .processes(role)
                .into_iter()
                .map(|pid| (role.to_owned(), pid)),
        );
    }
    processes
        .into_iter()
        .map(|(role, pid)| (role, private_bytes(pid)))
        .collect()
}

/// Bytes of the segment that each of so many sessions needs, whether it is used or not.
pub fn reserved_bytes(sessions: u32) -> u64 {
    let half = sessions / 2;
    (segment_bytes(sessions) - segment_bytes(half)) / u64::from(sessions - half)
}

fn segment_bytes(sessions: u32) -> u64 {
    let capacity = Capacity {
        sessions,
        arena_bytes: 64 << 20,
        groups: 4096,
        memberships: 65_536,
        workers: 2,
        hosts: 0,
    };
    capacity.segment_bytes()
}

/// Logs `sessions` WebSocket clients in, holds them, and prints what they cost.
pub fn measure(sessions: u32) {
    let settings = Settings::new()
        .with("table.sessions", sessions)
        .with("table.arena_mib", 64)
        .with("limits.heartbeat_timeout_ms", 3_600_000)
        .with("server.workers", 2);
    let server = Server::start(settings);
    // A few come and go first, so that what a process has once is not counted as a connection's.
    for n in 0..100 {
        Client::login(&server, Transport::WebSocket, &format!("warm{n}")).logout();
    }
    let before = all_private(&server);
    let clients: Vec<Client> = (0..sessions)
        .map(|n| {
            let login = json!({
                "type": "login",
                "userName": format!("user{n}"),
                "deviceId": "phone",
                "deviceModel": "model",
            });
            Client::open(&server, Transport::WebSocket).logged_in(login)
        })
        .collect();
    let after = all_private(&server);

    let mut private = 0;
    for ((role, before), (_, after)) in before.iter().zip(&after) {
        println!("{role:8} private: {before:>10} before, {after:>10} with {sessions} sessions");
        private += after.saturating_sub(*before);
    }
    let shared = reserved_bytes(sessions);
    let private = private / u64::from(sessions);
    println!(
        "arena blocks in use: {}",
        status::fill(&server)["arena_blocks"]
    );
    println!("private bytes a connection: {private}");
    println!("shared bytes a connection:  {shared}");
    println!("together:                   {}", private + shared);
    drop(clients);
}
