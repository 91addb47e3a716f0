//! Commands, many at a time, each answered within a limit, on one server or on a cluster.

use std::time::Duration;

use futures_util::future::try_join_all;
use redis::aio::MultiplexedConnection;
use redis::cluster_async::ClusterConnection;
use redis::{Cmd, Pipeline, Value};

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
