//! Commands, many at a time, each answered within a limit, on one server or on a cluster.

use std::time::Duration;

use futures_util::future::try_join_all;
use redis::aio::MultiplexedConnection;
use redis::cluster_async::ClusterConnection;
use redis::{Cmd, Pipeline, Value};

use crate::keys::{text, texts};
use crate::server::short;

/// Commands in one pipeline. Longer lists go in several, so that no answer takes long.
const BATCH: usize = 512;

/// A connection; clones share it.
#[derive(Clone)]
pub struct Connection {
    kind: Kind,
    limit: Duration,
}

#[derive(Clone)]
enum Kind {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// A connection, as Redis knows it.
pub(crate) struct Identity {
    id: String,
    address: String,
}

impl Connection {
    pub(crate) fn one(connection: MultiplexedConnection, limit: Duration) -> Self {
        Connection {
            kind: Kind::One(connection),
            limit,
        }
    }

    pub(crate) fn cluster(connection: ClusterConnection, limit: Duration) -> Self {
        Connection {
            kind: Kind::Cluster(connection),
            limit,
        }
    }

    /// Runs commands; their answers in order. On one server they take effect in order; on a cluster in any, each command for the
    /// server of its key.
    ///
    /// # Errors
    /// A sentence: the first error, or that there was no answer within the limit. Some commands may have taken effect.
    pub async fn run(&self, commands: Vec<Cmd>) -> Result<Vec<Value>, String> {
        let mut answers = Vec::with_capacity(commands.len());
        for batch in commands.chunks(BATCH) {
            let running = self.run_batch(batch);
            match tokio::time::timeout(self.limit, running).await {
                Ok(Ok(values)) => answers.extend(values),
                Ok(Err(error)) => return Err(short(&error)),
                Err(_) => return Err("it does not answer in time".into()),
            }
        }
        Ok(answers)
    }

    /// Runs one command.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn one_of(&self, command: Cmd) -> Result<Value, String> {
        let mut answers = self.run(vec![command]).await?;
        Ok(answers.pop().unwrap_or(Value::Nil))
    }

    /// The time in Unix milliseconds, of the same server whoever asks: of that of `key`.
    ///
    /// # Errors
    /// As [`Self::run`], or an answer that is no time.
    pub(crate) async fn now_ms(&self, key: &str) -> Result<u64, String> {
        let mut ask = redis::cmd("TIME");
        if let Kind::Cluster(_) = &self.kind {
            // Without a key it would be any node's clock, another one each time.
            ask = redis::cmd("EVAL");
            ask.arg("return redis.call('TIME')").arg(1).arg(key);
        }
        let answer = texts(&self.one_of(ask).await?);
        let number = |at: usize| answer.get(at)?.parse::<u64>().ok();
        match (number(0), number(1)) {
            (Some(seconds), Some(micros)) => Ok(seconds * 1000 + micros / 1000),
            _ => Err("it does not say what time it is".into()),
        }
    }

    /// What Redis calls this connection; `None` where there are several, or where Redis does not say (before 6.2).
    pub(crate) async fn identity(&self) -> Option<Identity> {
        let Kind::One(_) = &self.kind else {
            return None;
        };
        let mut ask = redis::cmd("CLIENT");
        ask.arg("INFO");
        let info = text(&self.one_of(ask).await.ok()?)?;
        let value = |name: &str| {
            let mut words = info.split_ascii_whitespace();
            words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
        };
        Some(Identity {
            id: value("id")?.to_owned(),
            address: value("addr")?.to_owned(),
        })
    }

    /// Has Redis throw an earlier connection away: commands that are still on their way there will not take effect. Does what it can: Redis
    /// may not know it any more, or not allow this.
    pub(crate) async fn cut_off(&self, earlier: &Identity) {
        let mut kill = redis::cmd("CLIENT");
        kill.arg("KILL").arg("ID").arg(&earlier.id);
        kill.arg("ADDR").arg(&earlier.address);
        if let Err(why) = self.one_of(kill).await {
            tracing::debug!(why, "an earlier connection cannot be cut off");
        }
    }

    async fn run_batch(&self, commands: &[Cmd]) -> redis::RedisResult<Vec<Value>> {
        match &self.kind {
            Kind::One(connection) => {
                let mut pipeline = Pipeline::with_capacity(commands.len());
                for command in commands {
                    pipeline.add_command(command.clone());
                }
                pipeline.query_async(&mut connection.clone()).await
            }
            Kind::Cluster(connection) => {
                let answers = commands.iter().map(|command| {
                    let mut connection = connection.clone();
                    async move { command.query_async(&mut connection).await }
                });
                try_join_all(answers).await
            }
        }
    }
}
