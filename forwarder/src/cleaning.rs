//! The entries of dead hosts are cleared out of the directory, even if no host is left that could do it.
//!
//! Who is dead says the directory: a host whose lease is over. That a connection here is gone says less, since the host may be connected to other
//! forwarders; it is looked at more often then, that is all.

use bus::relay::Watch;
use directory::{
    Connection, Keys, Server,
    cleaning::{Cleaner, Whom},
};
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::cli::Cli;

/// Longest wait for an answer of the directory.
const LIMIT: Duration = Duration::from_secs(2);

/// Cleans until the forwarder ends; nothing without `--redis`. Err: an address that can never work, a sentence.
pub fn keep(
    cli: &Cli,
    watch: Watch,
    name: String,
) -> Result<impl Future<Output = ()> + use<>, String> {
    let server = cli
        .redis
        .as_deref()
        .map(|address| Server::new(address, cli.tls_ca.as_deref()))
        .transpose()?;
    let keeper = Keeper {
        keys: Keys::new(&cli.namespace),
        lease: Duration::from_millis(cli.lease_ms),
        last_seen: Duration::from_millis(cli.last_seen_ms),
        name,
    };
    Ok(async move {
        match server {
            Some(server) => keeper.run(&server, watch).await,
            None => std::future::pending().await,
        }
    })
}

struct Keeper {
    keys: Keys,
    lease: Duration,
    last_seen: Duration,
    name: String,
}

impl Keeper {
    async fn run(&self, server: &Server, mut watch: Watch) {
        let mut tick = interval(self.lease / 2);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut connection = None;
        let (mut away, mut connected) = (false, watch.connected());
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = watch.changed() => {
                    let now = watch.connected();
                    if now.is_superset(&connected) {
                        connected = now;
                        continue;
                    }
                    connected = now;
                    // By then its lease is over, if it is dead.
                    tick.reset_after(self.lease);
                    continue;
                }
            }
            let cleaned = self.clean(server, &mut connection).await;
            if let Err(why) = &cleaned
                && !away
            {
                tracing::warn!("the directory is away, so entries of dead hosts stay: {why}");
            } else if cleaned.is_ok() && away {
                tracing::info!("the directory is back");
            }
            away = cleaned.is_err();
        }
    }

    async fn clean(
        &self,
        server: &Server,
        connection: &mut Option<(Connection, Instant)>,
    ) -> Result<(), String> {
        let (current, since) = match connection.take() {
            Some(current) => current,
            None => (server.connect(LIMIT).await?, Instant::now()),
        };
        let cleaner = Cleaner {
            keys: &self.keys,
            lease: self.lease,
            last_seen: self.last_seen,
            name: &self.name,
        };
        let whom = if since.elapsed() < self.lease {
            Whom::Replaced
        } else {
            Whom::AllSilent
        };
        let entries = cleaner.clean_all(&current, whom).await?;
        if entries > 0 {
            tracing::info!("{entries} entries of dead hosts were cleared out of the directory");
        }
        // Kept only while it works.
        *connection = Some((current, since));
        Ok(())
    }
}
