//! The directory of a cluster, in Redis or Valkey: which users and groups are on which hosts, and which hosts live.
//!
//! - Each host writes its own fields only. What it is to have there is [`set`](Directory::set); this crate sees to it that it is there, whatever
//!   becomes of Redis: after every reconnection everything is written again, and what is too much is removed.
//! - A host holds a lease. When that is over, another host (or a forwarder) removes what it left, each field only if it is still of
//!   that life of the host ([`cleaning`]).
//! - Nothing here waits for Redis but the functions that ask it something, and these for a bounded time.
//!
//! `docs/directory.md` shows the keys.
#![forbid(unsafe_code)]

pub mod cleaning;
mod connection;
mod hosts;
mod keeper;
mod keys;
mod server;
mod shared;
mod verifying;
mod writing;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

pub use connection::Connection;
pub use keys::{Key, Keys};
pub use server::Server;
use shared::Shared;

/// What a directory needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it is, see [`Server`].
    pub redis: String,
    /// Prefix of every key.
    pub namespace: String,
    /// This host's name.
    pub node: String,
    /// This life of this host: 16 hexadecimal digits. Values that are [`set`](Directory::set) contain it.
    pub boot: String,
    /// A host silent this long is dead.
    pub lease: Duration,
    /// How long it is remembered when a user was last seen.
    pub last_seen: Duration,
    /// The authorities to trust with TLS; `None` = the well-known ones.
    pub tls_ca_file: Option<PathBuf>,
    /// Where other hosts of a mesh connect to this one.
    pub mesh: Option<String>,
    /// A clock of this host in milliseconds that nobody sets, whatever it begins with: what is compared with other hosts is in it.
    pub clock: fn() -> u64,
}

/// What the directory's clock was ahead of this host's ([`Settings::clock`]) when it was last read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// When it was read, by the host's clock.
    pub at_ms: u64,
    /// It was ahead by at least this: the directory was asked before it answered,
    pub least_ahead_ms: i64,
    /// and at most this: it answered before the answer was here.
    pub most_ahead_ms: i64,
}

impl Reading {
    /// What it probably was ahead, in milliseconds: its time is in Unix milliseconds.
    pub fn ahead_ms(&self) -> i64 {
        self.least_ahead_ms + (self.most_ahead_ms - self.least_ahead_ms) / 2
    }
}

/// Another host that lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Which life of it.
    pub boot: String,
    /// Where hosts of a mesh connect to it.
    pub mesh: Option<String>,
    /// Since when it is there, in Unix milliseconds of the directory's clock.
    pub since_ms: u64,
}

/// One host's field under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The host.
    pub host: String,
    /// What it has written.
    pub value: String,
}

/// Redis did not answer, or not in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the directory is away")]
pub struct Away;

/// How the directory is, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// How.
    pub condition: Condition,
    /// Since when it is up, or not.
    pub since: Instant,
}

/// How the directory is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Not reached yet since the start.
    Connecting,
    /// Everything that was set is written.
    Level,
    /// It answers, and something that was set is not written yet.
    Leveling,
    /// It does not answer.
    Away {
        /// What happened, a sentence.
        why: String,
    },
    /// A host of the same name lives. This one is not in the cluster until that has ended.
    NameTaken,
}

impl State {
    /// Whether it answers, to this host.
    pub fn is_up(&self) -> bool {
        matches!(self.condition, Condition::Level | Condition::Leveling)
    }

    /// Whether everything that was set is written.
    pub fn is_level(&self) -> bool {
        self.condition == Condition::Level
    }

    /// What is wrong; empty when nothing is.
    pub fn why(&self) -> &str {
        match &self.condition {
            Condition::Level | Condition::Leveling => "",
            Condition::Connecting => "it is being connected to",
            Condition::Away { why } => why,
            Condition::NameTaken => "another host of this name lives (server.node)",
        }
    }
}

/// What has happened in the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An own field was written; or it was read back, and the fields of others have changed.
    Written {
        /// Its key.
        key: Key,
        /// This process had not written this same value before, or it had been lost, or the lease was over in between.
        news: bool,
        /// All fields under the key, read after the write.
        entries: Vec<Entry>,
    },
    /// An own field was removed.
    Removed {
        /// Its key.
        key: Key,
        /// All fields under the key, read after that.
        entries: Vec<Entry>,
    },
    /// Another host is there.
    Came(String),
    /// Another host is not there any more: it has left, or its lease is over. One that comes again as another life goes first. When this host
    /// has just come (back) itself, others have a lease's time to be there.
    Gone(String),
}

/// A host's end of the directory; clones are the same one.
#[derive(Clone)]
pub struct Directory {
    shared: Arc<Shared>,
}

impl Directory {
    /// Begins to connect, to hold the lease and to look after the others, for ever, whatever Redis does. Within a tokio runtime;
    /// never waits.
    ///
    /// # Errors
    /// A sentence about settings that can never work.
    pub fn start(settings: Settings) -> Result<(Self, mpsc::UnboundedReceiver<Event>), String> {
        let server = Server::new(&settings.redis, settings.tls_ca_file.as_deref())?;
        let (events, receiver) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared::new(settings));
        tokio::spawn(keeper::keep(Arc::clone(&shared), server, events));
        Ok((Directory { shared }, receiver))
    }

    /// What this host has under a key from now on; `None` = nothing. Never waits. Of several values only the last is written.
    pub fn set(&self, key: Key, value: Option<String>) {
        self.shared.set(key, value);
    }

    /// All that this host has was set: what there is beyond that in the directory, of this life of this host, is removed, now and after
    /// every reconnection.
    pub fn complete(&self) {
        self.shared.complete();
    }

    /// The fields of each key, in order of the keys.
    ///
    /// # Errors
    /// [`Away`], after at most two seconds.
    pub async fn look_up(&self, keys: &[Key]) -> Result<Vec<Vec<Entry>>, Away> {
        let commands = keys.iter().map(|key| self.shared.keys.read(key)).collect();
        let values = self.shared.ask(commands).await?;
        Ok(values.iter().map(keys::entries).collect())
    }

    /// When each user was last seen on a host that has let them go, in Unix milliseconds.
    ///
    /// # Errors
    /// [`Away`], after at most two seconds.
    pub async fn last_seen(&self, users: &[String]) -> Result<Vec<Option<u64>>, Away> {
        let commands = users
            .iter()
            .map(|user| redis::Cmd::get(self.shared.keys.seen(user)))
            .collect();
        let values = self.shared.ask(commands).await?;
        Ok(values.into_iter().map(keys::number).collect())
    }

    /// The hosts that live, this one not among them.
    pub fn hosts(&self) -> watch::Receiver<Arc<BTreeMap<String, Host>>> {
        self.shared.hosts.subscribe()
    }

    /// How it is.
    pub fn state(&self) -> watch::Receiver<State> {
        self.shared.state.subscribe()
    }

    /// Where other hosts of a mesh connect to this one; told to them with the next renewal of the lease, which is made at once.
    pub fn set_mesh(&self, address: String) {
        self.shared.set_mesh(address);
    }

    /// What the directory's clock is ahead of this host's, read several times in a lease; `None` before the first answer.
    pub fn readings(&self) -> watch::Receiver<Option<Reading>> {
        self.shared.reading.subscribe()
    }

    /// Takes everything of this host out, the lease last; waits for it at most `within`. Nothing may be set afterwards.
    ///
    /// # Errors
    /// [`Away`]: other hosts will do it when the lease is over.
    pub async fn leave(&self, within: Duration) -> Result<(), Away> {
        self.shared.leave(within).await
    }
}
