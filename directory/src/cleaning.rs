//! After the death of a host: what it left is removed, by one of those who live, field by field, each only if it is still of that
//! life of the host. In small batches, so that Redis is never held up, and so that another can go on where one has died.

use std::time::Duration;

use redis::Cmd;

use crate::connection::Connection;
use crate::hosts::{lives, milliseconds, read_lease};
use crate::keys::{Key, Keys, number, texts};

/// Fields that are removed at a time.
const BATCH: u32 = 256;

/// Removes a field if its value names the life it is to be of.
const REMOVE: &str = "local v = redis.call('HGET', KEYS[1], ARGV[1]) \
    if v and string.find(v, ARGV[2], 1, true) then return redis.call('HDEL', KEYS[1], ARGV[1]) end return 0";

/// Who cleans.
#[derive(Clone, Copy, Debug)]
pub struct Cleaner<'a> {
    /// The keys of the cluster.
    pub keys: &'a Keys,
    /// The lease of the cluster: so long a cleaner that died keeps others from its work.
    pub lease: Duration,
    /// How long it is remembered when users were last seen.
    pub last_seen: Duration,
    /// The cleaner's own name, for people who look.
    pub name: &'a str,
}

/// Who counts as dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    /// Whose name another life of the host has.
    Replaced,
    /// And whose lease is over. To be said on a connection that has worked for a lease at least: where Redis stood still or lost everything,
    /// every lease is over and nobody is dead.
    AllSilent,
}

/// How the cleaning after one life of a host ended.
enum End {
    /// Everything is removed: so many fields.
    Done(u64),
    /// The host is back.
    Back,
    /// It took so long that the lock was over, and somebody else may go on.
    Overtaken,
}

impl Cleaner<'_> {
    /// Cleans after hosts that are dead: how many fields were removed. For a forwarder, or anybody else who is no host.
    ///
    /// # Errors
    /// A sentence; the rest is left for the next time.
    pub async fn clean_all(&self, connection: &Connection, whom: Whom) -> Result<u64, String> {
        let lives = lives(self.keys, connection, std::iter::empty()).await?;
        let mut dead = lives.replaced;
        if whom == Whom::AllSilent {
            dead.extend(lives.silent);
        }
        let mut entries = 0;
        for (host, boot) in dead {
            entries += self.clean(connection, &host, &boot).await?.unwrap_or(0);
        }
        Ok(entries)
    }

    /// Cleans after one life of a host whose lease is over, if nobody else does: how many fields were removed. `None`: somebody else
    /// does, or the host is back.
    ///
    /// # Errors
    /// A sentence; the rest is left for the next time.
    pub async fn clean(
        &self,
        connection: &Connection,
        host: &str,
        boot: &str,
    ) -> Result<Option<u64>, String> {
        let lock = self.keys.cleaning(host, boot);
        let mut take = Cmd::set(&lock, self.name);
        take.arg("NX").arg("PX").arg(milliseconds(self.lease));
        if connection.one_of(take).await? == redis::Value::Nil {
            return Ok(None);
        }
        let end = self.remove_all(connection, host, boot, &lock).await?;
        // After an error the lock is kept: it ends by itself, and somebody tries again.
        if !matches!(end, End::Overtaken) {
            connection.one_of(Cmd::del(&lock)).await?;
        }
        Ok(match end {
            End::Done(removed) => Some(removed),
            End::Back | End::Overtaken => None,
        })
    }

    async fn remove_all(
        &self,
        connection: &Connection,
        host: &str,
        boot: &str,
        lock: &str,
    ) -> Result<End, String> {
        let index = self.keys.index(host, boot);
        let lease_ms = i64::try_from(milliseconds(self.lease)).unwrap_or(i64::MAX);
        let mut removed = 0;
        loop {
            let mut some = redis::cmd("SRANDMEMBER");
            some.arg(&index).arg(BATCH);
            let members = texts(&connection.one_of(some).await?);
            // Last, so that as little as possible lies between this look and what follows from it.
            let held = connection.one_of(Cmd::pexpire(lock, lease_ms)).await?;
            if number(held) != Some(1) {
                return Ok(End::Overtaken);
            }
            let lease = read_lease(&connection.one_of(Cmd::get(self.keys.lease(host))).await?);
            if lease.is_some_and(|lease| lease.boot == boot) {
                return Ok(End::Back);
            }
            if members.is_empty() {
                break;
            }
            removed += self.remove(connection, &members, host, boot).await?;
            connection.one_of(Cmd::srem(&index, members)).await?;
        }
        let life = format!("{host}/{boot}");
        connection
            .one_of(Cmd::hdel(self.keys.hosts(), life))
            .await?;
        Ok(End::Done(removed))
    }

    async fn remove(
        &self,
        connection: &Connection,
        members: &[String],
        host: &str,
        boot: &str,
    ) -> Result<u64, String> {
        let keys: Vec<Key> = members.iter().filter_map(|m| Key::of_member(m)).collect();
        let commands = keys.iter().map(|key| {
            let mut remove = redis::cmd("EVAL");
            remove
                .arg(REMOVE)
                .arg(1)
                .arg(self.keys.hash(key))
                .arg(host)
                .arg(boot);
            remove
        });
        let answers = connection.run(commands.collect()).await?;
        let now_ms = connection.now_ms(&self.keys.hosts()).await?;
        let mut removed = 0;
        let mut seen = Vec::new();
        for (key, answer) in keys.iter().zip(answers) {
            if number(answer) != Some(1) {
                continue;
            }
            removed += 1;
            if let Key::User(user) = key {
                let mut set = Cmd::set(self.keys.seen(user), now_ms);
                set.arg("PX").arg(milliseconds(self.last_seen));
                seen.push(set);
            }
        }
        if !seen.is_empty() {
            connection.run(seen).await?;
        }
        Ok(removed)
    }
}
