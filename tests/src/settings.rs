//! The configuration of a server under test: small, on free ports, and changed key by key.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};

use serde_json::Value;

/// Section, then key, then value.
#[derive(Clone)]
pub struct Settings(BTreeMap<String, BTreeMap<String, Value>>);

impl Default for Settings {
    fn default() -> Settings {
        Settings::new()
    }
}

impl Settings {
    /// A small server with both listeners on free ports, two workers, the API off, short drains, and without the limits on what one client or
    /// address may have: all clients here come from one address and talk as fast as they can. See [`Settings::protected`].
    pub fn new() -> Settings {
        Settings(BTreeMap::new())
            .with("server.node", "test")
            .with(
                "server.websocket",
                vec![format!("127.0.0.1:{}", free_port())],
            )
            .with("server.tcp", vec![format!("127.0.0.1:{}", free_port())])
            .with("server.workers", 2)
            .with("table.sessions", 200)
            .with("table.arena_mib", 8)
            .with("table.groups", 64)
            .with("table.memberships", 512)
            .with("limits.drain_timeout_ms", 1000)
            .with("limits.messages_per_second", 0)
            .with("limits.connections_per_ip", 0)
            .with("limits.sessions_per_user", 0)
            .with("api.listen", "")
    }

    /// The same with the limits on what one client or address may have as they are by default.
    pub fn protected(mut self) -> Settings {
        if let Some(limits) = self.0.get_mut("limits") {
            for key in [
                "messages_per_second",
                "connections_per_ip",
                "sessions_per_user",
            ] {
                limits.remove(key);
            }
        }
        self
    }

    /// As shipped, but for listeners on free ports, and the API off.
    pub fn shipped() -> Settings {
        Settings(BTreeMap::new())
            .with(
                "server.websocket",
                vec![format!("127.0.0.1:{}", free_port())],
            )
            .with("server.tcp", vec![format!("127.0.0.1:{}", free_port())])
            .with("api.listen", "")
    }

    /// The same with `section.key` set to `value`: a number, a bool, a string or a list of them.
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Settings {
        let (section, key) = key.split_once('.').expect("a key is named section.key");
        self.0
            .entry(section.to_owned())
            .or_default()
            .insert(key.to_owned(), value.into());
        self
    }

    /// The value of `section.key`, where it was set.
    pub fn value(&self, key: &str) -> Option<&Value> {
        let (section, key) = key.split_once('.')?;
        self.0.get(section)?.get(key)
    }

    /// The first address of a listener key.
    pub(crate) fn address(&self, key: &str) -> Option<std::net::SocketAddr> {
        self.value(key)?.get(0)?.as_str()?.parse().ok()
    }

    /// The text of `config.toml`, with the files of the server in `folder`.
    pub fn text(&self, folder: &Path) -> String {
        let mut text = String::new();
        let mut settings = self.clone();
        let server = settings.0.entry("server".to_owned()).or_default();
        let pid_file = folder.join("run/steadfast.pid");
        server
            .entry("pid_file".to_owned())
            .or_insert(pid_file.display().to_string().into());
        for (section, keys) in &settings.0 {
            writeln!(text, "[{section}]").unwrap();
            for (key, value) in keys {
                // A JSON value of these kinds is a TOML value as well.
                writeln!(text, "{key} = {value}").unwrap();
            }
        }
        text
    }
}

/// A port nobody listens on. Below the range the system gives to outgoing connections, never the same one twice
/// in a process, and far from those of processes that started about the same time, so that nobody takes it between this look and the
/// server's bind.
pub fn free_port() -> u16 {
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 20_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // The golden section of their number: multiples of it keep apart.
    const APART: u64 = 12_361;
    let start = u64::from(std::process::id()) * APART;
    for _ in 0..COUNT {
        let offset = start + u64::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = FIRST + (offset % u64::from(COUNT)) as u16;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + COUNT);
}
