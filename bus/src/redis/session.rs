//! Connections to publish and to subscribe, from their beginning to their end.

use bytes::Bytes;
use futures_util::{StreamExt, future::join_all};
use redis::{
    AsyncConnectionConfig, ConnectionAddr, Msg, PushInfo, PushKind, Value,
    aio::{ConnectionLike, MultiplexedConnection, PubSubSink, PubSubStream},
    cluster_async::ClusterConnection,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::{Out, Redis};
use crate::{
    carrier::{BATCH_BYTES, Frames},
    wire::{Broken, random},
};

/// How often Sentinel is asked who the master is.
const MASTER_PAUSE: Duration = Duration::from_secs(1);
/// What a probe begins with; no envelope does.
const PROBE: u8 = 0;

pub(super) struct Session<'a> {
    redis: &'a Redis,
    publisher: Publisher,
    subscription: Subscription,
    probe: Arc<Probe>,
    /// The server it is connected to; `None`: a cluster.
    address: Option<ConnectionAddr>,
}

/// Sends commands; to a cluster, with this one.
#[derive(Clone)]
enum Publisher {
    One(MultiplexedConnection),
    Cluster(ClusterConnection, &'static str),
}

/// Keeps what is subscribed to.
enum Subscription {
    One(PubSubSink, PubSubStream),
    /// What comes is handed on by the connection itself.
    Cluster(ClusterConnection),
}

/// A word that goes to this host and comes back.
struct Probe {
    word: Bytes,
    heard: Mutex<Option<Instant>>,
}

impl Probe {
    fn new() -> Result<Self, Broken> {
        let mut word = vec![PROBE];
        word.extend(random::<16>().ok_or(Broken::NoRandom)?);
        Ok(Self {
            word: word.into(),
            heard: Mutex::new(None),
        })
    }

    fn heard(&self) -> Option<Instant> {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes on what came.
    fn hear(&self, content: &[u8], frames: &Frames) {
        if content == self.word {
            *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        } else if content.first() != Some(&PROBE) {
            frames.accept_or_lose(&Bytes::copy_from_slice(content));
        }
    }
}

impl<'a> Session<'a> {
    /// Connects, subscribes, and has heard a word that it published.
    pub(super) async fn open(redis: &'a Redis) -> Result<Self, Broken> {
        let probe = Arc::new(Probe::new()?);
        let mut session = match redis.server.cluster_builder(redis.patience) {
            Some(_) => Self::open_cluster(redis, probe).await?,
            None => Self::open_one(redis, probe).await?,
        };
        while session.probe.heard().is_none() {
            session.publisher.probe(redis, &session.probe).await?;
            match &mut session.subscription {
                Subscription::One(_, stream) => {
                    if let Ok(message) = timeout(Duration::from_millis(50), stream.next()).await {
                        let message: Msg = message.ok_or(Broken::Closed)?;
                        session
                            .probe
                            .hear(message.get_payload_bytes(), &redis.frames);
                    }
                }
                Subscription::Cluster(_) => sleep(Duration::from_millis(20)).await,
            }
        }
        Ok(session)
    }

    async fn open_one(redis: &'a Redis, probe: Arc<Probe>) -> Result<Self, Broken> {
        let client = redis
            .server
            .client(redis.patience)
            .await
            .map_err(Broken::Broker)?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(redis.patience))
            .set_response_timeout(Some(redis.patience));
        let connection = client
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .map_err(broken)?;
        let address = client.get_connection_info().addr().clone();
        let (mut sink, stream) = client.get_async_pubsub().await.map_err(broken)?.split();
        sink.subscribe(redis.channel(&redis.node))
            .await
            .map_err(broken)?;
        let (publisher, subscription) =
            (Publisher::One(connection), Subscription::One(sink, stream));
        Ok(Self {
            redis,
            publisher,
            subscription,
            probe,
            address: Some(address),
        })
    }

    async fn open_cluster(redis: &'a Redis, probe: Arc<Probe>) -> Result<Self, Broken> {
        let builder = || {
            redis
                .server
                .cluster_builder(redis.patience)
                .ok_or_else(|| Broken::Broker("it is no cluster".into()))
        };
        let publisher = builder()?
            .build()
            .map_err(broken)?
            .get_async_connection()
            .await
            .map_err(broken)?;
        let (frames, hearing) = (Arc::clone(&redis.frames), Arc::clone(&probe));
        let hear = move |info: PushInfo| -> Result<(), std::convert::Infallible> {
            if let (PushKind::SMessage | PushKind::Message, Some(Value::BulkString(content))) =
                (&info.kind, info.data.get(1))
            {
                hearing.hear(content, &frames);
            }
            Ok(())
        };
        let subscriber = builder()?
            .use_protocol(redis::ProtocolVersion::RESP3)
            .push_sender(hear)
            .build()
            .map_err(broken)?;
        let mut subscriber = subscriber.get_async_connection().await.map_err(broken)?;
        let channel = redis.channel(&redis.node);
        let command = match subscriber.ssubscribe(&channel).await {
            Ok(()) => "SPUBLISH",
            // Before Redis 7 channels are not sharded; every server of the cluster hears everything.
            Err(error) if error.to_string().contains("unknown command") => {
                subscriber.subscribe(&channel).await.map_err(broken)?;
                "PUBLISH"
            }
            Err(error) => return Err(broken(error)),
        };
        let (publisher, subscription) = (
            Publisher::Cluster(publisher, command),
            Subscription::Cluster(subscriber),
        );
        Ok(Self {
            redis,
            publisher,
            subscription,
            probe,
            address: None,
        })
    }

    /// Until it breaks.
    pub(super) async fn run(self) -> Broken {
        let Self {
            redis,
            mut publisher,
            subscription,
            probe,
            address,
        } = self;
        let mut prober = publisher.clone();
        tokio::select! {
            broken = read(redis, subscription, &probe) => broken,
            broken = publish(redis, &mut publisher) => broken,
            broken = watch(redis, &mut prober, &probe) => broken,
            broken = follow(redis, address) => broken,
        }
    }
}

async fn read(redis: &Redis, subscription: Subscription, probe: &Probe) -> Broken {
    match subscription {
        Subscription::One(sink, mut stream) => {
            while let Some(message) = stream.next().await {
                probe.hear(message.get_payload_bytes(), &redis.frames);
            }
            drop(sink);
            Broken::Closed
        }
        Subscription::Cluster(connection) => {
            std::future::pending::<()>().await;
            drop(connection);
            Broken::Closed
        }
    }
}

async fn publish(redis: &Redis, publisher: &mut Publisher) -> Broken {
    loop {
        redis.queue.wait().await;
        let batch = redis.queue.take(BATCH_BYTES);
        if let Err(broken) = publisher.publish(redis, &batch.items).await {
            return broken;
        }
    }
}

/// Publishes a word now and then, and breaks when it does not come back.
async fn watch(redis: &Redis, publisher: &mut Publisher, probe: &Probe) -> Broken {
    let mut beat = interval(redis.patience / 3);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        if probe
            .heard()
            .is_none_or(|heard| heard.elapsed() > redis.patience)
        {
            return Broken::Silent(redis.patience);
        }
        // A probe that fails is not heard; only that counts.
        let left = redis.patience.saturating_sub(
            probe
                .heard()
                .map_or(Duration::ZERO, |heard| heard.elapsed()),
        );
        let _ = timeout(left, publisher.probe(redis, probe)).await;
    }
}

/// Breaks when Sentinel names another master: the former may go on as a replica, where nobody else is.
async fn follow(redis: &Redis, address: Option<ConnectionAddr>) -> Broken {
    let Some(address) = address else {
        return std::future::pending().await;
    };
    loop {
        sleep(MASTER_PAUSE).await;
        if let Ok(client) = redis.server.client(redis.patience).await
            && *client.get_connection_info().addr() != address
        {
            return Broken::Broker(format!(
                "the master is {} now",
                client.get_connection_info().addr()
            ));
        }
    }
}

/// What Redis or the way to it says, as a sentence's end.
fn broken(error: redis::RedisError) -> Broken {
    Broken::Broker(error.to_string())
}

impl Publisher {
    async fn probe(&mut self, redis: &Redis, probe: &Probe) -> Result<(), Broken> {
        let channel = redis.channel(&redis.node);
        match self {
            Self::One(connection) => {
                publish_all(connection, "PUBLISH", &channel, &[&probe.word]).await
            }
            Self::Cluster(connection, command) => {
                publish_all(connection, command, &channel, &[&probe.word]).await
            }
        }
    }

    async fn publish(&mut self, redis: &Redis, items: &[Out]) -> Result<(), Broken> {
        match self {
            Self::One(connection) => {
                if items.is_empty() {
                    return Ok(());
                }
                let mut pipeline = redis::Pipeline::with_capacity(items.len());
                for out in items {
                    pipeline
                        .cmd("PUBLISH")
                        .arg(redis.channel(&out.to))
                        .arg(&out.frame[..])
                        .ignore();
                }
                pipeline.query_async(connection).await.map_err(broken)
            }
            Self::Cluster(connection, command) => {
                // A channel lies on one server of the cluster; those of different hosts on different ones.
                let mut hosts: BTreeMap<&str, Vec<&Bytes>> = BTreeMap::new();
                for out in items {
                    hosts.entry(&out.to).or_default().push(&out.frame);
                }
                let all = hosts.into_iter().map(|(host, frames)| {
                    let (mut connection, command) = (connection.clone(), *command);
                    async move {
                        if let Err(error) =
                            publish_all(&mut connection, command, &redis.channel(host), &frames)
                                .await
                        {
                            // Another part of the cluster may work well; the probe tells about this host's own.
                            redis
                                .frames
                                .lose(format_args!("frames for host {host} are lost: {error}"));
                        }
                    }
                });
                join_all(all).await;
                Ok(())
            }
        }
    }
}

async fn publish_all(
    connection: &mut impl ConnectionLike,
    command: &str,
    channel: &str,
    contents: &[&Bytes],
) -> Result<(), Broken> {
    let mut pipeline = redis::Pipeline::with_capacity(contents.len());
    for content in contents {
        pipeline
            .cmd(command)
            .arg(channel)
            .arg(&content[..])
            .ignore();
    }
    pipeline.query_async(connection).await.map_err(broken)
}
