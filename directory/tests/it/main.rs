//! The directory against real Redis servers.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a failure names its place
#![allow(missing_docs)] // of a test

mod clock;
mod exact;
mod forms;
mod hosts;
mod leveling;
mod redis;

use std::time::Duration;

use directory::{Directory, Entry, Event, Key, Settings};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep};

pub const LEASE: Duration = Duration::from_millis(1200);

pub fn settings(address: &str, node: &str, boot: u64) -> Settings {
    Settings {
        redis: address.to_owned(),
        namespace: "t".into(),
        node: node.into(),
        boot: format!("{boot:016x}"),
        lease: LEASE,
        last_seen: Duration::from_secs(60),
        tls_ca_file: None,
        mesh: None,
        clock: clock_ms,
    }
}

/// A clock that nobody sets.
fn clock_ms() -> u64 {
    static BEGAN: std::sync::LazyLock<std::time::Instant> =
        std::sync::LazyLock::new(std::time::Instant::now);
    BEGAN.elapsed().as_millis() as u64
}

/// One host of a cluster.
pub struct Member {
    pub directory: Directory,
    pub events: UnboundedReceiver<Event>,
    pub node: String,
    pub boot: String,
}

pub fn member(address: &str, node: &str, boot: u64) -> Member {
    member_with(settings(address, node, boot))
}

pub fn member_with(settings: Settings) -> Member {
    let boot = settings.boot.clone();
    let node = settings.node.clone();
    let (directory, events) = Directory::start(settings).unwrap();
    Member {
        directory,
        events,
        node,
        boot,
    }
}

impl Member {
    pub fn has(&self, user: &str) {
        self.directory
            .set(Key::User(user.into()), Some(self.value()));
    }

    /// What it has under each key.
    pub fn value(&self) -> String {
        format!("{{\"boot\":\"{}\",\"sessions\":[]}}", self.boot)
    }

    pub fn has_not(&self, user: &str) {
        self.directory.set(Key::User(user.into()), None);
    }

    pub async fn level(&self) {
        let mut state = self.directory.state();
        let level = state.wait_for(|state| state.is_level());
        let waited = tokio::time::timeout(Duration::from_secs(10), level).await;
        if waited.is_err() {
            panic!(
                "it does not become level: {:?}",
                *self.directory.state().borrow()
            );
        }
    }

    pub async fn hosts_of(&self, user: &str) -> Vec<String> {
        let found = self.directory.look_up(&[Key::User(user.into())]).await;
        let mut hosts: Vec<String> = found.unwrap().remove(0).into_iter().map(host).collect();
        hosts.sort();
        hosts
    }

    /// The next event that `wanted` wants.
    pub async fn hears<T>(&mut self, wanted: impl Fn(Event) -> Option<T>) -> T {
        let next = async {
            loop {
                let event = self.events.recv().await.expect("the directory has ended");
                if let Some(found) = wanted(event) {
                    return found;
                }
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(10), next).await;
        waited.expect("it was not heard")
    }
}

pub fn host(entry: Entry) -> String {
    entry.host
}

pub async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(10);
    while !is_so().await {
        assert!(Instant::now() < until, "never: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}
