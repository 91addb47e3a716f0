//! What a message costs a worker in instructions, which no neighbour on the machine changes: counted by valgrind, compared with what was
//! accepted. A change that makes it worse by more than a twentieth has to say so, by accepting the new figures:
//! `STEADFAST_ACCEPT=1 tests/run -p bench --test instructions`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tests::folder::Folder;
use tests::{House, RawWebSocket, Settings};
use yardstick::layout::{self, Request};
use yardstick::wire;

/// What was accepted: a figure, a tab and its load on each line.
const ACCEPTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.txt");

/// How much more than accepted a figure may be.
const TOLERANCE: f64 = 1.05;

const MEMBERS: usize = 64;

/// With which the clients mask.
const KEY: [u8; 4] = [1, 2, 3, 4];

/// Messages in lock-step: what is sent at once has arrived everywhere before anything more is sent.
#[derive(Clone, Copy)]
struct Load {
    name: &'static str,
    clients: usize,
    /// What the first client sends.
    request: Request,
    bytes: usize,
    at_once: usize,
    /// How often; and how often in the longer run, whose difference to the shorter one counts.
    rounds: [usize; 2],
}

const LOADS: [Load; 4] = [
    Load {
        name: "private message, 64 B, 16 at once",
        clients: 2,
        request: Request::SendTo(1),
        bytes: 64,
        at_once: 16,
        rounds: [100, 400],
    },
    Load {
        name: "private message, 64 B, alone",
        clients: 2,
        request: Request::SendTo(1),
        bytes: 64,
        at_once: 1,
        rounds: [500, 2_500],
    },
    Load {
        name: "private message, 1 KiB, 16 at once",
        clients: 2,
        request: Request::SendTo(1),
        bytes: 1_024,
        at_once: 16,
        rounds: [100, 400],
    },
    Load {
        name: "delivery to one of 64 members, 64 B, 4 at once",
        clients: MEMBERS,
        request: Request::SendGroup(0),
        bytes: 64,
        at_once: 4,
        rounds: [50, 200],
    },
];

/// Waits for so many messages, each with `part` in it.
fn hear(client: &mut RawWebSocket, messages: usize, part: &str) {
    for _ in 0..messages {
        let text = client.text();
        assert!(text.contains(part), "{part} was expected: {text}");
    }
}

/// The server under valgrind, from master to worker; its reports go to `folder`.
fn wrapper(folder: &Path) -> PathBuf {
    let path = folder.join("counted");
    let script = format!(
        "#!/bin/sh\nexec valgrind -q --tool=callgrind --trace-children=yes --callgrind-out-file='{}/out.%p' '{}' \"$@\"\n",
        folder.display(),
        tests::house::executable().display(),
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// All instructions of the worker in a run of so many rounds.
fn instructions(load: Load, rounds: usize) -> u64 {
    let folder = Folder::new("steadfast-counted");
    let settings = Settings::new()
        .with("server.workers", 1)
        .with("table.sessions", 300)
        .with("table.arena_mib", 16)
        .with("limits.login_timeout_ms", 600_000)
        .with("limits.heartbeat_timeout_ms", 3_600_000);
    let mut server = House::new(settings)
        .executable(&wrapper(folder.path()))
        .start();
    let mut clients: Vec<RawWebSocket> = (0..load.clients)
        .map(|number| RawWebSocket::login(server.websocket(), &layout::user(number)))
        .collect();
    if let Request::SendGroup(group) = load.request {
        for client in &mut clients {
            client.send_bytes(&wire::text(Request::Join(group).text("").as_bytes(), KEY));
            hear(client, 1, "\"join\"");
        }
    }
    let content: String = ('a'..='z').cycle().take(load.bytes).collect();
    let text = load.request.text(&content);
    let bundle = wire::text(text.as_bytes(), KEY).repeat(load.at_once);
    for _ in 0..rounds {
        clients[0].send_bytes(&bundle);
        for client in &mut clients[1..] {
            hear(client, load.at_once, &content);
        }
    }
    drop(clients);
    server.stop();
    worker_s_total(folder.path())
}

fn worker_s_total(folder: &Path) -> u64 {
    let reports = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut totals = reports.filter_map(|path| {
        let report = fs::read_to_string(path).ok()?;
        let is_worker = report
            .lines()
            .any(|line| line.starts_with("cmd:") && line.contains("--role worker"));
        let total = report
            .lines()
            .find_map(|line| line.strip_prefix("totals: "));
        is_worker.then(|| total.unwrap().trim().parse::<u64>().unwrap())
    });
    let total = totals.next().expect("valgrind reports the worker");
    assert!(
        totals.next().is_none(),
        "a worker was replaced while it was counted"
    );
    total
}

fn measure(load: Load) -> f64 {
    let [short, long] = load.rounds.map(|rounds| instructions(load, rounds));
    let each = load.at_once * (load.clients - 1) * (load.rounds[1] - load.rounds[0]);
    (long - short) as f64 / each as f64
}

#[test]
fn no_message_costs_much_more_than_was_accepted() {
    let measured: Vec<(&str, f64)> = LOADS
        .iter()
        .map(|load| (load.name, measure(*load)))
        .collect();
    let report: String = measured
        .iter()
        .map(|(name, figure)| format!("{figure:.0}\t{name}\n"))
        .collect();
    println!("{report}");
    if std::env::var_os("STEADFAST_ACCEPT").is_some() {
        fs::write(ACCEPTED, &report).unwrap();
        return;
    }
    let accepted = fs::read_to_string(ACCEPTED).unwrap();
    for (name, figure) in measured {
        let was = accepted
            .lines()
            .filter_map(|line| line.split_once('\t'))
            .find(|(_, load)| *load == name)
            .unwrap_or_else(|| panic!("{ACCEPTED} knows nothing of {name:?}"));
        let was: f64 = was.0.parse().unwrap();
        assert!(
            figure <= was * TOLERANCE,
            "{name}: {figure:.0} instructions, {was:.0} were accepted. All figures:\n{report}"
        );
    }
}
