//! The built-in defaults: what a server runs on when nothing is written down.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use crate::types::{
    Api, Auth, AuthMode, Bus, Cluster, Limits, LogFormat, LogLevel, Names, SameUser, Secret,
    Server, Table,
};

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

impl Default for Server {
    fn default() -> Self {
        Self {
            node: "local".into(),
            websocket: vec![loopback(9501)],
            tcp: vec![loopback(9502)],
            workers: 0,
            pid_file: "run/steadfast.pid".into(),
            log_file: PathBuf::new(),
            log_level: LogLevel::Info,
            log_format: LogFormat::Text,
            user: String::new(),
            proxies: Vec::new(),
            hosts: Vec::new(),
            watchdog_ms: 5_000,
            handover_ms: 2_000,
            abandon_ms: 10_000,
            pause_ms: 250,
        }
    }
}

impl Default for Table {
    fn default() -> Self {
        Self {
            sessions: 10_000,
            arena_mib: 64,
            groups: 4_096,
            memberships: 65_536,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            login_timeout_ms: 10_000,
            heartbeat_timeout_ms: 60_000,
            handshake_timeout_ms: 5_000,
            drain_timeout_ms: 5_000,
            message_bytes: 65_536,
            outbox_bytes: 1_048_576,
            messages_per_second: 100,
            message_burst: 500,
            rate_limit_strikes: 20,
            connections_per_ip: 1_000,
            sessions_per_user: 64,
            same_user: SameUser::Many,
            groups_per_session: 256,
            presence_users: 1_000,
            refusals: 64,
            strict_content: true,
            names: Names::Safe,
        }
    }
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            mode: AuthMode::Open,
            allow_open: false,
            jwt_secret: Secret::default(),
            jwt_public_key_file: PathBuf::new(),
            jwks_file: PathBuf::new(),
            jwt_audience: String::new(),
            jwt_issuer: String::new(),
            admins: Vec::new(),
            origins: Vec::new(),
        }
    }
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            enabled: false,
            redis: "redis://127.0.0.1:6379".into(),
            namespace: "steadfast".into(),
            bus: Bus::Redis,
            rabbitmq: String::new(),
            forwarder: Vec::new(),
            mesh_listen: String::new(),
            mesh_advertise: String::new(),
            secret: Secret::default(),
            lease_ms: 10_000,
            timeout_ms: 5_000,
            queue_bytes: 16_777_216,
            questions: 64,
            hosts: 32,
            last_seen_ms: 604_800_000,
            tls_ca_file: PathBuf::new(),
            tls_cert_file: PathBuf::new(),
            tls_key_file: PathBuf::new(),
        }
    }
}

impl Default for Api {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:9503".into(),
            token: Secret::default(),
        }
    }
}
