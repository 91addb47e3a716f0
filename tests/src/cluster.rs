//! Several real hosts, the servers between them, and what must be in their directory.
//!
//! Redis, RabbitMQ and forwarders are the real ones, each on ports and in folders of its own, gone when they are dropped.

mod forwarder;
mod hosts;
mod network;
mod rabbitmq;
mod redis;

pub use forwarder::Forwarder;
pub use hosts::{ALL_BUSES, Bus, Cluster, LEASE};
pub use network::Network;
pub use rabbitmq::RabbitMq;
pub use redis::Redis;

use std::io::Read;
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::wait::eventually;

/// A process that is killed when it is dropped; what it wrote is shown if the test has failed.
pub(crate) struct Process {
    name: String,
    child: Child,
    log: std::path::PathBuf,
}

impl Process {
    /// Starts a command with its output in `folder`.
    pub(crate) fn start(name: &str, folder: &Path, command: &mut Command) -> Process {
        let log = folder.join(format!("{name}.log"));
        let file = std::fs::File::create(&log).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            // Some are scripts that start the server as their child.
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{command:?}: {error}; tests/run installs what is missing")
            });
        Process {
            name: name.to_owned(),
            child,
            log,
        }
    }

    pub(crate) fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    pub(crate) fn log(&self) -> String {
        let mut text = String::new();
        if let Ok(mut file) = std::fs::File::open(&self.log) {
            let _ = file.read_to_string(&mut text);
        }
        text
    }

    /// Waits until it listens on a port of this host.
    pub(crate) fn listens(&mut self, port: u16) {
        eventually(&format!("{} listens", self.name), || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!(
                    "{} ended at its start with {status}:\n{}",
                    self.name,
                    self.log()
                );
            }
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
    }

    pub(crate) fn kill(&mut self) {
        let _ = killpg(Pid::from_raw(self.pid()), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let from = log.len().saturating_sub(4000);
            let from = (from..log.len()).find(|&at| log.is_char_boundary(at));
            let end = &log[from.unwrap_or(0)..];
            eprintln!("---- end of the log of {}\n{end}----", self.name);
        }
    }
}
