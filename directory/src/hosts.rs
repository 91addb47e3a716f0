//! The lease, and who else holds one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use redis::{Cmd, Value};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::cleaning;
use crate::connection::Connection;
use crate::keeper::Keeper;
use crate::keys::{fields, number, text, texts};
use crate::shared::Shared;
use crate::{Event, Host};

/// What a lease says, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lease {
    pub boot: String,
    pub since: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mesh: Option<String>,
}

/// Whether this host is in the cluster.
pub enum Entering {
    Entered,
    NameTaken,
}

/// What is known of hosts.
#[derive(Default)]
pub struct Hosts {
    /// Unix milliseconds when this host came.
    since_ms: u64,
    /// The task that cleans after a dead one.
    cleaning: Option<tokio::task::JoinHandle<()>>,
}

pub(crate) fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}

pub(crate) fn read_lease(value: &Value) -> Option<Lease> {
    serde_json::from_str(&text(value)?).ok()
}

impl Shared {
    fn write_lease(&self, since: u64) -> Cmd {
        let lease = Lease {
            boot: self.settings.boot.clone(),
            since,
            mesh: self.wanted().mesh.clone(),
        };
        let mut set = Cmd::set(
            self.keys.lease(&self.settings.node),
            // A structure of texts always has a JSON form.
            serde_json::to_string(&lease).unwrap_or_default(),
        );
        set.arg("PX").arg(milliseconds(self.settings.lease));
        set
    }
}

pub(crate) fn milliseconds(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis())
        .unwrap_or(u64::MAX)
        .max(1)
}

impl Keeper {
    /// Takes the lease, unless another host of this name lives.
    pub async fn enter(&mut self, connection: &Connection) -> Result<Entering, String> {
        let settings = &self.shared.settings;
        let lease = self.shared.keys.lease(&settings.node);
        let held = read_lease(&connection.one_of(Cmd::get(&lease)).await?);
        let ours = held.as_ref().is_some_and(|l| l.boot == settings.boot);
        if let Some(held) = held.filter(|_| !ours) {
            // Left by one who is dead, or held by one who lives? That one renews it within a third of a lease.
            let ask = || Cmd::pttl(&lease);
            let before = number(connection.one_of(ask()).await?).unwrap_or(0);
            sleep(settings.lease * 2 / 5).await;
            let after = number(connection.one_of(ask()).await?).unwrap_or(0);
            let now = read_lease(&connection.one_of(Cmd::get(&lease)).await?);
            let same = now.is_some_and(|l| l.boot == held.boot);
            if same && after + milliseconds(settings.lease) / 5 > before {
                return Ok(Entering::NameTaken);
            }
        }
        if self.hosts.since_ms == 0 {
            self.hosts.since_ms = unix_ms();
        }
        let life = format!("{}/{}", settings.node, settings.boot);
        let hosts = self.shared.keys.hosts();
        connection
            .one_of(Cmd::hset(hosts, life, self.hosts.since_ms))
            .await?;
        connection
            .one_of(self.shared.write_lease(self.hosts.since_ms))
            .await?;
        // Whoever cleans after us, because our lease was over, sees it now and stops.
        let cleaning = self.shared.keys.cleaning(&settings.node, &settings.boot);
        while number(connection.one_of(Cmd::exists(&cleaning)).await?) == Some(1) {
            sleep(self.shared.limit() / 8).await;
        }
        self.measure_clock(connection).await?;
        Ok(Entering::Entered)
    }

    /// Holds the lease for another while. False: it was over, or it is somebody else's, and the directory is to be entered anew.
    pub async fn renew(&mut self, connection: &Connection) -> Result<bool, String> {
        let lease = self.shared.keys.lease(&self.shared.settings.node);
        let held = read_lease(&connection.one_of(Cmd::get(lease)).await?);
        if held.is_none_or(|lease| lease.boot != self.shared.settings.boot) {
            tracing::warn!("the lease was over, or another host has this name: entering anew");
            return Ok(false);
        }
        connection
            .one_of(self.shared.write_lease(self.hosts.since_ms))
            .await?;
        self.measure_clock(connection).await?;
        Ok(true)
    }

    async fn measure_clock(&self, connection: &Connection) -> Result<(), String> {
        let before = unix_ms();
        let answer = connection.one_of(redis::cmd("TIME")).await?;
        let after = unix_ms();
        if let [seconds, micros] = texts(&answer).as_slice()
            && let (Ok(seconds), Ok(micros)) = (seconds.parse::<u64>(), micros.parse::<u64>())
        {
            let theirs = seconds * 1000 + micros / 1000;
            let ours = before + after.saturating_sub(before) / 2;
            self.shared.set_clock_offset_ms(theirs as i64 - ours as i64);
        }
        Ok(())
    }

    /// Looks who lives, tells who came and went, and has one of the dead cleaned after.
    pub async fn look_at_hosts(&mut self, connection: &Connection) -> Result<(), String> {
        let Lives { living, dead } = lives(&self.shared.keys, connection).await?;
        let settings = &self.shared.settings;
        let known = Arc::clone(&self.shared.hosts.borrow());
        let mut now = BTreeMap::new();
        for (name, lease) in living {
            if name == settings.node {
                continue;
            }
            let host = Host {
                boot: lease.boot,
                mesh: lease.mesh,
                since_ms: lease.since,
            };
            now.insert(name, host);
        }
        for (name, host) in known.iter() {
            if now.get(name).is_none_or(|n| n.boot != host.boot) {
                let _ = self.events.send(Event::Gone(name.clone()));
            }
        }
        for (name, host) in &now {
            if known.get(name).is_none_or(|k| k.boot != host.boot) {
                let _ = self.events.send(Event::Came(name.clone()));
            }
        }
        if now != *known {
            self.shared.hosts.send_replace(Arc::new(now));
        }
        let busy = self.hosts.cleaning.as_ref();
        if !dead.is_empty() && busy.is_none_or(|task| task.is_finished()) {
            let connection = connection.clone();
            let shared = Arc::clone(&self.shared);
            self.hosts.cleaning = Some(tokio::spawn(async move {
                let cleaner = cleaning::Cleaner {
                    keys: &shared.keys,
                    lease: shared.settings.lease,
                    last_seen: shared.settings.last_seen,
                    name: &shared.settings.node,
                };
                for (host, boot) in dead {
                    if host == shared.settings.node && boot == shared.settings.boot {
                        continue;
                    }
                    match cleaner.clean(&connection, &host, &boot).await {
                        Ok(None) => {}
                        Ok(Some(entries)) => {
                            tracing::info!(host, boot, entries, "cleaned after a dead host");
                        }
                        Err(why) => {
                            tracing::warn!(host, boot, why, "cannot clean after a dead host");
                            return;
                        }
                    }
                }
            }));
        }
        Ok(())
    }

    /// Takes the last traces of this host out.
    pub async fn depart(&mut self, connection: &Connection) -> Result<(), String> {
        let settings = &self.shared.settings;
        let keys = &self.shared.keys;
        let life = format!("{}/{}", settings.node, settings.boot);
        for command in [
            Cmd::del(keys.index(&settings.node, &settings.boot)),
            Cmd::hdel(keys.hosts(), life),
            Cmd::del(keys.lease(&settings.node)),
        ] {
            connection.one_of(command).await?;
        }
        Ok(())
    }
}

/// The hosts of a cluster.
pub(crate) struct Lives {
    /// By name.
    pub living: BTreeMap<String, Lease>,
    /// Host and boot of those who may have left something.
    pub dead: Vec<(String, String)>,
}

/// Asks who lives and who does not.
pub(crate) async fn lives(
    keys: &crate::keys::Keys,
    connection: &Connection,
) -> Result<Lives, String> {
    let all = fields(&connection.one_of(Cmd::hgetall(keys.hosts())).await?);
    let lives: Vec<(String, String)> = all
        .into_iter()
        .filter_map(|(life, _)| {
            let (host, boot) = life.rsplit_once('/')?;
            Some((host.to_owned(), boot.to_owned()))
        })
        .collect();
    let ask = lives.iter().map(|(host, _)| Cmd::get(keys.lease(host)));
    let leases = connection.run(ask.collect()).await?;
    let mut living = BTreeMap::new();
    let mut dead = Vec::new();
    for ((host, boot), lease) in lives.into_iter().zip(&leases) {
        match read_lease(lease) {
            Some(lease) if lease.boot == boot => {
                living.insert(host, lease);
            }
            _ => dead.push((host, boot)),
        }
    }
    Ok(Lives { living, dead })
}
