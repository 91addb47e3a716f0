//! Writing what has changed, in batches, and reading what others have under the same keys.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use redis::Cmd;

use crate::connection::Connection;
use crate::hosts::milliseconds;
use crate::keeper::Keeper;
use crate::keys::{Key, entries, number, text, texts};
use crate::{Entry, Event};

/// Keys that are written at a time.
const BATCH: usize = 256;

/// What this process has written, and read beside it. Only to tell news from repetition.
#[derive(Default)]
pub struct Written {
    keys: HashMap<Key, Hashes>,
}

struct Hashes {
    /// Of the own value.
    own: u64,
    /// Of all fields of other hosts, in any order, if they are known.
    others: Option<u64>,
}

pub fn hash_of(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

impl Written {
    /// Notes what was written under a key and what others have there. Whether each is new.
    pub fn note(&mut self, key: &Key, node: &str, value: &str, entries: &[Entry]) -> (bool, bool) {
        let others = entries.iter().filter(|entry| entry.host != node);
        let others = others.map(|entry| hash_of((&entry.host, &entry.value)));
        let now = Hashes {
            own: hash_of(value),
            others: Some(others.fold(0, u64::wrapping_add)),
        };
        let (own, others) = (now.own, now.others);
        match self.keys.insert(key.clone(), now) {
            Some(was) => (was.own != own, was.others != others),
            None => (true, true),
        }
    }

    /// Notes that nothing is known of what others have.
    pub fn forget_others(&mut self) {
        for hashes in self.keys.values_mut() {
            hashes.others = None;
        }
    }

    /// Notes that nothing is known of a key.
    pub fn forget(&mut self, key: &Key) {
        self.keys.remove(key);
    }
}

impl Keeper {
    /// Notes that nothing is known to be there.
    pub fn write_everything_again(&mut self) {
        let mut wanted = self.shared.wanted();
        let keys: Vec<Key> = wanted.entries.keys().cloned().collect();
        wanted.changed.extend(keys);
    }

    /// Finds what the directory has of this host and should not.
    pub async fn find_stale(&mut self, connection: &Connection) -> Result<(), String> {
        let settings = &self.shared.settings;
        let index = self.shared.keys.index(&settings.node, &settings.boot);
        let mut cursor = "0".to_owned();
        loop {
            let mut scan = redis::cmd("SSCAN");
            scan.arg(&index).arg(&cursor).arg("COUNT").arg(512);
            let redis::Value::Array(answer) = connection.one_of(scan).await? else {
                return Ok(());
            };
            let mut wanted = self.shared.wanted();
            for member in answer.get(1).map(texts).unwrap_or_default() {
                if let Some(key) = Key::of_member(&member)
                    && !wanted.entries.contains_key(&key)
                {
                    wanted.changed.insert(key);
                }
            }
            drop(wanted);
            cursor = answer.first().and_then(text).unwrap_or_default();
            if cursor.is_empty() || cursor == "0" {
                return Ok(());
            }
        }
    }

    /// Writes some of what has changed. True: there is more.
    pub async fn write_some(&mut self, connection: &Connection) -> Result<bool, String> {
        let (batch, more) = self.take_changed();
        if batch.is_empty() {
            return Ok(false);
        }
        if let Err(why) = self.write_batch(connection, &batch).await {
            // Nobody knows what of it was done.
            let keys = batch.into_iter().map(|(key, _)| key);
            self.shared.wanted().changed.extend(keys);
            return Err(why);
        }
        Ok(more)
    }

    fn take_changed(&self) -> (Vec<(Key, Option<String>)>, bool) {
        let mut wanted = self.shared.wanted();
        let mut batch = Vec::new();
        while batch.len() < BATCH
            && let Some(key) = wanted.changed.pop()
        {
            let value = wanted.entries.get(&key).cloned();
            batch.push((key, value));
        }
        (batch, !wanted.changed.is_empty())
    }

    async fn write_batch(
        &mut self,
        connection: &Connection,
        batch: &[(Key, Option<String>)],
    ) -> Result<(), String> {
        let settings = &self.shared.settings;
        let keys = &self.shared.keys;
        let index = keys.index(&settings.node, &settings.boot);
        // The index first, and removed from last: whatever happens in between, it names everything that is there.
        let begun: Vec<String> = batch
            .iter()
            .filter(|(_, value)| value.is_some())
            .map(|(key, _)| key.member())
            .collect();
        if !begun.is_empty() {
            connection.one_of(Cmd::sadd(&index, begun)).await?;
        }
        let now_ms = self.shared.now_ms();
        let mut commands = Vec::with_capacity(batch.len());
        for (key, value) in batch {
            let hash = keys.hash(key);
            commands.push(match value {
                Some(value) => Cmd::hset(hash, &settings.node, value),
                None => Cmd::hdel(hash, &settings.node),
            });
        }
        let seen = batch.iter().filter_map(|(key, value)| match (key, value) {
            (Key::User(user), None) => {
                let mut set = Cmd::set(keys.seen(user), now_ms);
                set.arg("PX").arg(milliseconds(settings.last_seen));
                Some(set)
            }
            _ => None,
        });
        // Before the field goes, so that a user is here or was seen at every moment.
        let seen: Vec<Cmd> = seen.collect();
        if !seen.is_empty() {
            connection.run(seen).await?;
        }
        let written = connection.run(commands).await?;
        let read = batch.iter().map(|(key, _)| keys.read(key)).collect();
        let read = connection.run(read).await?;
        let ended: Vec<String> = batch
            .iter()
            .filter(|(_, value)| value.is_none())
            .map(|(key, _)| key.member())
            .collect();
        if !ended.is_empty() {
            connection.one_of(Cmd::srem(&index, ended)).await?;
        }
        for (((key, value), written), read) in batch.iter().zip(written).zip(&read) {
            let key = key.clone();
            let entries = entries(read);
            let event = match value {
                Some(value) => {
                    let (changed, _) = self.written.note(&key, &settings.node, value, &entries);
                    let news = changed || number(written) == Some(1);
                    Event::Written { key, news, entries }
                }
                None => {
                    self.written.forget(&key);
                    Event::Removed { key, entries }
                }
            };
            // Whoever listened may have gone.
            let _ = self.events.send(event);
        }
        Ok(())
    }
}
