//! What lies between hosts fails while they talk: messages wait for it, and none is lost, doubled or out of order for that.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tests::Transport::{Tcp, WebSocket};
use tests::cluster::{Bus, Cluster};
use tests::wait::eventually;
use tests::{Client, Settings};

/// Messages wait for as long as there is room; and when all that waited comes at once, its readers, who take it in between two of their own
/// messages, are not too slow for it.
fn patient() -> Settings {
    Settings::new()
        .with("cluster.timeout_ms", 0)
        .with("limits.outbox_bytes", 64 << 20)
}

/// One who sends numbered messages to another, elsewhere, and what both know of them.
struct Stream {
    from: Client,
    to: Client,
    /// Sent, and answered.
    sent: u64,
    answered: u64,
    /// Numbers whose sender was told that somebody has them.
    promised: HashSet<u64>,
    heard: Vec<u64>,
    ids: HashSet<String>,
    repeated: usize,
}

impl Stream {
    fn between(from: Client, to: Client) -> Stream {
        Stream {
            from,
            to,
            sent: 0,
            answered: 0,
            promised: HashSet::new(),
            heard: Vec::new(),
            ids: HashSet::new(),
            repeated: 0,
        }
    }

    /// Sends some, and takes in what has come.
    fn send(&mut self, count: u64) {
        let to = self.to.name().to_owned();
        for _ in 0..count {
            self.sent += 1;
            let content =
                json!({"n": self.sent, "text": "s".repeat(self.sent as usize * 53 % 2000)});
            self.from
                .send(json!({"type": "sendto", "to": to, "content": content, "id": self.sent}));
        }
        self.take();
    }

    /// Takes in what has come to either.
    fn take(&mut self) {
        self.from.send(json!({"type": "ping"}));
        loop {
            let message = self.from.json();
            let said = message["status"].as_str().or(message["code"].as_str());
            match said {
                Some(said) => {
                    self.answered += 1;
                    if said == "routed" {
                        self.promised.insert(message["id"].as_u64().unwrap());
                    }
                }
                None if message["type"] == "pong" => break,
                None => panic!("{message}"),
            }
        }
        self.to.send(json!({"type": "ping"}));
        loop {
            let message = self.to.json();
            if message["type"] == "pong" {
                break;
            }
            self.hear(&message);
        }
    }

    fn hear(&mut self, message: &Value) {
        let id = message["id"].as_str();
        let id = id.unwrap_or_else(|| panic!("{} heard {message}", self.to.name()));
        if !self.ids.insert(id.to_owned()) {
            self.repeated += 1;
            return;
        }
        let content = &message["content"];
        let number = content["n"].as_u64().unwrap();
        assert_eq!(
            content["text"].as_str().unwrap().len(),
            number as usize * 53 % 2000
        );
        self.heard.push(number);
    }

    /// Waits for every answer, and checks them; how many were refused.
    fn end(&mut self) -> u64 {
        eventually("every message is answered", || {
            self.take();
            (self.answered == self.sent).then_some(())
        });
        // What a host has taken it has passed on to its workers.
        eventually("what was promised has come", || {
            self.take();
            let heard: HashSet<u64> = self.heard.iter().copied().collect();
            self.promised.is_subset(&heard).then_some(())
        });
        assert!(
            self.heard.is_sorted_by(|a, b| a < b),
            "out of order: {:?}",
            self.heard
        );
        self.sent - self.promised.len() as u64
    }
}

/// Messages both ways between two hosts, and `hurt` among them; how many were refused, and how many came twice.
fn storm(cluster: &mut Cluster, hurt: impl FnOnce(&mut Cluster, &mut dyn FnMut())) -> (u64, usize) {
    storm_among(cluster, &[], &[], hurt)
}

/// The same with others in the directory, before and after it.
fn storm_among(
    cluster: &mut Cluster,
    before: &[(&str, &[usize])],
    after: &[(&str, &[usize])],
    hurt: impl FnOnce(&mut Cluster, &mut dyn FnMut()),
) -> (u64, usize) {
    let own: [(&str, &[usize]); 4] = [("ann", &[0]), ("bob", &[1]), ("cid", &[1]), ("dan", &[0])];
    let pairs = [(0, 1, "ann", "bob"), (1, 0, "cid", "dan")];
    let mut streams: Vec<Stream> = pairs
        .into_iter()
        .map(|(from, to, sender, recipient)| {
            let from = cluster.login(from, Tcp, sender);
            Stream::between(from, cluster.login(to, WebSocket, recipient))
        })
        .collect();
    cluster.expect_users(&[&own[..], before].concat());
    let mut go_on = || {
        let end = Instant::now() + Duration::from_millis(300);
        while Instant::now() < end {
            for stream in &mut streams {
                stream.send(10);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    go_on();
    hurt(cluster, &mut go_on);
    go_on();
    cluster.is_level();
    go_on();
    let refused: u64 = streams.iter_mut().map(Stream::end).sum();
    let repeated: usize = streams.iter().map(|stream| stream.repeated).sum();
    let sent: u64 = streams.iter().map(|stream| stream.sent).sum();
    println!("{sent} sent, {refused} refused, {repeated} came twice");
    cluster.expect_users(&[&own[..], after].concat());
    (refused, repeated)
}

#[test]
fn rabbitmq_restarts() {
    let mut cluster = Cluster::own_broker(2, patient());
    let told = storm(&mut cluster, |cluster, go_on| {
        let broker = cluster.rabbitmq.as_ref().unwrap();
        broker.stop();
        go_on();
        broker.start_again();
    });
    assert_eq!(
        told,
        (0, 0),
        "messages refused, and messages that came twice"
    );
}

#[test]
fn a_forwarder_dies() {
    let mut cluster = Cluster::with(Bus::Forwarder, 2, patient());
    let told = storm(&mut cluster, |cluster, go_on| {
        cluster.forwarders[0].kill();
        go_on();
    });
    assert_eq!(
        told,
        (0, 0),
        "messages refused, and messages that came twice"
    );
}

#[test]
fn redis_stands_still() {
    for bus in [Bus::Redis, Bus::Mesh] {
        println!("over {bus:?}");
        let mut cluster = Cluster::with(bus, 2, patient());
        let (_, repeated) = storm(&mut cluster, |cluster, go_on| {
            cluster.redis.pause(true);
            for _ in 0..10 {
                go_on();
            }
            cluster.redis.pause(false);
        });
        assert_eq!(repeated, 0, "messages that came twice");
    }
}

#[test]
fn redis_restarts_empty() {
    for bus in [Bus::Redis, Bus::Forwarder] {
        println!("over {bus:?}");
        let mut cluster = Cluster::with(bus, 2, patient());
        let (_, repeated) = storm(&mut cluster, |cluster, go_on| {
            cluster.redis.stop();
            go_on();
            cluster.redis.start_again();
        });
        assert_eq!(repeated, 0, "messages that came twice");
    }
}

#[test]
fn workers_die() {
    for bus in [Bus::Redis, Bus::Mesh] {
        println!("over {bus:?}");
        let mut cluster = Cluster::with(bus, 2, patient());
        let (refused, repeated) = storm(&mut cluster, |cluster, go_on| {
            for host in [0, 1] {
                for worker in cluster.host(host).workers() {
                    kill(Pid::from_raw(worker), Signal::SIGKILL).unwrap();
                    go_on();
                }
            }
        });
        assert_eq!(refused, 0, "messages refused");
        assert!(repeated <= 8, "{repeated} came twice over the deaths");
    }
}

#[test]
fn a_third_host_dies() {
    for bus in [Bus::Redis, Bus::Mesh] {
        println!("over {bus:?}");
        let mut cluster = Cluster::with(bus, 3, patient());
        let eve = cluster.login(2, Tcp, "eve");
        let mut zoe = cluster.login(1, WebSocket, "zoe");
        let mut asked = 0;
        cluster.expect_users(&[("eve", &[2]), ("zoe", &[1])]);
        let mut ask = |zoe: &mut Client| {
            for _ in 0..20 {
                asked += 1;
                zoe.send(json!({"type": "sendto", "to": "eve", "content": asked, "id": asked}));
            }
        };
        ask(&mut zoe);
        let told = storm_among(
            &mut cluster,
            &[("eve", &[2]), ("zoe", &[1])],
            &[("zoe", &[1])],
            |cluster, go_on| {
                ask(&mut zoe);
                cluster.kill_host(2);
                ask(&mut zoe);
                go_on();
            },
        );
        assert_eq!(
            told,
            (0, 0),
            "messages refused, and messages that came twice"
        );
        // Each to the dead is answered, in order; after the first that was not taken none is.
        let mut gone = false;
        for id in 1..=asked {
            let ack = zoe.expect("ack");
            assert_eq!(ack["id"], id);
            gone |= ack["status"] == "offline";
            assert_eq!(ack["status"], if gone { "offline" } else { "routed" });
        }
        assert!(gone);
        drop(eve);
    }
}
