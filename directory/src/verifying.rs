//! Reading back what is written, a little at a time: a Redis that was not away may still have lost something (a failover within a Redis
//! Cluster, eviction, somebody's `DEL`), or have taken a command that was long on its way.

use redis::Cmd;

use crate::Event;
use crate::connection::Connection;
use crate::keeper::Keeper;
use crate::keys::{Key, entries};

/// Keys that are read at a time.
const BATCH: usize = 128;

/// How far the walk over everything has come.
#[derive(Default)]
pub struct Verifying {
    /// What is still to be read in this round.
    rest: Vec<Key>,
}

impl Keeper {
    /// Reads some of what was written, and notes as changed what is not as it should be. True: that was the last of a round.
    pub async fn verify_some(&mut self, connection: &Connection) -> Result<bool, String> {
        if self.verifying.rest.is_empty() {
            self.verifying.rest = self.shared.wanted().entries.keys().cloned().collect();
        }
        let from = self.verifying.rest.len().saturating_sub(BATCH);
        let batch = self.verifying.rest.split_off(from);
        let settings = &self.shared.settings;
        if !batch.is_empty() {
            // Once more: it costs nothing, and whatever is there has to be in the index.
            let here = {
                let wanted = self.shared.wanted();
                let here = batch.iter().filter(|key| wanted.entries.contains_key(key));
                here.map(Key::member).collect::<Vec<_>>()
            };
            if !here.is_empty() {
                let index = self.shared.keys.index(&settings.node, &settings.boot);
                connection.one_of(Cmd::sadd(index, here)).await?;
            }
        }
        let read = batch.iter().map(|key| self.shared.keys.read(key)).collect();
        for (key, read) in batch.into_iter().zip(connection.run(read).await?) {
            let entries = entries(&read);
            let mut wanted = self.shared.wanted();
            // What has changed meanwhile is written anyway.
            let Some(value) = wanted.entries.get(&key).cloned() else {
                continue;
            };
            if wanted.changed.contains(&key) {
                continue;
            }
            let mut own = entries.iter().filter(|entry| entry.host == settings.node);
            if own.next().is_none_or(|entry| entry.value != value) {
                self.written.forget(&key);
                wanted.changed.insert(key);
                continue;
            }
            drop(wanted);
            let (_, others) = self.written.note(&key, &settings.node, &value, &entries);
            if others {
                let news = false;
                // Whoever listened may have gone.
                let _ = self.events.send(Event::Written { key, news, entries });
            }
        }
        Ok(self.verifying.rest.is_empty())
    }
}
