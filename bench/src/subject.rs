//! The servers that are measured: started by us, pinned to a core of their own as far as the machine has two, and stopped.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use tests::{House, Server, Settings};

/// What is to be measured.
#[derive(Clone, Debug)]
pub enum Kind {
    Floor,
    Plain,
    /// An executable of ours.
    Steadfast(PathBuf),
}

/// What a server needs to know of its load.
#[derive(Clone, Copy, Debug)]
pub struct Needs {
    pub workers: usize,
    pub connections: usize,
    /// Sessions that the table has room for, if it is to be another number than is usual.
    pub room: Option<usize>,
    pub groups: usize,
    pub memberships: usize,
}

/// A server that runs.
pub enum Subject {
    /// Started here: its process and where it listens.
    Yardstick(Child, SocketAddr),
    Steadfast(Box<Server>),
    /// Somebody else's.
    Given(i32, SocketAddr),
}

impl Subject {
    /// Starts a server on the first core (`workers` beyond one: on any), and moves the caller to the second.
    pub fn start(kind: &Kind, needs: Needs) -> Subject {
        let alone = needs.workers == 1;
        if alone {
            pin(Some(0));
        }
        let subject = match kind {
            Kind::Floor => yardstick("floor"),
            Kind::Plain => yardstick("plain"),
            Kind::Steadfast(path) => Subject::Steadfast(Box::new(steadfast(path, needs))),
        };
        if alone {
            pin(Some(1));
        }
        subject
    }

    pub fn address(&self) -> SocketAddr {
        match self {
            Subject::Yardstick(_, address) | Subject::Given(_, address) => *address,
            Subject::Steadfast(server) => server.websocket(),
        }
    }

    pub fn pid(&self) -> i32 {
        match self {
            Subject::Yardstick(child, _) => child.id() as i32,
            Subject::Steadfast(server) => server.pid(),
            Subject::Given(pid, _) => *pid,
        }
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        if let Subject::Yardstick(child, _) = self {
            let _ = child.kill();
            let _ = child.wait();
        }
        pin(None);
    }
}

/// Lets this thread, and what it starts, run on one core; on all, with `None` or where there is no such core.
pub fn pin(core: Option<usize>) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut set = CpuSet::new();
    for each in 0..CpuSet::count() {
        if core.is_none_or(|core| core == each || core >= cores.max(2)) {
            let _ = set.set(each);
        }
    }
    // A place where it is not allowed measures without.
    let _ = sched_setaffinity(Pid::from_raw(0), &set);
}

fn yardstick(name: &str) -> Subject {
    let here = std::env::current_exe().expect("this executable has a path");
    let path = here.with_file_name(name);
    let address = SocketAddr::from(([127, 0, 0, 1], tests::settings::free_port()));
    let mut child = Command::new(&path)
        .args(["--listen", &address.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}; build it first", path.display()));
    let mut line = String::new();
    let output = child.stdout.take().expect("it is piped");
    BufReader::new(output).read_line(&mut line).unwrap();
    assert_eq!(line.trim(), "ready", "{} did not start", path.display());
    Subject::Yardstick(child, address)
}

/// With limits that the load does not meet: they are not what is measured.
fn steadfast(path: &Path, needs: Needs) -> Server {
    let settings = Settings::new()
        .with("server.workers", needs.workers as i64)
        .with(
            "table.sessions",
            needs.room.unwrap_or(needs.connections + 500) as i64,
        )
        .with("table.groups", (needs.groups + 16) as i64)
        .with("table.memberships", (2 * needs.memberships + 1_000) as i64)
        .with("table.arena_mib", 256)
        .with("limits.login_timeout_ms", 600_000)
        .with("limits.heartbeat_timeout_ms", 3_600_000)
        .with("limits.outbox_bytes", 8 << 20);
    House::new(settings).executable(path).start()
}

impl Needs {
    pub fn connections(connections: usize) -> Needs {
        Needs {
            workers: 1,
            connections,
            room: None,
            groups: 0,
            memberships: 0,
        }
    }
}
