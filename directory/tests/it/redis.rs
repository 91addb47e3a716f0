//! A real Redis on a port of its own.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

pub struct Redis {
    pub port: u16,
    folder: PathBuf,
    arguments: Vec<String>,
    child: Option<Child>,
}

pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

pub fn folder() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("directory-{}-{n}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

impl Redis {
    pub fn start() -> Self {
        Self::with(&[])
    }

    pub fn with(arguments: &[&str]) -> Self {
        let mut redis = Redis {
            port: free_port(),
            folder: folder(),
            arguments: ["--save", "", "--appendonly", "no"]
                .iter()
                .chain(arguments)
                .map(|a| (*a).to_owned())
                .collect(),
            child: None,
        };
        redis.start_again();
        redis
    }

    /// A sentinel with this configuration, which it rewrites.
    pub fn sentinel(file: PathBuf) -> Self {
        let mut sentinel = Redis {
            port: free_port(),
            folder: file.parent().unwrap().to_owned(),
            arguments: vec!["--sentinel".into()],
            child: None,
        };
        let mut command = Command::new("redis-server");
        command.arg(file);
        sentinel.spawn(command);
        sentinel
    }

    /// Starts it on the same port, empty.
    pub fn start_again(&mut self) {
        self.spawn(Command::new("redis-server"));
    }

    fn spawn(&mut self, mut command: Command) {
        let child = command
            .args(["--port", &self.port.to_string()])
            .args(["--bind", "127.0.0.1", "--dir"])
            .arg(&self.folder)
            .args(&self.arguments)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server has to be installed (Debian: apt-get install redis-server)");
        self.child = Some(child);
        let until = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < until, "redis-server does not start");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub fn pause(&self, on: bool) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        let signal = if on { "-STOP" } else { "-CONT" };
        let status = Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(status.success());
    }

    pub fn address(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// What redis-cli says, line by line.
    pub fn ask(&self, arguments: &[&str]) -> Vec<String> {
        let output = Command::new("redis-cli")
            .args(["-p", &self.port.to_string()])
            .args(arguments)
            .output()
            .expect("redis-cli has to be installed (Debian: apt-get install redis-tools)");
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines()
            .map(str::to_owned)
            .filter(|line| !line.is_empty())
            .collect()
    }

    /// Every key that is no memory of who was seen.
    pub fn keys(&self) -> Vec<String> {
        let mut keys = self.ask(&["--scan"]);
        keys.retain(|key| !key.contains(":seen:"));
        keys.sort();
        keys
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.stop();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
