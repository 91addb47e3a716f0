//! What a master hands over to the one that it becomes: everything that stands neither in the table nor on disk, as JSON, with the
//! numbers of the descriptors that go along.

use std::collections::HashSet;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::time::Duration;

use config::Config;
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use shm_table::{Slot, Transport};

use crate::cli::RoleName;
use crate::control_conversation::Conversation;
use crate::network::Network;
use crate::source::Source;

/// The meaning of the fields below. Fields may be added without another number as long as what does not know them may leave them out.
pub const FORMAT: u32 = 1;

/// Everything.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// See [`FORMAT`].
    pub format: u32,
    /// Of the executable that hands over.
    pub version: String,
    /// The settings in force, which the file may not say any more.
    #[serde(deserialize_with = "role::settings_of_any_version")]
    pub config: Config,
    /// Where a reload reads the configuration.
    pub source: Source,
    /// Where the executable lies.
    pub executable: PathBuf,
    /// Name of the segment. It may be gone.
    pub segment: String,
    /// The segment; nothing from a master that looks it up by its name.
    #[serde(default)]
    pub table: Option<Table>,
    /// Every descriptor that goes along; the numbers below are among them.
    pub descriptors: Vec<RawFd>,
    /// Holds this very state.
    pub memory: RawFd,
    /// The executable that hands over, for the way back.
    pub previous: RawFd,
    /// What dead processes are replaced from.
    pub image: File,
    pub listeners: Vec<Listener>,
    /// Its descriptor holds the lock.
    pub pid_file: File,
    /// The pid file's folder was made for it.
    pub made_folder: bool,
    pub control: File,
    /// The log file, where the log is one.
    #[serde(default)]
    pub log: Option<RawFd>,
    /// The configuration file as root has opened it, and its name then, where the server is not root any more.
    #[serde(default)]
    pub kept_config: Option<File>,
    pub clients: Vec<Client>,
    pub doorbells: Vec<RawFd>,
    pub posts: Vec<Post>,
    pub vault: Vec<Kept>,
    /// Newcomers refused since the start.
    pub refusals: u64,
    /// How long the server has run.
    pub uptime_ms: u64,
    /// A reload was asked for meanwhile.
    pub reload_again: bool,
    /// The monotonic clock when the handing over began, microseconds.
    pub began_us: u64,
    /// Why the executable that was to take over could not; then this is on its way back.
    #[serde(default)]
    pub refused: Option<String>,
}

/// An open file and its name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct File {
    pub fd: RawFd,
    pub path: PathBuf,
}

/// The segment as it goes along.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Table {
    pub fd: RawFd,
    /// Holds the lock that says whose it is.
    pub lock: RawFd,
    pub identity: [u64; 2],
}

/// A listening socket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Listener {
    pub fd: RawFd,
    pub speaks: Speaks,
}

/// [`Transport`], by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Speaks {
    WebSocket,
    Tcp,
}

/// A client of the control socket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Client {
    pub fd: RawFd,
    pub conversation: Conversation,
    /// It waits for the outcome of this upgrade.
    pub asked_for_this: bool,
}

/// A post and who is there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Post {
    pub role: RoleName,
    pub slot: Slot,
    pub occupant: Option<Member>,
    /// Who has left and has not been waited for.
    pub leavers: Vec<Member>,
    /// Until a candidate is started, where the post is empty.
    pub again_in_ms: Option<u64>,
    /// The pause after the next early death.
    pub delay_ms: u64,
    pub deaths: u32,
    /// How long it has had no occupant.
    #[serde(default)]
    pub vacant_ms: Option<u64>,
    /// Candidates that have failed since then.
    #[serde(default)]
    pub failures: u32,
}

/// A child process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Member {
    pub pid: i32,
    pub incarnation: u16,
    /// The master's end of its channel.
    pub channel: RawFd,
    /// How long it has been what it is.
    pub age_ms: u64,
}

/// A connection: row, generation, descriptor, network, slot of the worker. A list, because there are many of them.
pub type Kept = (u32, u32, RawFd, Network, Slot);

impl State {
    /// From the text of one.
    ///
    /// # Errors
    /// A sentence: what in it is not understood.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Head {
            format: u32,
            version: String,
        }
        match serde_json::from_slice(text) {
            Ok(Self { format, .. }) if format != FORMAT => Err(other_format(format)),
            Ok(state) => Ok(state),
            Err(error) => Err(match serde_json::from_slice(text) {
                Ok(Head { format, .. }) if format != FORMAT => other_format(format),
                Ok(Head { version, .. }) => {
                    format!(
                        "what the master of version {version} hands over cannot be read: {error}"
                    )
                }
                Err(_) => format!("this is not what a master hands over: {error}"),
            }),
        }
    }

    /// Whether it fits the table and itself.
    ///
    /// # Errors
    /// A sentence.
    pub fn check(&self, table: &shm_table::Table) -> Result<(), String> {
        let slots = usize::from(table.slots());
        if self.doorbells.len() != slots {
            let count = self.doorbells.len();
            return Err(format!("{count} doorbells for {slots} process slots"));
        }
        let mut filled = HashSet::new();
        for post in &self.posts {
            if usize::from(post.slot) >= slots || !filled.insert(post.slot) {
                return Err(format!("no post can have the slot {}", post.slot));
            }
        }
        let mut rows = vec![false; table.capacity().sessions as usize];
        for &(row, _, _, _, worker) in &self.vault {
            let taken = rows.get_mut(row as usize);
            let fits = taken.is_some_and(|taken| !std::mem::replace(taken, true));
            if !fits || !filled.contains(&worker) {
                return Err(format!(
                    "no connection can have the row {row} and the slot {worker}"
                ));
            }
        }
        let mut named = HashSet::new();
        if let Some(twice) = self.numbers().find(|number| !named.insert(*number)) {
            return Err(format!("descriptor {twice} comes along for two things"));
        }
        let mut numbers = self.descriptors.clone();
        numbers.sort_unstable();
        match self
            .numbers()
            .find(|number| numbers.binary_search(number).is_err())
        {
            Some(number) => Err(format!("descriptor {number} does not come along")),
            None => Ok(()),
        }
    }

    /// Every number that stands anywhere but in the list.
    fn numbers(&self) -> impl Iterator<Item = RawFd> {
        let members = self
            .posts
            .iter()
            .flat_map(|p| p.occupant.iter().chain(&p.leavers));
        [
            self.memory,
            self.previous,
            self.image.fd,
            self.pid_file.fd,
            self.control.fd,
        ]
        .into_iter()
        .chain(self.table.iter().flat_map(|table| [table.fd, table.lock]))
        .chain(self.log)
        .chain(self.kept_config.iter().map(|file| file.fd))
        .chain(self.listeners.iter().map(|l| l.fd))
        .chain(self.clients.iter().map(|c| c.fd))
        .chain(self.doorbells.iter().copied())
        .chain(members.map(|m| m.channel))
        .chain(self.vault.iter().map(|kept| kept.2))
    }
}

fn other_format(format: u32) -> String {
    format!(
        "the master hands over in format {format}, and this executable (version {}) takes over in format {FORMAT}; stop and start the server",
        env!("CARGO_PKG_VERSION")
    )
}

impl From<Transport> for Speaks {
    fn from(transport: Transport) -> Self {
        match transport {
            Transport::WebSocket => Self::WebSocket,
            Transport::Tcp => Self::Tcp,
        }
    }
}

impl From<Speaks> for Transport {
    fn from(speaks: Speaks) -> Self {
        match speaks {
            Speaks::WebSocket => Self::WebSocket,
            Speaks::Tcp => Self::Tcp,
        }
    }
}

/// The monotonic clock, which all processes share, in microseconds.
pub fn monotonic_us() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// A time span for the state.
pub fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use shm_table::Capacity;

    fn member(pid: i32, channel: RawFd) -> Member {
        Member {
            pid,
            incarnation: 3,
            channel,
            age_ms: 70_000,
        }
    }

    fn file(fd: RawFd, path: &str) -> File {
        File {
            fd,
            path: path.into(),
        }
    }

    /// Slots 0 to 5: a timer and two workers, of which one is dead.
    pub(crate) fn state() -> State {
        let post = |role, slot, occupant: Option<Member>| Post {
            role,
            slot,
            again_in_ms: occupant.is_none().then_some(1_600),
            occupant,
            leavers: Vec::new(),
            delay_ms: 3_200,
            deaths: 5,
            vacant_ms: Some(2_500),
            failures: 3,
        };
        let mut config = Config::default();
        config.limits.refusals = 7;
        State {
            format: FORMAT,
            version: "1.2.3".into(),
            config,
            source: Source::new(Some("/etc/steadfast.toml".as_ref()), true),
            executable: "/usr/bin/steadfast".into(),
            segment: "steadfast-x".into(),
            table: Some(Table {
                fd: 28,
                lock: 29,
                identity: [u64::MAX, 1],
            }),
            descriptors: (3..30).collect(),
            memory: 3,
            previous: 4,
            image: file(5, "/usr/bin/steadfast"),
            listeners: vec![
                Listener {
                    fd: 6,
                    speaks: Speaks::WebSocket,
                },
                Listener {
                    fd: 7,
                    speaks: Speaks::Tcp,
                },
            ],
            pid_file: file(8, "/run/steadfast.pid"),
            made_folder: true,
            control: file(9, "/run/steadfast.sock"),
            log: Some(21),
            kept_config: Some(file(23, "/etc/steadfast.toml")),
            clients: vec![Client {
                fd: 10,
                conversation: Conversation::default(),
                asked_for_this: true,
            }],
            doorbells: (11..17).collect(),
            posts: vec![
                post(RoleName::Timer, 1, Some(member(100, 17))),
                post(RoleName::Worker, 4, Some(member(101, 18))),
                Post {
                    leavers: vec![member(102, 19)],
                    ..post(RoleName::Worker, 5, None)
                },
            ],
            vault: vec![
                (0, 1, 20, network("10.0.0.1:1"), 4),
                (3, 7, 22, network("[fe80::1]:1"), 5),
            ],
            refusals: 12,
            uptime_ms: 1 << 40,
            reload_again: true,
            began_us: u64::MAX,
            refused: None,
        }
    }

    /// Of a table that this state fits.
    pub(crate) fn capacity() -> Capacity {
        Capacity {
            sessions: 4,
            arena_bytes: 1 << 20,
            groups: 4,
            memberships: 4,
            workers: 2,
            hosts: 0,
        }
    }

    fn network(address: &str) -> Network {
        let address: std::net::SocketAddr = address.parse().unwrap();
        Network::of(address.ip())
    }

    #[test]
    fn it_survives_its_text() {
        for refused in [None, Some("why".to_owned())] {
            let state = State { refused, ..state() };
            let text = serde_json::to_vec(&state).unwrap();
            assert_eq!(State::parse(&text).unwrap(), state);
        }
    }

    #[test]
    fn what_another_version_wrote_is_read_or_refused_with_the_reason() {
        let text = |change: fn(&mut serde_json::Value)| {
            let mut value = serde_json::to_value(state()).unwrap();
            change(&mut value);
            State::parse(value.to_string().as_bytes())
        };
        assert_eq!(text(|v| v["of_tomorrow"] = 1.into()).unwrap(), state());
        let by_name = text(|v| drop(v.as_object_mut().unwrap().remove("table"))).unwrap();
        assert_eq!(by_name.table, None);
        assert_eq!(
            text(|v| v["config"]["limits"]["of_tomorrow"] = 1.into()).unwrap(),
            state()
        );
        let reasons = [
            (text(|v| v["format"] = 99.into()), "format 99"),
            (
                text(|v| *v = serde_json::json!({"format": 99, "version": "9"})),
                "format 99",
            ),
            (text(|v| v["vault"] = "full".into()), "version 1.2.3"),
            (
                text(|v| *v = serde_json::json!({})),
                "not what a master hands over",
            ),
        ];
        for (outcome, part) in reasons {
            let reason = outcome.unwrap_err();
            assert!(reason.contains(part), "no {part:?} in {reason}");
        }
    }

    #[test]
    fn what_does_not_fit_the_table_or_itself_is_refused() {
        let table = shm_table::Table::private(&capacity());
        assert_eq!(state().check(&table), Ok(()));
        let changes: [fn(&mut State); 11] = [
            |s| s.control.fd = s.pid_file.fd,
            |s| s.doorbells.truncate(5),
            |s| s.posts[0].slot = 6,
            |s| s.posts[0].slot = 4,
            |s| s.vault[1].0 = 4,
            |s| s.vault[1].0 = 0,
            |s| s.vault[1].4 = 3,
            |s| s.descriptors.retain(|&number| number != 19),
            |s| s.descriptors.retain(|&number| number != 29),
            |s| s.log = Some(30),
            |s| s.kept_config = Some(file(30, "x")),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut state = state();
            change(&mut state);
            assert!(state.check(&table).is_err(), "change {number}");
        }
    }
}
