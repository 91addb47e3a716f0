//! The configuration as values: one struct per section of `config.toml`, one field per key, under the key's own name.
//!
//! A value of [`Config`] that came from [`crate::load`] is complete, inside its ranges, and its paths are absolute.
//! `Default` gives the built-in defaults, which are those of the `config.toml` at the root of the repository (a test holds them together).

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::network::Network;

/// The whole configuration of one server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Listeners, processes, files.
    pub server: Server,
    /// The fixed capacity of the table.
    pub table: Table,
    /// What one client may cost.
    pub limits: Limits,
    /// Who may log in, and from which pages.
    pub auth: Auth,
    /// Other hosts.
    pub cluster: Cluster,
    /// The HTTP API; reserved, not served yet.
    pub api: Api,
    /// Aids for checking an installation.
    pub diagnostics: Diagnostics,
}

/// `[server]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// This host's name, told to clients in `open`; 1 to 64 bytes without control characters.
    pub node: String,
    /// WebSocket and HTTP listeners; port 0 lets the system choose.
    pub websocket: Vec<SocketAddr>,
    /// TCP listeners (JSON lines); empty = off.
    pub tcp: Vec<SocketAddr>,
    /// Worker processes, 0 to [`WORKERS_MAX`]; 0 = one per core. See [`Config::worker_count`].
    pub workers: u8,
    /// The pid file; the control socket lies beside it.
    pub pid_file: PathBuf,
    /// Log file; empty = standard error.
    pub log_file: PathBuf,
    /// Least severe level that is logged.
    pub log_level: LogLevel,
    /// How a log line looks.
    pub log_format: LogFormat,
    /// User to become after binding; empty = stay.
    pub user: String,
    /// Addresses and networks (`10.0.0.0/8`) of proxies that are believed when they say whose connection it is, by the PROXY
    /// protocol or `X-Forwarded-For`.
    pub proxies: Vec<Network>,
    /// Names, besides those of loopback, under which listeners on loopback may be asked for (`Host`), without ports; `*` = any.
    pub hosts: Vec<String>,
    /// A process whose heartbeat is older than this is killed and replaced; milliseconds, 1000 to 600000.
    pub watchdog_ms: u32,
    /// How long a worker's slot may be empty before its connections are handed over to the other workers; milliseconds, 100 to 600000.
    pub handover_ms: u32,
    /// How long connections may have no worker, where there is no other to hand them over to, before they are ended; milliseconds,
    /// 100 to 3600000.
    pub abandon_ms: u32,
    /// How long a process that cannot be merely short of processor time may keep all others waiting; milliseconds, 10 to 60000.
    pub pause_ms: u32,
}

/// `[table]`: fixed at start, reserved in shared memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// Rows: the most connections at one time, 1 to 4000000.
    pub sessions: u32,
    /// Received and outgoing bytes together, in MiB, 1 to 65536.
    pub arena_mib: u32,
    /// Most groups at one time.
    pub groups: u32,
    /// Most memberships (a session in a group) at one time.
    pub memberships: u32,
}

/// `[limits]`: all of them apply live at a reload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// From accept (TCP) or upgrade (WebSocket) to login, ms.
    pub login_timeout_ms: u32,
    /// Silence after which a session is closed, ms.
    pub heartbeat_timeout_ms: u32,
    /// From accept to the end of the WebSocket handshake, ms.
    pub handshake_timeout_ms: u32,
    /// How long a close may take, ms.
    pub drain_timeout_ms: u32,
    /// Largest message of a client after reassembly, bytes.
    pub message_bytes: u32,
    /// Most bytes that what is queued for one session may occupy, in blocks of 256; past it: slow consumer. Less where the arena fills.
    pub outbox_bytes: u64,
    /// Messages a second and session, and all other input at an exchange rate; 0 = off.
    pub messages_per_second: u32,
    /// How many may come at once; 0 = as many as `messages_per_second`.
    pub message_burst: u32,
    /// Refused messages without a calm second between them after which a session is closed (4029).
    pub rate_limit_strikes: u32,
    /// Connections from one address (IPv6: one /64 network, and four times as many from one /48); 0 = off, and with it the shares of an
    /// address in rows, groups and memberships.
    pub connections_per_ip: u32,
    /// Sessions of one user; 0 = off, and with it the shares of a user in groups and memberships.
    pub sessions_per_user: u32,
    /// What a second login of the same user does.
    pub same_user: SameUser,
    /// Groups one session may be in.
    pub groups_per_session: u32,
    /// Users in one `presence` answer.
    pub presence_users: u32,
    /// Refused newcomers that are being told why at one time; past it they are closed at once.
    pub refusals: u32,
    /// Whether `content` that some receivers could not read is refused.
    pub strict_content: bool,
    /// Which names users and groups may have.
    pub names: Names,
}

/// `[auth]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    /// How a login is believed.
    pub mode: AuthMode,
    /// Allows `mode = "open"` on listeners that are not on loopback.
    pub allow_open: bool,
    /// HS256 key; reserved.
    pub jwt_secret: Secret,
    /// PEM file of a public key; reserved.
    pub jwt_public_key_file: PathBuf,
    /// JWKS file; reserved.
    pub jwks_file: PathBuf,
    /// Expected `aud`; reserved.
    pub jwt_audience: String,
    /// Expected `iss`; reserved.
    pub jwt_issuer: String,
    /// User names that may broadcast.
    pub admins: Vec<String>,
    /// Allowed Origin headers; empty = same host only, `*` = any.
    pub origins: Vec<String>,
}

/// `[cluster]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// Whether this host is one of several.
    pub enabled: bool,
    /// Where the directory is: `redis://`, `rediss://`, and with `+cluster` or `+sentinel` behind the scheme's name several servers.
    pub redis: String,
    /// Prefix of every key and channel.
    pub namespace: String,
    /// How messages travel between hosts.
    pub bus: Bus,
    /// Address of RabbitMQ, `amqp://` or `amqps://`.
    pub rabbitmq: String,
    /// Addresses of forwarders, `tcp://host:port` or `tls://host:port`, in the order in which they are preferred.
    pub forwarder: Vec<String>,
    /// Where other hosts of the mesh connect, `tcp://address:port` or `tls://address:port`.
    pub mesh_listen: String,
    /// What other hosts of the mesh are told to connect to; empty = `mesh_listen`.
    pub mesh_advertise: String,
    /// Shared by the hosts of one cluster; every frame between hosts is signed with it. Empty = frames are not signed.
    pub secret: Secret,
    /// A host silent this long is dead, ms.
    pub lease_ms: u32,
    /// How long a message for another host may wait to be taken there, ms; 0 = as long as there is room in the queue.
    pub timeout_ms: u32,
    /// Most bytes that messages occupy that wait to be taken by other hosts, in blocks of 256.
    pub queue_bytes: u64,
    /// Most questions (`who`) that are being answered at a time; others wait for their turn.
    pub questions: u16,
    /// Most other hosts, 1 to 255.
    pub hosts: u8,
    /// How long the directory remembers when a user was last seen, ms.
    pub last_seen_ms: u64,
    /// PEM file of the authorities that are trusted; empty = those that are well known.
    pub tls_ca_file: PathBuf,
    /// PEM file of this host's certificate, for a mesh on `tls://`.
    pub tls_cert_file: PathBuf,
    /// PEM file of the certificate's key.
    pub tls_key_file: PathBuf,
}

/// `[api]`; reserved, not served in this version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Api {
    /// Address of the HTTP API; empty = off.
    pub listen: String,
    /// Bearer token; empty: loopback only.
    pub token: Secret,
}

/// `[diagnostics]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Diagnostics {
    /// Whether the WebSocket path `/echo` exists.
    pub echo: bool,
    /// A worker that handles a message with this text in it dies: to see what a crash costs. Empty = off.
    pub crash_word: String,
    /// Processes that are to follow another in this slot end at their start: to see what a slot costs that cannot be filled. 0 = off.
    pub fail_slot: u8,
    /// Whether `/healthz` says to whoever connects from loopback why it says no.
    pub health_reasons: bool,
    /// The table's clock and counters begin just below where they wrap: to see that nothing minds.
    pub near_wrap: bool,
}

/// `server.log_level`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "each is its own word")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// `server.log_format`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One line for a person.
    Text,
    /// One JSON object a line.
    Json,
}

/// `limits.same_user`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SameUser {
    /// A user may have many sessions.
    Many,
    /// A newer login from the same device replaces the older.
    OnePerDevice,
    /// A newer login replaces the older.
    One,
}

/// `auth.mode`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthMode {
    /// A user is who they say.
    Open,
    /// A signed token says who; not available in this version.
    Jwt,
}

/// `limits.names`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Names {
    /// Those in which everything can be seen; one that is written in two ways (NFC or not) is one name.
    Safe,
    /// Any without control characters.
    Any,
}

/// `cluster.bus`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(
    missing_docs,
    reason = "each is the name of a product or of a section of the design"
)]
pub enum Bus {
    Redis,
    Rabbitmq,
    Forwarder,
    Mesh,
}

/// A text that must not appear in a log: `Debug` hides it.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() {
            "\"\""
        } else {
            "(hidden)"
        })
    }
}

/// Most worker processes. A set of process slots is one 64-bit word, and four slots are taken by the others.
pub const WORKERS_MAX: u8 = 60;

impl Server {
    /// Whether somebody at this address is believed when he says whose connection it is.
    pub fn is_proxy(&self, address: IpAddr) -> bool {
        self.proxies.iter().any(|network| network.contains(address))
    }
}

impl Config {
    /// How many workers to run: `server.workers`, or one per core when that is 0.
    pub fn worker_count(&self) -> u8 {
        if self.server.workers != 0 {
            return self.server.workers.min(WORKERS_MAX);
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        u8::try_from(cores).unwrap_or(WORKERS_MAX).min(WORKERS_MAX)
    }
}
