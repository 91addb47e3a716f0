//! Hosts of one process, and the directory that they see.

use bus::{Bus, Hosts, Settings};
use bytes::Bytes;
use directory::Host;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{sync::watch, time::timeout};

/// Longer than anything takes that works.
pub const LONG: Duration = Duration::from_secs(15);

type Map = BTreeMap<String, Host>;

/// What a directory would tell: every host hears of all others.
#[derive(Clone, Default)]
pub struct Directory(Arc<Mutex<(Map, Listeners)>>);

type Listeners = BTreeMap<String, watch::Sender<Arc<Map>>>;

impl Directory {
    pub fn watch(&self, node: &str) -> Hosts {
        let receiver = {
            let mut inner = self.0.lock().unwrap();
            inner
                .1
                .entry(node.into())
                .or_insert_with(|| watch::Sender::new(Arc::default()))
                .subscribe()
        };
        self.tell();
        receiver
    }

    pub fn set(&self, node: &str, host: Option<Host>) {
        {
            let mut inner = self.0.lock().unwrap();
            match host {
                Some(host) => drop(inner.0.insert(node.into(), host)),
                None => drop(inner.0.remove(node)),
            }
        }
        self.tell();
    }

    fn tell(&self) {
        let inner = self.0.lock().unwrap();
        for (node, sender) in &inner.1 {
            let mut others = inner.0.clone();
            others.remove(node);
            sender.send_replace(Arc::new(others));
        }
    }
}

/// A host with its bus. Dropping it is what a kill is to others: its connections end without a word.
pub struct TestHost {
    pub name: String,
    pub bus: Bus,
    _advertising: tokio::task::JoinSet<()>,
}

pub fn settings(kind: config::Bus, node: &str) -> Settings {
    static BOOT: AtomicU64 = AtomicU64::new(1);
    let cluster = config::Cluster {
        bus: kind,
        namespace: "bus-tests".into(),
        secret: config::Secret("only tests know it".into()),
        mesh_listen: "tcp://127.0.0.1:0".into(),
        lease_ms: 1500,
        ..config::Config::default().cluster
    };
    Settings {
        kind,
        cluster,
        node: node.into(),
        boot: format!("{:016x}", BOOT.fetch_add(1, Ordering::Relaxed)),
        life: 1,
    }
}

impl TestHost {
    pub fn start(settings: Settings, directory: &Directory) -> Self {
        let name = settings.node.clone();
        let boot = settings.boot.clone();
        let bus = Bus::start(settings, directory.watch(&name)).unwrap();
        directory.set(
            &name,
            Some(Host {
                boot: boot.clone(),
                mesh: None,
                since_ms: 1,
            }),
        );
        let mut address = bus.mesh_address();
        let mut advertising = tokio::task::JoinSet::new();
        let (directory, node) = (directory.clone(), name.clone());
        advertising.spawn(async move {
            while address.changed().await.is_ok() {
                let mesh = address.borrow_and_update().clone();
                directory.set(
                    &node,
                    Some(Host {
                        boot: boot.clone(),
                        mesh,
                        since_ms: 1,
                    }),
                );
            }
            std::future::pending::<()>().await;
        });
        Self {
            name,
            bus,
            _advertising: advertising,
        }
    }

    pub async fn until_up(&self) {
        let mut state = self.bus.state();
        let up = timeout(LONG, state.wait_for(|state| state.why().is_empty()))
            .await
            .map(|state| state.is_ok());
        assert!(
            up == Ok(true),
            "the bus of {} does not come up: {:?}",
            self.name,
            self.bus.state().borrow()
        );
    }

    pub async fn until(&self, what: &str, condition: impl Fn(&bus::State) -> bool) -> bus::State {
        let mut state = self.bus.state();
        match timeout(LONG, state.wait_for(|state| condition(state))).await {
            Ok(Ok(state)) => state.clone(),
            _ => panic!(
                "the bus of {} does not become {what}: {:?}",
                self.name,
                self.bus.state().borrow()
            ),
        }
    }

    /// Sends, waiting for room.
    pub async fn send(&self, to: &str, payload: impl Into<Bytes>) {
        let payload = payload.into();
        let sending = async {
            while self.bus.send(to, payload.clone()).is_err() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(LONG, sending)
            .await
            .unwrap_or_else(|_| panic!("{} has no room for {to}", self.name));
    }

    /// The next payload, as a text with its sender.
    pub async fn hear(&mut self) -> (String, Bytes) {
        let incoming = timeout(LONG, self.bus.receive())
            .await
            .unwrap_or_else(|_| panic!("{} hears nothing", self.name));
        (incoming.from, incoming.payload)
    }

    /// Sends until something comes through, and takes out what came of it.
    pub async fn until_heard(&self, by: &mut TestHost) {
        let mark = format!("{}-{}", self.name, std::process::id());
        let attempt = async {
            loop {
                let _ = self.bus.send(&by.name, mark.clone().into());
                if let Ok(incoming) = timeout(Duration::from_millis(50), by.bus.receive()).await
                    && incoming.from == self.name
                    && incoming.payload == mark
                {
                    return;
                }
            }
        };
        timeout(LONG, attempt).await.unwrap_or_else(|_| {
            panic!(
                "{} does not hear {}: {:?}",
                by.name,
                self.name,
                self.bus.state().borrow()
            )
        });
        tokio::time::sleep(Duration::from_millis(100)).await;
        while by.bus.try_receive().is_some() {}
    }
}
