//! The command line.

use clap::{Parser, ValueEnum};
use std::path::PathBuf;

/// Where the secret is looked for without `--secret-file`.
const SECRET: &str = "STEADFAST_CLUSTER_SECRET";

/// Relays messages between the hosts of a Steadfast cluster that have cluster.bus = "forwarder".
///
/// The secret of the cluster (cluster.secret) is read from the environment variable STEADFAST_CLUSTER_SECRET, or from a file.
#[derive(Debug, Parser)]
#[command(name = "forwarder", version)]
pub struct Cli {
    /// Where hosts connect: tcp://ADDRESS:PORT or tls://ADDRESS:PORT; port 0 lets the system choose
    #[arg(long, value_name = "ADDRESS")]
    pub listen: String,

    /// The directory, like cluster.redis of the hosts; without it, entries of dead hosts are left to the hosts
    #[arg(long, value_name = "URL")]
    pub redis: Option<String>,

    /// Like cluster.namespace of the hosts
    #[arg(long, default_value = "steadfast")]
    pub namespace: String,

    /// A host that is silent for so long is dead, like cluster.lease_ms of the hosts
    #[arg(long, value_name = "MS", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1_000..=3_600_000))]
    pub lease_ms: u64,

    /// How long the directory remembers when a user was last seen, like cluster.last_seen_ms of the hosts
    #[arg(long, value_name = "MS", default_value_t = 604_800_000, value_parser = clap::value_parser!(u64).range(1_000..=31_536_000_000))]
    pub last_seen_ms: u64,

    /// A file whose content, without white space at its end, is the secret
    #[arg(long, value_name = "FILE")]
    pub secret_file: Option<PathBuf>,

    /// PEM file of the certificate, for tls://
    #[arg(long, value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,

    /// PEM file of the certificate's key
    #[arg(long, value_name = "FILE")]
    pub tls_key: Option<PathBuf>,

    /// PEM file of the authorities to trust where the directory uses TLS; without it, the well-known ones
    #[arg(long, value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,

    /// How much is logged, to standard error
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub log_level: LogLevel,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LogLevel {
    /// What makes it end.
    Error,
    /// What somebody should look at.
    Warn,
    /// Who comes and goes.
    Info,
    /// More.
    Debug,
}

impl From<LogLevel> for config::LogLevel {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::Error,
            LogLevel::Warn => Self::Warn,
            LogLevel::Info => Self::Info,
            LogLevel::Debug => Self::Debug,
        }
    }
}

impl Cli {
    /// The secret of the cluster.
    ///
    /// # Errors
    /// A sentence: there is none, or its file cannot be read.
    pub fn secret(&self) -> Result<config::Secret, String> {
        let text = match &self.secret_file {
            Some(file) => std::fs::read_to_string(file).map_err(|error| {
                format!("the secret in {} cannot be read: {error}", file.display())
            })?,
            None => std::env::var(SECRET).unwrap_or_default(),
        };
        let secret = text.trim_end();
        if secret.is_empty() {
            return Err(format!(
                "there is no secret: set {SECRET} or --secret-file to what the hosts have as cluster.secret"
            ));
        }
        Ok(config::Secret(secret.into()))
    }
}
