//! Connections to publish and to subscribe, from their beginning to their end.

use bytes::Bytes;
use futures_util::{StreamExt, future::join_all};
use redis::{
    Msg, PushInfo, PushKind, Value,
    aio::{ConnectionLike, MultiplexedConnection, PubSubSink, PubSubStream},
    cluster_async::ClusterConnection,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::{
    Out, Redis,
    source::{Source, broken, config},
};
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
    /// Where it is connected, if that can change.
    master: Option<redis::ConnectionAddr>,
}

/// Sends commands.
#[derive(Clone)]
enum Publisher {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
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
        let mut session = match &redis.source {
            Source::Cluster { .. } => Self::open_cluster(redis, probe).await?,
            Source::One(_) | Source::Sentinel(_) => Self::open_one(redis, probe).await?,
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
        let client = redis.source.server(redis.patience).await?;
        let mut connection = client
            .get_multiplexed_async_connection_with_config(&config(redis.patience))
            .await
            .map_err(broken)?;
        let mut master = None;
        if let Source::Sentinel(_) = redis.source {
            let role: Value = redis::cmd("ROLE")
                .query_async(&mut connection)
                .await
                .map_err(broken)?;
            let role = role
                .as_sequence()
                .and_then(|role| role.first())
                .and_then(|role| redis::from_redis_value_ref::<String>(role).ok());
            if role.as_deref() != Some("master") {
                return Err(Broken::Broker(
                    "Sentinel names a master that is none".into(),
                ));
            }
            master = Some(client.get_connection_info().addr().clone());
        }
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
            master,
        })
    }

    async fn open_cluster(redis: &'a Redis, probe: Arc<Probe>) -> Result<Self, Broken> {
        let builder = || redis.source.cluster().map_err(Broken::Broker);
        let limited = |builder: redis::cluster::ClusterClientBuilder| {
            builder
                .connection_timeout(redis.patience)
                .response_timeout(redis.patience)
                .retries(1)
        };
        let publisher = limited(builder()?)
            .build()
            .map_err(broken)?
            .get_async_connection()
            .await
            .map_err(broken)?;
        let (frames, hearing) = (Arc::clone(&redis.frames), Arc::clone(&probe));
        let hear = move |info: PushInfo| -> Result<(), std::convert::Infallible> {
            if let (PushKind::SMessage, Some(Value::BulkString(content))) =
                (&info.kind, info.data.get(1))
            {
                hearing.hear(content, &frames);
            }
            Ok(())
        };
        let subscriber = limited(builder()?)
            .use_protocol(redis::ProtocolVersion::RESP3)
            .push_sender(hear)
            .build()
            .map_err(broken)?;
        let mut subscriber = subscriber.get_async_connection().await.map_err(broken)?;
        subscriber
            .ssubscribe(redis.channel(&redis.node))
            .await
            .map_err(broken)?;
        let (publisher, subscription) = (
            Publisher::Cluster(publisher),
            Subscription::Cluster(subscriber),
        );
        Ok(Self {
            redis,
            publisher,
            subscription,
            probe,
            master: None,
        })
    }

    /// Until it breaks.
    pub(super) async fn run(self) -> Broken {
        let Self {
            redis,
            mut publisher,
            subscription,
            probe,
            master,
        } = self;
        let mut prober = publisher.clone();
        tokio::select! {
            broken = read(redis, subscription, &probe) => broken,
            broken = publish(redis, &mut publisher) => broken,
            broken = watch(redis, &mut prober, &probe) => broken,
            broken = follow(redis, master) => broken,
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
async fn follow(redis: &Redis, master: Option<redis::ConnectionAddr>) -> Broken {
    let Some(master) = master else {
        return std::future::pending().await;
    };
    loop {
        sleep(MASTER_PAUSE).await;
        if let Ok(now) = redis.source.server(redis.patience).await
            && *now.get_connection_info().addr() != master
        {
            return Broken::Broker(format!(
                "the master is {} now",
                now.get_connection_info().addr()
            ));
        }
    }
}

impl Publisher {
    async fn probe(&mut self, redis: &Redis, probe: &Probe) -> Result<(), Broken> {
        let channel = redis.channel(&redis.node);
        match self {
            Self::One(connection) => {
                publish_all(connection, "PUBLISH", &channel, &[&probe.word]).await
            }
            Self::Cluster(connection) => {
                publish_all(connection, "SPUBLISH", &channel, &[&probe.word]).await
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
            Self::Cluster(connection) => {
                // A channel lies on one server of the cluster; those of different hosts on different ones.
                let mut hosts: BTreeMap<&str, Vec<&Bytes>> = BTreeMap::new();
                for out in items {
                    hosts.entry(&out.to).or_default().push(&out.frame);
                }
                let all = hosts.into_iter().map(|(host, frames)| {
                    let mut connection = connection.clone();
                    async move {
                        if let Err(error) =
                            publish_all(&mut connection, "SPUBLISH", &redis.channel(host), &frames)
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
