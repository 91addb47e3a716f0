//! What a host writes under a key of the directory, as JSON; `docs/directory.md` shows it to people.

use serde::{Deserialize, Serialize};

/// A user's sessions on one host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserEntry {
    /// Which life of the host wrote it.
    pub boot: String,
    /// The oldest first.
    pub sessions: Vec<SessionEntry>,
}

/// One session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionEntry {
    /// The session's id, unique over all hosts.
    pub id: String,
    /// `deviceId` of its login; empty if there was none.
    #[serde(default)]
    pub device: String,
    /// `deviceModel` of its login; empty if there was none.
    #[serde(default)]
    pub model: String,
    /// When it logged in: milliseconds since 1970, by the directory's clock.
    #[serde(default)]
    pub since: u64,
    /// `websocket` or `tcp`.
    #[serde(default)]
    pub transport: String,
}

/// That a group has members on a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupEntry {
    /// Which life of the host wrote it.
    pub boot: String,
}

impl UserEntry {
    /// Reads one that another host has written; `None` if it cannot be understood.
    pub fn read(value: &str) -> Option<Self> {
        serde_json::from_str(value).ok()
    }
}

/// An entry as it is written. These structures always have a JSON form.
pub fn value(entry: &impl Serialize) -> String {
    serde_json::to_string(entry).unwrap_or_default()
}
