//! Where Redis or Valkey is, in each form in which `cluster.redis` may say it, and how to reach it.
//!
//! | form | |
//! | --- | --- |
//! | `redis://[user:password@]host:port[/database]` | one server |
//! | `redis+cluster://[user:password@]a:port,b:port` | a cluster, found through any of these |
//! | `redis+sentinel://[user:password@]a:port,b:port/name[/database]` | the server that the sentinels name as master `name` |
//!
//! `rediss` instead of `redis` is the same over TLS, to sentinels too; user and password are those of the servers, not of sentinels.

use std::path::Path;
use std::time::Duration;

use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::io::tcp::TcpSettings;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{AsyncConnectionConfig, Client, ConnectionAddr, TlsCertificates, TlsMode};

use crate::connection::Connection;

/// How long the search for the master may take at least, in which sentinels may be asked in vain.
const LIMIT: Duration = Duration::from_secs(2);

/// An address that was understood.
#[derive(Clone, Debug)]
pub struct Server {
    form: Form,
    tls: bool,
    ca: Option<Vec<u8>>,
    user: Option<String>,
    password: Option<String>,
    database: i64,
}

#[derive(Clone, Debug)]
enum Form {
    Single {
        address: String,
    },
    Cluster {
        nodes: Vec<String>,
    },
    Sentinel {
        sentinels: Vec<(String, u16)>,
        name: String,
    },
}

impl Server {
    /// Understands an address. `tls_ca_file`: the authorities to trust instead of the well-known ones.
    ///
    /// # Errors
    /// A sentence: what is wrong with the address, or that the file cannot be read.
    pub fn new(address: &str, tls_ca_file: Option<&Path>) -> Result<Self, String> {
        let wrong = |what: &str| format!("cluster.redis: {what}");
        let (scheme, rest) = address
            .split_once("://")
            .ok_or_else(|| wrong("an address begins with redis:// or rediss://"))?;
        let (scheme, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
        let tls = match scheme {
            "redis" | "valkey" => false,
            "rediss" | "valkeys" => true,
            _ => return Err(wrong("an address begins with redis:// or rediss://")),
        };
        let (login, places) = rest.rsplit_once('@').unwrap_or(("", rest));
        let (user, password) = match login.split_once(':') {
            Some((user, password)) => (user, password),
            None => (login, ""),
        };
        let (hosts, path) = places.split_once('/').unwrap_or((places, ""));
        let hosts: Vec<&str> = hosts.split(',').filter(|host| !host.is_empty()).collect();
        if hosts.is_empty() {
            return Err(wrong("it names no host"));
        }
        let (form, database) = match kind {
            "" if hosts.len() > 1 => {
                return Err(wrong(
                    "several hosts need redis+cluster:// or redis+sentinel://",
                ));
            }
            "" => {
                let address = hosts.first().copied().unwrap_or_default().to_owned();
                (Form::Single { address }, path)
            }
            "cluster" => {
                let nodes = hosts.into_iter().map(str::to_owned).collect();
                (Form::Cluster { nodes }, "")
            }
            "sentinel" => {
                let (name, database) = path.split_once('/').unwrap_or((path, ""));
                if name.is_empty() {
                    return Err(wrong("redis+sentinel:// ends in / and the master's name"));
                }
                let sentinels = hosts
                    .into_iter()
                    .map(|host| host_and_port(host, 26379))
                    .collect::<Option<_>>()
                    .ok_or_else(|| wrong("a port is not a number"))?;
                let name = name.to_owned();
                (Form::Sentinel { sentinels, name }, database)
            }
            _ => return Err(wrong("behind redis may stand +cluster or +sentinel")),
        };
        let database = match database.trim_matches('/') {
            "" => 0,
            number => number
                .parse()
                .map_err(|_| wrong("the database is not a number"))?,
        };
        let ca = match tls_ca_file.filter(|_| tls) {
            Some(path) => Some(std::fs::read(path).map_err(|e| {
                format!(
                    "cluster.tls_ca_file: {} cannot be read: {e}",
                    path.display()
                )
            })?),
            None => None,
        };
        if tls {
            // An error says that there is one already, which is as good.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let given = |text: &str| (!text.is_empty()).then(|| decoded(text));
        let server = Server {
            form,
            tls,
            ca,
            user: given(user),
            password: given(password),
            database,
        };
        let cluster = server
            .cluster_builder(LIMIT)
            .map(ClusterClientBuilder::build);
        let tried = match (&server.form, cluster) {
            (Form::Single { .. }, _) => server.single().map(drop),
            (_, Some(cluster)) => cluster.map(drop),
            _ => Ok(()),
        };
        tried.map_err(|error| wrong(&error.to_string()))?;
        Ok(server)
    }

    /// True for a cluster: its channels are sharded, and a command is for one key's server.
    pub fn is_cluster(&self) -> bool {
        matches!(self.form, Form::Cluster { .. })
    }

    /// Connects for commands. Each connection attempt and each answer may take `limit`.
    ///
    /// # Errors
    /// What Redis or the system says.
    pub async fn connect(&self, limit: Duration) -> Result<Connection, String> {
        // By itself: a sentinel that is gone takes its time, whatever the limit.
        let client = tokio::time::timeout(LIMIT + limit, self.node()).await;
        let client = client.map_err(|_| "the sentinels do not answer".to_owned())?;
        let connecting = async {
            if let Some(builder) = self.cluster_builder(limit) {
                let connection = builder.build()?.get_async_connection().await?;
                return Ok(Connection::cluster(connection, limit));
            }
            let config = AsyncConnectionConfig::new()
                .set_connection_timeout(Some(limit))
                .set_response_timeout(Some(limit));
            let client = client?;
            let info = client.get_connection_info().clone();
            let client = Client::open(info.set_tcp_settings(abrupt(limit)))?;
            let connection = client
                .get_multiplexed_async_connection_with_config(&config)
                .await?;
            Ok(Connection::one(connection, limit))
        };
        match tokio::time::timeout(2 * limit, connecting).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(short(&error)),
            Err(_) => Err("it does not answer".into()),
        }
    }

    /// A client of the one server that is written to: of a single server, or of the master that the sentinels name now. For
    /// connections of another kind than [`Self::connect`] makes.
    ///
    /// # Errors
    /// What Redis or the system says; also for a cluster, which has no such server.
    pub async fn client(&self, limit: Duration) -> Result<Client, String> {
        match tokio::time::timeout(limit, self.node()).await {
            Ok(Ok(client)) => {
                let settings = TcpSettings::default().set_nodelay(true);
                let info = client.get_connection_info().clone();
                Client::open(info.set_tcp_settings(settings)).map_err(|e| short(&e))
            }
            Ok(Err(error)) => Err(short(&error)),
            Err(_) => Err("it does not answer".into()),
        }
    }

    /// What makes connections to a cluster; `None` for the other forms.
    pub fn cluster_builder(&self, limit: Duration) -> Option<ClusterClientBuilder> {
        let Form::Cluster { nodes } = &self.form else {
            return None;
        };
        let scheme = if self.tls { "rediss" } else { "redis" };
        let nodes = nodes.iter().map(|node| format!("{scheme}://{node}"));
        let mut builder = ClusterClient::builder(nodes)
            .connection_timeout(limit)
            .response_timeout(limit)
            .retries(2)
            .tcp_settings(abrupt(limit));
        if let Some(user) = &self.user {
            builder = builder.username(user);
        }
        if let Some(password) = &self.password {
            builder = builder.password(password);
        }
        if self.tls {
            builder = builder.tls(TlsMode::Secure);
        }
        if let Some(ca) = &self.ca {
            builder = builder.certs(certificates(ca));
        }
        Some(builder)
    }

    async fn node(&self) -> redis::RedisResult<Client> {
        let (sentinels, name) = match &self.form {
            Form::Single { .. } => return self.single(),
            Form::Sentinel { sentinels, name } => (sentinels, name),
            Form::Cluster { .. } => {
                return Err(redis::RedisError::from((
                    redis::ErrorKind::InvalidClientConfig,
                    "a cluster has no one server",
                )));
            }
        };
        let addresses = sentinels.iter().map(|(host, port)| match self.tls {
            false => ConnectionAddr::Tcp(host.clone(), *port),
            true => ConnectionAddr::TcpTls {
                host: host.clone(),
                port: *port,
                insecure: false,
                tls_params: None,
            },
        });
        let mut builder = SentinelClientBuilder::new(
            addresses.collect::<Vec<_>>(),
            name.clone(),
            SentinelServerType::Master,
        )?
        .set_client_to_redis_db(self.database);
        if let Some(user) = &self.user {
            builder = builder.set_client_to_redis_username(user);
        }
        if let Some(password) = &self.password {
            builder = builder.set_client_to_redis_password(password);
        }
        if self.tls {
            builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
        }
        if let Some(ca) = &self.ca {
            builder = builder
                .set_client_to_redis_certificates(certificates(ca))
                .set_client_to_sentinel_certificates(certificates(ca));
        }
        builder.build()?.async_get_client().await
    }

    fn single(&self) -> redis::RedisResult<Client> {
        let Form::Single { address } = &self.form else {
            return Err(redis::RedisError::from((
                redis::ErrorKind::InvalidClientConfig,
                "it is not a single server",
            )));
        };
        let scheme = if self.tls { "rediss" } else { "redis" };
        let login = match (&self.user, &self.password) {
            (None, None) => String::new(),
            (user, password) => format!(
                "{}:{}@",
                encoded(user.as_deref().unwrap_or_default()),
                encoded(password.as_deref().unwrap_or_default())
            ),
        };
        let address = format!("{scheme}://{login}{address}/{}", self.database);
        match &self.ca {
            Some(ca) => Client::build_with_tls(address, certificates(ca)),
            None => Client::open(address),
        }
    }
}

/// For a connection that is given up when it does not answer: what was not sent by then shall not arrive later, when other connections have
/// said something else.
fn abrupt(limit: Duration) -> TcpSettings {
    TcpSettings::default()
        .set_nodelay(true)
        .set_linger_time(Duration::ZERO)
        .set_user_timeout(2 * limit)
}

fn certificates(ca: &[u8]) -> TlsCertificates {
    TlsCertificates {
        client_tls: None,
        root_cert: Some(ca.to_vec()),
    }
}

fn host_and_port(text: &str, otherwise: u16) -> Option<(String, u16)> {
    match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            Some((host.to_owned(), port.parse().ok()?))
        }
        _ => Some((text.to_owned(), otherwise)),
    }
}

/// An error as one short sentence.
pub(crate) fn short(error: &redis::RedisError) -> String {
    let text = error.to_string();
    let words: Vec<&str> = text.split_whitespace().take(24).collect();
    words.join(" ")
}

/// Percent encoding (RFC 3986 section 2.1) of everything but letters and digits.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// The reverse; what is not well-formed stays as it is.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let code = text
            .get(at + 1..at + 3)
            .filter(|_| byte == b'%')
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        out.push(code.unwrap_or(byte));
        at += if code.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(address: &str) -> Server {
        Server::new(address, None).unwrap()
    }

    #[test]
    fn the_forms() {
        let one = server("redis://ada:p%40ss@127.0.0.1:6380/3");
        assert!(matches!(&one.form, Form::Single { address } if address == "127.0.0.1:6380"));
        assert_eq!(
            (one.user.as_deref(), one.password.as_deref(), one.database),
            (Some("ada"), Some("p@ss"), 3)
        );
        let only_password = server("redis://:secret@h:1");
        assert_eq!(only_password.user, None);
        assert_eq!(only_password.password.as_deref(), Some("secret"));
        let cluster = server("rediss+cluster://a:1,b:2");
        assert!(cluster.tls && cluster.is_cluster());
        let sentinel = server("redis+sentinel://a:1,b,[::1]:3/main/2");
        let Form::Sentinel { sentinels, name } = &sentinel.form else {
            panic!("{sentinel:?}")
        };
        assert_eq!(name, "main");
        assert_eq!(sentinel.database, 2);
        assert_eq!(
            *sentinels,
            [("a".into(), 1), ("b".into(), 26379), ("::1".into(), 3)]
        );
    }

    #[test]
    fn what_is_none() {
        for address in [
            "",
            "127.0.0.1",
            "http://h",
            "redis://",
            "redis://a,b",
            "redis+ring://a",
            "redis+sentinel://a",
            "redis+sentinel://a:x/m",
            "redis://h/x",
        ] {
            let error = Server::new(address, None).unwrap_err();
            assert!(error.starts_with("cluster.redis: "), "{address}: {error}");
        }
        let path = Path::new("/nonexistent/ca.pem");
        let error = Server::new("rediss://h", Some(path)).unwrap_err();
        assert!(error.contains("/nonexistent/ca.pem"), "{error}");
    }
}
