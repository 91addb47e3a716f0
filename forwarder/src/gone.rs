//! Hosts that were connected and are gone: after a lease their entries are cleared out of the directory.

use bus::relay::{Connected, Watch};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::cli::Cli;

/// Most hosts whose death is remembered.
const GONE_MAX: usize = 1024;

/// Watches until the forwarder ends. Err: the directory's address can never work.
pub fn watch(
    _cli: &Cli,
    mut watch: Watch,
    lease: Duration,
) -> Result<impl Future<Output = ()> + use<>, String> {
    Ok(async move {
        let mut gone = Gone::default();
        let mut tick = interval(lease / 4);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = watch.changed() => gone.look(watch.connected(), Instant::now()),
                _ = tick.tick() => {
                    for host in gone.due(lease, Instant::now()) {
                        tracing::info!("host {} (boot {}) has been gone for a lease", host.host, host.boot);
                    }
                }
            }
        }
    })
}

/// Who was connected, and since when who no longer is.
#[derive(Default)]
struct Gone {
    connected: BTreeSet<Connected>,
    since: BTreeMap<Connected, Instant>,
}

impl Gone {
    fn look(&mut self, connected: BTreeSet<Connected>, now: Instant) {
        for host in self.connected.difference(&connected) {
            if self.since.len() < GONE_MAX {
                self.since.insert(host.clone(), now);
            }
        }
        self.since.retain(|host, _| !connected.contains(host));
        self.connected = connected;
    }

    /// Takes out who has been gone for a lease.
    fn due(&mut self, lease: Duration, now: Instant) -> Vec<Connected> {
        let due: Vec<_> = self
            .since
            .iter()
            .filter(|(_, since)| now.duration_since(**since) >= lease)
            .map(|(host, _)| host.clone())
            .collect();
        for host in &due {
            self.since.remove(host);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_back_is_not_gone_and_another_life_is_another_host() {
        let host = |boot: &str| Connected {
            host: "a".into(),
            boot: boot.into(),
        };
        let (start, lease) = (Instant::now(), Duration::from_secs(1));
        let mut gone = Gone::default();
        gone.look([host("1")].into(), start);
        gone.look([].into(), start);
        gone.look([host("1")].into(), start);
        assert!(gone.due(lease, start + lease).is_empty());
        gone.look([host("2")].into(), start);
        assert!(gone.due(lease, start + lease / 2).is_empty());
        assert_eq!(gone.due(lease, start + lease), [host("1")]);
        assert!(gone.due(lease, start + lease).is_empty());
    }
}
