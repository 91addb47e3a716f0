//! What the callers and the keeper share.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::{Cmd, Value};
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;

use crate::connection::Connection;
use crate::keys::{Key, Keys};
use crate::{Away, Condition, Host, Reading, Settings, State};

/// The longest wait for one answer, and that within a lease.
const LIMIT_MAX: Duration = Duration::from_secs(2);

pub struct Shared {
    pub settings: Settings,
    pub keys: Keys,
    pub hosts: watch::Sender<Arc<BTreeMap<String, Host>>>,
    pub state: watch::Sender<State>,
    /// Something is to be done.
    pub wake: Notify,
    /// Somebody got no answer: the connection is to be looked at.
    pub doubt: Notify,
    wanted: Mutex<Wanted>,
    connection: Mutex<Option<Connection>>,
    pub reading: watch::Sender<Option<Reading>>,
}

/// What is to be in the directory.
#[derive(Default)]
pub struct Wanted {
    /// The value of each key.
    pub entries: HashMap<Key, String>,
    /// Keys whose values are not known to be written.
    pub changed: Changed,
    /// `entries` is all that there is.
    pub complete: bool,
    /// Where hosts of a mesh connect.
    pub mesh: Option<String>,
    /// The lease is to be written at once.
    pub renew: bool,
    /// Who waits for the end.
    pub leaving: Option<oneshot::Sender<()>>,
}

/// Keys in the order in which they changed, each once.
#[derive(Default)]
pub struct Changed {
    order: VecDeque<Key>,
    waiting: HashSet<Key>,
}

impl Changed {
    pub fn insert(&mut self, key: Key) {
        if self.waiting.insert(key.clone()) {
            self.order.push_back(key);
        }
    }

    pub fn extend(&mut self, keys: impl IntoIterator<Item = Key>) {
        keys.into_iter().for_each(|key| self.insert(key));
    }

    pub fn pop(&mut self) -> Option<Key> {
        let key = self.order.pop_front()?;
        self.waiting.remove(&key);
        Some(key)
    }

    pub fn contains(&self, key: &Key) -> bool {
        self.waiting.contains(key)
    }

    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

impl Shared {
    pub fn new(settings: Settings) -> Self {
        let state = State {
            condition: Condition::Connecting,
            since: Instant::now(),
        };
        let wanted = Wanted {
            mesh: settings.mesh.clone(),
            ..Wanted::default()
        };
        Shared {
            keys: Keys::new(&settings.namespace),
            settings,
            hosts: watch::Sender::new(Arc::default()),
            state: watch::Sender::new(state),
            wake: Notify::new(),
            doubt: Notify::new(),
            wanted: Mutex::new(wanted),
            connection: Mutex::new(None),
            reading: watch::Sender::new(None),
        }
    }

    /// How long one answer is waited for.
    pub fn limit(&self) -> Duration {
        (self.settings.lease / 4).min(LIMIT_MAX)
    }

    /// Nobody panics while holding it; were it so, the map would still be one.
    pub fn wanted(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set(&self, key: Key, value: Option<String>) {
        let mut wanted = self.wanted();
        match value {
            Some(value) => wanted.entries.insert(key.clone(), value),
            None => wanted.entries.remove(&key),
        };
        wanted.changed.insert(key);
        drop(wanted);
        self.not_level();
        self.wake.notify_one();
    }

    pub fn complete(&self) {
        self.wanted().complete = true;
        self.wake.notify_one();
    }

    pub fn set_mesh(&self, address: String) {
        let mut wanted = self.wanted();
        wanted.mesh = Some(address);
        wanted.renew = true;
        drop(wanted);
        self.wake.notify_one();
    }

    /// The directory's time now, in Unix milliseconds, as far as it is known.
    pub fn now_ms(&self) -> u64 {
        let ahead = self
            .reading
            .borrow()
            .map_or(0, |reading| reading.ahead_ms());
        (self.settings.clock)().saturating_add_signed(ahead)
    }

    pub async fn leave(&self, within: Duration) -> Result<(), Away> {
        let (done, waits) = oneshot::channel();
        self.want_nothing(done);
        self.wake.notify_one();
        match tokio::time::timeout(within, waits).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Away),
        }
    }

    fn want_nothing(&self, done: oneshot::Sender<()>) {
        let mut wanted = self.wanted();
        let keys: Vec<Key> = wanted.entries.drain().map(|(key, _)| key).collect();
        wanted.changed.extend(keys);
        wanted.complete = true;
        wanted.leaving = Some(done);
    }

    /// The connection in use; `None` while there is none.
    pub fn use_connection(&self, connection: Option<Connection>) {
        *self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = connection;
    }

    /// Asks on the connection in use.
    pub async fn ask(&self, commands: Vec<Cmd>) -> Result<Vec<Value>, Away> {
        let connection = self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let connection = connection.ok_or(Away)?;
        // However many commands these are.
        let answer = tokio::time::timeout(LIMIT_MAX, connection.run(commands)).await;
        let why = match answer {
            Ok(Ok(values)) => return Ok(values),
            Ok(Err(why)) => why,
            Err(_) => "not in time".into(),
        };
        tracing::debug!(why, "the directory did not answer");
        self.doubt.notify_one();
        Err(Away)
    }

    /// Tells how the directory is. `since` changes only where it comes up or goes away.
    pub fn tell(&self, condition: Condition) {
        self.state.send_if_modified(|state| {
            if state.condition == condition {
                return false;
            }
            let was_up = state.is_up();
            state.condition = condition;
            if state.is_up() != was_up {
                state.since = Instant::now();
                if state.is_up() {
                    tracing::info!("the directory is there");
                } else {
                    tracing::warn!(why = state.why(), "the directory is away");
                }
            }
            true
        });
    }

    fn not_level(&self) {
        self.state.send_if_modified(|state| {
            let level = state.is_level();
            if level {
                state.condition = Condition::Leveling;
            }
            level
        });
    }
}
