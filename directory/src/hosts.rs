//! The lease, and who else holds one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use redis::{Cmd, Value};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use crate::cleaning;
use crate::connection::Connection;
use crate::keeper::Keeper;
use crate::keys::{Keys, fields, number, text};
use crate::shared::Shared;
use crate::writing::{Written, hash_of};
use crate::{Event, Host, Reading};

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
    /// When this host came, in Unix milliseconds of the directory's clock; 0 before that.
    since_ms: u64,
    /// When the lease was last taken, after a time without.
    entered: Option<Instant>,
    /// A hash of all lives that were named, living or not.
    lives: Option<u64>,
    /// The hosts of which a life was named since the lease was last taken.
    named: BTreeSet<String>,
    /// The task that cleans after a dead one.
    cleaning: Option<tokio::task::JoinHandle<()>>,
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

    /// Says that this life of this host may have left something.
    fn name_life(&self, since: u64) -> Cmd {
        let life = format!("{}/{}", self.settings.node, self.settings.boot);
        Cmd::hset(self.keys.hosts(), life, since)
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
            self.hosts.since_ms = connection.now_ms(&self.shared.keys.hosts()).await?;
        }
        let since = self.hosts.since_ms;
        if !ours {
            // For the others this host was gone, so all that it has is news to them, whether or not it is still there.
            self.written = Written::default();
        }
        // Whoever cleans after us, because our lease was over, sees the new one and stops.
        let cleaning = self.shared.keys.cleaning(&settings.node, &settings.boot);
        loop {
            let commands = vec![self.shared.name_life(since), self.shared.write_lease(since)];
            connection.run(commands).await?;
            if number(connection.one_of(Cmd::exists(&cleaning)).await?) != Some(1) {
                break;
            }
            sleep(self.shared.limit() / 8).await;
        }
        // The last that a cleaner does is to remove this.
        connection.one_of(self.shared.name_life(since)).await?;
        self.hosts.entered = Some(Instant::now());
        self.hosts.named.clear();
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
        let since = self.hosts.since_ms;
        // Only if it is there still: were it over in this moment, others may have seen that, and this host has to enter like one that comes.
        let mut renew = self.shared.write_lease(since);
        renew.arg("XX");
        if connection.one_of(renew).await? == Value::Nil {
            return Ok(false);
        }
        connection.one_of(self.shared.name_life(since)).await?;
        self.measure_clock(connection).await?;
        Ok(true)
    }

    /// Reads the directory's clock.
    pub async fn measure_clock(&mut self, connection: &Connection) -> Result<(), String> {
        let clock = self.shared.settings.clock;
        let before = clock();
        let theirs = connection.now_ms(&self.shared.keys.hosts()).await?;
        let after = clock();
        let ahead_of = |ours: u64| theirs as i64 - ours as i64;
        // Each time is in whole milliseconds, of which a part may have passed.
        self.shared.reading.send_replace(Some(Reading {
            at_ms: after,
            least_ahead_ms: ahead_of(after) - 1,
            most_ahead_ms: ahead_of(before) + 1,
        }));
        Ok(())
    }

    /// Whether lives have come or gone since this was last asked. One command, so that it can be asked often.
    pub async fn have_lives_changed(&mut self, connection: &Connection) -> Result<bool, String> {
        let hosts = self.shared.keys.hosts();
        let mut lives = fields(&connection.one_of(Cmd::hgetall(hosts)).await?);
        lives.sort_unstable();
        let now = Some(hash_of(lives));
        Ok(std::mem::replace(&mut self.hosts.lives, now) != now)
    }

    /// Looks who lives, tells who came and went, and has one of the dead cleaned after.
    pub async fn look_at_hosts(&mut self, connection: &Connection) -> Result<(), String> {
        let settings = &self.shared.settings;
        let known = Arc::clone(&self.shared.hosts.borrow());
        let Lives {
            living,
            named,
            replaced,
            silent,
        } = lives(&self.shared.keys, connection, known.keys()).await?;
        // Where Redis stood still or lost everything, every lease is over at once, and nobody is dead. So each gets the time of a lease to
        // come back, from when this host came back.
        let early = self.hosts.entered;
        let early = early.is_none_or(|entered| entered.elapsed() < settings.lease);
        let mut now: BTreeMap<String, Host> = BTreeMap::new();
        if early {
            // Unless it has left: it was named, and is not any more, while this host still is.
            let left = |name: &String| {
                let was_named = self.hosts.named.contains(name);
                was_named && !named.contains(name) && named.contains(&settings.node)
            };
            let kept = known.iter().filter(|(name, _)| !left(name));
            now.extend(kept.map(|(name, host)| (name.clone(), host.clone())));
        }
        self.hosts.named.extend(named);
        for (name, lease) in living {
            let host = Host {
                boot: lease.boot,
                mesh: lease.mesh,
                since_ms: lease.since,
            };
            now.insert(name, host);
        }
        now.remove(&settings.node);
        for (name, host) in known.iter() {
            if now.get(name).is_none_or(|n| n.boot != host.boot) {
                let _ = self.events.send(Event::Gone(name.clone()));
            }
        }
        for (name, host) in &now {
            if known.get(name).is_none_or(|k| k.boot != host.boot) {
                let _ = self.events.send(Event::Came(name.clone()));
                // Whoever listened may have forgotten what it has.
                self.written.forget_others();
            }
        }
        if now != *known {
            self.shared.hosts.send_replace(Arc::new(now));
        }
        let mut dead = replaced;
        if !early {
            dead.extend(silent);
        }
        dead.retain(|(host, boot)| (host, boot) != (&settings.node, &settings.boot));
        self.clean(connection, dead);
        Ok(())
    }

    /// Begins to clean after the dead, unless that is being done.
    fn clean(&mut self, connection: &Connection, dead: Vec<(String, String)>) {
        let busy = self.hosts.cleaning.as_ref();
        if dead.is_empty() || busy.is_some_and(|task| !task.is_finished()) {
            return;
        }
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

    /// Takes the last traces of this host out.
    pub async fn depart(&mut self, connection: &Connection) -> Result<(), String> {
        let settings = &self.shared.settings;
        let keys = &self.shared.keys;
        let life = format!("{}/{}", settings.node, settings.boot);
        for command in [
            Cmd::del(keys.index(&settings.node, &settings.boot)),
            Cmd::del(keys.lease(&settings.node)),
            // By this others see it.
            Cmd::hdel(keys.hosts(), life),
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
    /// All that may have left something.
    pub named: BTreeSet<String>,
    /// Host and boot of those who may have left something, and whose name another life of the host has.
    pub replaced: Vec<(String, String)>,
    /// The same of those whose lease is over, and nobody has another.
    pub silent: Vec<(String, String)>,
}

/// Asks who lives and who does not, of those who have come, and of those who are known to have.
pub(crate) async fn lives<'k>(
    keys: &Keys,
    connection: &Connection,
    known: impl Iterator<Item = &'k String>,
) -> Result<Lives, String> {
    let all = fields(&connection.one_of(Cmd::hgetall(keys.hosts())).await?);
    let lives: Vec<(String, String)> = all
        .into_iter()
        .filter_map(|(life, _)| {
            let (host, boot) = life.rsplit_once('/')?;
            Some((host.to_owned(), boot.to_owned()))
        })
        .collect();
    let mut names: BTreeSet<&String> = known.collect();
    names.extend(lives.iter().map(|(host, _)| host));
    let ask = names.iter().map(|host| Cmd::get(keys.lease(host)));
    let leases = connection.run(ask.collect()).await?;
    let living: BTreeMap<String, Lease> = names
        .into_iter()
        .zip(&leases)
        .filter_map(|(host, lease)| Some((host.clone(), read_lease(lease)?)))
        .collect();
    let named = lives.iter().map(|(host, _)| host.clone()).collect();
    let (mut replaced, mut silent) = (Vec::new(), Vec::new());
    for (host, boot) in lives {
        match living.get(&host) {
            Some(lease) if lease.boot == boot => {}
            Some(_) => replaced.push((host, boot)),
            None => silent.push((host, boot)),
        }
    }
    Ok(Lives {
        living,
        named,
        replaced,
        silent,
    })
}
