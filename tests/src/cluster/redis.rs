//! A real Redis, and its failures.

use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Process;
use crate::folder::Folder;
use crate::settings::free_port;

/// One Redis server, or a sentinel.
pub struct Redis {
    port: u16,
    folder: Folder,
    arguments: Vec<String>,
    process: Option<Process>,
}

impl Redis {
    /// Starts an empty one.
    pub fn start() -> Redis {
        Redis::with(&[])
    }

    /// Starts one with further arguments.
    pub fn with(arguments: &[&str]) -> Redis {
        let mut redis = Redis {
            port: free_port(),
            folder: Folder::new("redis"),
            arguments: ["--save", "", "--appendonly", "no"]
                .iter()
                .chain(arguments)
                .map(|argument| (*argument).to_owned())
                .collect(),
            process: None,
        };
        redis.start_again();
        redis
    }

    /// Starts a sentinel that watches a master under the name `main`.
    pub fn sentinel(master: &Redis) -> Redis {
        let mut sentinel = Redis {
            port: free_port(),
            folder: Folder::new("redis"),
            arguments: vec!["--sentinel".to_owned()],
            process: None,
        };
        let text = format!(
            "sentinel monitor main 127.0.0.1 {} 2\nsentinel down-after-milliseconds main 500\n\
             sentinel failover-timeout main 2000\n",
            master.port
        );
        std::fs::write(sentinel.folder.path().join("sentinel.conf"), text).unwrap();
        sentinel.start_again();
        sentinel
    }

    /// Starts it again on its port, empty.
    pub fn start_again(&mut self) {
        let folder = self.folder.path();
        let mut command = Command::new("redis-server");
        let file = folder.join("sentinel.conf");
        if file.exists() {
            command.arg(file);
        }
        command
            .args([
                "--port",
                &self.port.to_string(),
                "--bind",
                "127.0.0.1",
                "--dir",
            ])
            .arg(folder)
            .args(&self.arguments);
        let mut process = Process::start("redis-server", folder, &mut command);
        process.listens(self.port);
        self.process = Some(process);
    }

    /// Ends it, and all that it has.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Has it stand still (SIGSTOP), or go on.
    pub fn pause(&self, pause: bool) {
        let signal = if pause {
            Signal::SIGSTOP
        } else {
            Signal::SIGCONT
        };
        let process = self.process.as_ref().expect("it was stopped");
        kill(Pid::from_raw(process.pid()), signal).unwrap();
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.process.as_ref().expect("it was stopped").pid()
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its address, as for `cluster.redis`.
    pub fn address(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// What `redis-cli` says, line by line.
    pub fn ask(&self, arguments: &[&str]) -> Vec<String> {
        let output = Command::new("redis-cli")
            .args(["-p", &self.port.to_string()])
            .args(arguments)
            .output()
            .expect("redis-cli; tests/run installs what is missing");
        let text = String::from_utf8(output.stdout).unwrap();
        let lines = text.lines().filter(|line| !line.is_empty());
        lines.map(str::to_owned).collect()
    }
}
