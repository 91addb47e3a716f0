//! The rules a configuration keeps, beyond each value being of the right kind.

use std::collections::HashSet;
use std::net::SocketAddr;

use crate::types::{AuthMode, Bus, Config, WORKERS_MAX};

/// A key and what is wrong with its value.
type Fault = (&'static str, String);

/// Longest name of a node or a user, as in the protocol.
const NAME_BYTES_MAX: usize = 64;
const LISTENERS_MAX: usize = 16;
/// Every address that takes part in a connection is compared with each of them.
const PROXIES_MAX: usize = 256;
const HOSTS_MAX: usize = 100;
const ADMINS_MAX: usize = 1_000;
const ORIGINS_MAX: usize = 100;
/// Settings travel to the roles in one packet.
const JSON_BYTES_MAX: usize = 100 * 1024;

const HOUR_MS: u64 = 3_600_000;
const MIB: u64 = 1 << 20;

impl Config {
    /// Everything in it that breaks a rule; empty when it may be used.
    pub(crate) fn faults(&self) -> Vec<Fault> {
        let mut faults = self.out_of_range();
        self.check_server(&mut faults);
        self.check_memory(&mut faults);
        self.check_auth(&mut faults);
        self.check_api(&mut faults);
        if self.cluster.enabled {
            self.check_cluster(&mut faults);
        }
        faults
    }

    fn out_of_range(&self) -> Vec<Fault> {
        let (server, table, limits) = (&self.server, &self.table, &self.limits);
        [
            (
                "server.workers",
                u64::from(server.workers),
                0,
                u64::from(WORKERS_MAX),
            ),
            (
                "server.watchdog_ms",
                server.watchdog_ms.into(),
                1_000,
                600_000,
            ),
            (
                "server.handover_ms",
                server.handover_ms.into(),
                100,
                600_000,
            ),
            ("server.abandon_ms", server.abandon_ms.into(), 100, HOUR_MS),
            (
                "diagnostics.fail_slot",
                self.diagnostics.fail_slot.into(),
                0,
                63,
            ),
            ("server.pause_ms", server.pause_ms.into(), 10, 60_000),
            ("table.sessions", table.sessions.into(), 1, 4_000_000),
            ("table.arena_mib", table.arena_mib.into(), 1, 65_536),
            ("table.groups", table.groups.into(), 1, 4_000_000),
            (
                "table.memberships",
                table.memberships.into(),
                1,
                100_000_000,
            ),
            (
                "limits.login_timeout_ms",
                limits.login_timeout_ms.into(),
                100,
                HOUR_MS,
            ),
            (
                "limits.heartbeat_timeout_ms",
                limits.heartbeat_timeout_ms.into(),
                100,
                24 * HOUR_MS,
            ),
            (
                "limits.handshake_timeout_ms",
                limits.handshake_timeout_ms.into(),
                100,
                HOUR_MS,
            ),
            (
                "limits.drain_timeout_ms",
                limits.drain_timeout_ms.into(),
                100,
                HOUR_MS,
            ),
            (
                "limits.message_bytes",
                limits.message_bytes.into(),
                128,
                64 * MIB,
            ),
            (
                "limits.outbox_bytes",
                limits.outbox_bytes,
                4_096,
                1_024 * MIB,
            ),
            (
                "limits.messages_per_second",
                limits.messages_per_second.into(),
                0,
                1_000_000,
            ),
            (
                "limits.message_burst",
                limits.message_burst.into(),
                0,
                1_000_000,
            ),
            (
                "limits.rate_limit_strikes",
                limits.rate_limit_strikes.into(),
                1,
                1_000_000,
            ),
            (
                "limits.groups_per_session",
                limits.groups_per_session.into(),
                1,
                65_536,
            ),
            (
                "limits.presence_users",
                limits.presence_users.into(),
                1,
                100_000,
            ),
            ("limits.refusals", limits.refusals.into(), 0, 4_096),
            (
                "cluster.lease_ms",
                self.cluster.lease_ms.into(),
                1_000,
                HOUR_MS,
            ),
            (
                "cluster.queue_bytes",
                self.cluster.queue_bytes,
                65_536,
                1_024 * MIB,
            ),
            ("cluster.questions", self.cluster.questions.into(), 1, 4_096),
            ("cluster.hosts", self.cluster.hosts.into(), 1, 255),
            (
                "cluster.last_seen_ms",
                self.cluster.last_seen_ms,
                1_000,
                365 * 24 * HOUR_MS,
            ),
        ]
        .into_iter()
        .filter(|(_, value, least, most)| !(least..=most).contains(&value))
        .map(|(key, value, least, most)| {
            (key, format!("{value} is not between {least} and {most}"))
        })
        .collect()
    }

    fn check_server(&self, faults: &mut Vec<Fault>) {
        let server = &self.server;
        if let Some(fault) = name_fault(&server.node) {
            faults.push(("server.node", fault));
        }
        if server.pid_file.file_name().is_none() {
            faults.push(("server.pid_file", "it must name a file".into()));
        }
        // The control socket and a daemon's log lie beside it under these names.
        if server
            .pid_file
            .extension()
            .is_some_and(|e| e == "sock" || e == "log")
        {
            faults.push((
                "server.pid_file",
                "its name must not end in .sock or .log".into(),
            ));
        }
        if server.websocket.is_empty() && server.tcp.is_empty() {
            faults.push((
                "server.websocket",
                "with no listener at all, here or in server.tcp, nobody can connect".into(),
            ));
        }
        if server.proxies.len() > PROXIES_MAX {
            faults.push((
                "server.proxies",
                format!("more than {PROXIES_MAX} networks"),
            ));
        }
        if server.hosts.len() > HOSTS_MAX {
            faults.push(("server.hosts", format!("more than {HOSTS_MAX} names")));
        }
        if let Some(host) = server.hosts.iter().find(|host| !is_host(host)) {
            faults.push((
                "server.hosts",
                format!("{host:?} is not a host; one looks like \"chat.example.org\", without scheme, port and path, or is \"*\""),
            ));
        }
        let mut seen = HashSet::new();
        for (key, addresses) in [
            ("server.websocket", &server.websocket),
            ("server.tcp", &server.tcp),
        ] {
            if addresses.len() > LISTENERS_MAX {
                faults.push((key, format!("more than {LISTENERS_MAX} addresses")));
            }
            for address in addresses {
                if address.port() != 0 && !seen.insert(address) {
                    faults.push((key, format!("{address} is listed twice")));
                }
            }
            self.check_open(key, addresses, faults);
        }
    }

    fn check_open(&self, key: &'static str, addresses: &[SocketAddr], faults: &mut Vec<Fault>) {
        let open = self.auth.mode == AuthMode::Open && !self.auth.allow_open;
        if let Some(address) = addresses.iter().find(|a| open && !a.ip().is_loopback()) {
            faults.push((
                key,
                format!(
                    "{address} can be reached from other machines, and with auth.mode = \"open\" anybody there could log in as anybody; \
                     if that is meant, set auth.allow_open = true"
                ),
            ));
        }
    }

    fn check_memory(&self, faults: &mut Vec<Fault>) {
        let arena_bytes = u64::from(self.table.arena_mib) * MIB;
        let message_bytes = u64::from(self.limits.message_bytes);
        if message_bytes > arena_bytes / 4 {
            faults.push((
                "limits.message_bytes",
                format!(
                    "{message_bytes} is more than a quarter of the arena (table.arena_mib = {})",
                    self.table.arena_mib
                ),
            ));
        }
        if self.limits.outbox_bytes < message_bytes {
            faults.push((
                "limits.outbox_bytes",
                format!(
                    "{} is less than one message (limits.message_bytes = {message_bytes})",
                    self.limits.outbox_bytes
                ),
            ));
        }
    }

    fn check_auth(&self, faults: &mut Vec<Fault>) {
        let auth = &self.auth;
        if auth.mode == AuthMode::Jwt {
            faults.push((
                "auth.mode",
                "\"jwt\" is not available in this version; use \"open\"".into(),
            ));
        }
        if auth.admins.len() > ADMINS_MAX {
            faults.push(("auth.admins", format!("more than {ADMINS_MAX} names")));
        }
        if let Some(fault) = auth.admins.iter().find_map(|name| name_fault(name)) {
            faults.push(("auth.admins", fault));
        }
        if auth.origins.len() > ORIGINS_MAX {
            faults.push(("auth.origins", format!("more than {ORIGINS_MAX} origins")));
        }
        if let Some(origin) = auth.origins.iter().find(|origin| !is_origin(origin)) {
            faults.push((
                "auth.origins",
                format!("{origin:?} is not an origin; one looks like \"https://chat.example.org\", without a path, or is \"*\""),
            ));
        }
        if serde_json::to_string(self).map_or(0, |json| json.len()) > JSON_BYTES_MAX {
            faults.push((
                "auth.admins",
                format!("the whole configuration is larger than {JSON_BYTES_MAX} bytes"),
            ));
        }
    }

    fn check_cluster(&self, faults: &mut Vec<Fault>) {
        let cluster = &self.cluster;
        let missing = |key: &'static str, faults: &mut Vec<Fault>| {
            let bus = match cluster.bus {
                Bus::Redis => "redis",
                Bus::Rabbitmq => "rabbitmq",
                Bus::Forwarder => "forwarder",
                Bus::Mesh => "mesh",
            };
            faults.push((key, format!("cluster.bus = \"{bus}\" needs it")));
        };
        if cluster.redis.is_empty() {
            faults.push((
                "cluster.redis",
                "a cluster needs a directory: the address of a Redis or Valkey".into(),
            ));
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if !(1..=64).contains(&cluster.namespace.len()) || !cluster.namespace.chars().all(plain) {
            faults.push((
                "cluster.namespace",
                "it must be 1 to 64 letters, digits, '-', '_' or '.'".into(),
            ));
        }
        if !self.server.node.chars().all(plain) {
            faults.push((
                "server.node",
                "in a cluster it must consist of letters, digits, '-', '_' and '.'".into(),
            ));
        }
        let timeout_ms = u64::from(cluster.timeout_ms);
        if timeout_ms != 0 && !(100..=HOUR_MS).contains(&timeout_ms) {
            faults.push((
                "cluster.timeout_ms",
                format!("{timeout_ms} is neither 0 nor between 100 and {HOUR_MS}"),
            ));
        }
        match cluster.bus {
            Bus::Redis => {}
            Bus::Rabbitmq if cluster.rabbitmq.is_empty() => missing("cluster.rabbitmq", faults),
            Bus::Rabbitmq => {}
            Bus::Forwarder if cluster.forwarder.is_empty() => missing("cluster.forwarder", faults),
            Bus::Mesh if cluster.mesh_listen.is_empty() => missing("cluster.mesh_listen", faults),
            Bus::Forwarder | Bus::Mesh => {}
        }
        if matches!(cluster.bus, Bus::Forwarder | Bus::Mesh) && cluster.secret.0.is_empty() {
            missing("cluster.secret", faults);
        }
        if cluster.bus == Bus::Mesh && cluster.mesh_listen.starts_with("tls://") {
            if cluster.tls_cert_file.as_os_str().is_empty() {
                missing("cluster.tls_cert_file", faults);
            }
            if cluster.tls_key_file.as_os_str().is_empty() {
                missing("cluster.tls_key_file", faults);
            }
        }
    }

    fn check_api(&self, faults: &mut Vec<Fault>) {
        if self.api.listen.is_empty() {
            return;
        }
        match self.api.listen.parse::<SocketAddr>() {
            Err(_) => faults.push((
                "api.listen",
                format!("{:?} is not an address with a port", self.api.listen),
            )),
            Ok(address) if self.api.token.0.is_empty() && !address.ip().is_loopback() => {
                faults.push((
                    "api.listen",
                    format!("{address} is not loopback, and api.token is empty"),
                ));
            }
            Ok(_) => {}
        }
    }
}

fn name_fault(name: &str) -> Option<String> {
    let fits = (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control);
    (!fits).then(|| {
        format!("{name:?} is not a name: 1 to {NAME_BYTES_MAX} bytes without control characters")
    })
}

fn is_host(text: &str) -> bool {
    let address = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let is_name = |text: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        (1..=253).contains(&text.len()) && text.bytes().all(plain)
    };
    text == "*" || address.map_or(is_name(text), |it| it.parse::<std::net::Ipv6Addr>().is_ok())
}

fn is_origin(text: &str) -> bool {
    if text == "*" {
        return true;
    }
    let Some((scheme, host)) = text.split_once("://") else {
        return false;
    };
    !scheme.is_empty()
        && !host.is_empty()
        && text.len() <= 300
        && !text.chars().any(|c| c.is_whitespace() || c.is_control())
        && !host.contains(['/', '?', '#', '@'])
}
