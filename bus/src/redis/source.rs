//! Where Redis or Valkey is: one server, the master that Sentinel names, or a Cluster.

use redis::{
    AsyncConnectionConfig, Client, IntoConnectionInfo, TlsCertificates,
    cluster::ClusterClientBuilder,
};
use std::{path::Path, time::Duration};

use crate::wire::Broken;

/// The forms of `cluster.redis`.
pub(super) enum Source {
    One(Client),
    Sentinel(Sentinel),
    Cluster {
        nodes: Vec<String>,
        certificates: Option<TlsCertificates>,
    },
}

pub(super) struct Sentinel {
    sentinels: Vec<Client>,
    /// What the master is called there.
    name: String,
    /// What stands before and behind the master's address.
    before: String,
    behind: String,
    certificates: Option<TlsCertificates>,
}

impl Source {
    /// Err: a sentence, without the password.
    pub(super) fn parse(text: &str, ca_file: &Path) -> Result<Self, String> {
        let wrong = "cluster.redis is not an address like \"redis://host:6379\", \"redis+cluster://a:6379,b:6379\" or \"redis+sentinel://a:26379,b:26379/name-of-the-master\"";
        let (scheme, rest) = text.split_once("://").ok_or(wrong)?;
        let (base, form) = scheme.split_once('+').unwrap_or((scheme, ""));
        if !matches!(base, "redis" | "rediss") {
            return Err(wrong.into());
        }
        let certificates = certificates(ca_file)?;
        let (who, rest) = rest
            .rsplit_once('@')
            .map_or((String::new(), rest), |(who, rest)| {
                (format!("{who}@"), rest)
            });
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        let hosts = hosts.split(',').filter(|host| !host.is_empty());
        let fault = |error| format!("{wrong}: {error}");
        match form {
            "" => client(text, certificates.as_ref())
                .map(Self::One)
                .map_err(fault),
            "cluster" => {
                let nodes: Vec<_> = hosts.map(|host| format!("{base}://{who}{host}")).collect();
                let source = Self::Cluster {
                    nodes,
                    certificates,
                };
                source.cluster()?.build().map_err(fault)?;
                Ok(source)
            }
            "sentinel" => {
                let sentinels =
                    hosts.map(|host| client(&format!("{base}://{host}"), certificates.as_ref()));
                let sentinels = sentinels.collect::<Result<Vec<_>, _>>().map_err(fault)?;
                let (name, database) = path.split_once('/').unwrap_or((path, ""));
                if name.is_empty() || sentinels.is_empty() {
                    return Err(wrong.into());
                }
                let (before, behind) = (format!("{base}://{who}"), format!("/{database}"));
                client(
                    &format!("{before}127.0.0.1:1{behind}"),
                    certificates.as_ref(),
                )
                .map_err(fault)?;
                Ok(Self::Sentinel(Sentinel {
                    sentinels,
                    name: name.into(),
                    before,
                    behind,
                    certificates,
                }))
            }
            _ => Err(wrong.into()),
        }
    }

    /// For a cluster only.
    pub(super) fn cluster(&self) -> Result<ClusterClientBuilder, String> {
        let Self::Cluster {
            nodes,
            certificates,
        } = self
        else {
            return Err("this is no cluster".into());
        };
        let builder = ClusterClientBuilder::new(nodes.iter().map(String::as_str));
        Ok(match certificates {
            Some(certificates) => builder.certs(certificates.clone()),
            None => builder,
        })
    }

    /// The server that takes commands now. Not for a cluster.
    pub(super) async fn server(&self, patience: Duration) -> Result<Client, Broken> {
        match self {
            Self::One(client) => Ok(client.clone()),
            Self::Sentinel(sentinel) => sentinel.master(patience).await,
            Self::Cluster { .. } => Err(Broken::Broker("a cluster is no single server".into())),
        }
    }
}

impl Sentinel {
    async fn master(&self, patience: Duration) -> Result<Client, Broken> {
        let mut last = Broken::Broker("no Sentinel is configured".into());
        for sentinel in &self.sentinels {
            match self.ask(sentinel, patience).await {
                Ok(client) => return Ok(client),
                Err(broken) => last = broken,
            }
        }
        Err(last)
    }

    async fn ask(&self, sentinel: &Client, patience: Duration) -> Result<Client, Broken> {
        let mut connection = sentinel
            .get_multiplexed_async_connection_with_config(&config(patience))
            .await
            .map_err(broken)?;
        let master: Option<(String, u16)> = redis::cmd("SENTINEL")
            .arg("GET-MASTER-ADDR-BY-NAME")
            .arg(&self.name)
            .query_async(&mut connection)
            .await
            .map_err(broken)?;
        let (host, port) = master.ok_or_else(|| {
            Broken::Broker(format!("Sentinel knows no master called {}", self.name))
        })?;
        let host = if host.contains(':') {
            format!("[{host}]")
        } else {
            host
        };
        client(
            &format!("{}{host}:{port}{}", self.before, self.behind),
            self.certificates.as_ref(),
        )
        .map_err(broken)
    }
}

/// Time limits of a connection.
pub(super) fn config(patience: Duration) -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(patience))
        .set_response_timeout(Some(patience))
}

/// What Redis or the way to it says, as a sentence's end.
pub(super) fn broken(error: redis::RedisError) -> Broken {
    Broken::Broker(error.to_string())
}

fn client(url: &str, certificates: Option<&TlsCertificates>) -> redis::RedisResult<Client> {
    let info = url.into_connection_info()?;
    match certificates {
        Some(certificates) if url.starts_with("rediss") => {
            Client::build_with_tls(info, certificates.clone())
        }
        _ => Client::open(info),
    }
}

fn certificates(ca_file: &Path) -> Result<Option<TlsCertificates>, String> {
    if ca_file.as_os_str().is_empty() {
        return Ok(None);
    }
    let pem = std::fs::read(ca_file).map_err(|error| {
        format!(
            "the certificates in {} cannot be read: {error}",
            ca_file.display()
        )
    })?;
    Ok(Some(TlsCertificates {
        client_tls: None,
        root_cert: Some(pem),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_an_address() {
        let parse = |text: &str| Source::parse(text, Path::new(""));
        assert!(matches!(parse("redis://u:p@a:6379/2"), Ok(Source::One(_))));
        assert!(matches!(parse("rediss://a"), Ok(Source::One(_))));
        assert!(
            matches!(parse("redis+cluster://u:p@a:1,b:2"), Ok(Source::Cluster { nodes, .. }) if nodes == ["redis://u:p@a:1", "redis://u:p@b:2"])
        );
        assert!(
            matches!(parse("rediss+sentinel://:p@a:1,b:2/main/3"), Ok(Source::Sentinel(Sentinel { name, behind, .. })) if name == "main" && behind == "/3")
        );
        for text in [
            "",
            "a:1",
            "http://a",
            "redis+more://a",
            "redis+sentinel://a:1",
            "redis+sentinel:///main",
            "redis+cluster://",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(
            Source::parse("rediss://a", Path::new("/nowhere/at/all"))
                .is_err_and(|why| why.contains("/nowhere/at/all"))
        );
    }
}
