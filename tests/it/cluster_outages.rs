//! Redis is slow, gone, empty or another one: what is local does not notice, what is not fails within its time, and all is well
//! afterwards, without a restart.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::Transport::Tcp;
use tests::cluster::{Bus, Cluster, LEASE, Redis};
use tests::wait::eventually;
use tests::{Client, Settings, http};

fn short() -> Settings {
    Settings::new().with("cluster.timeout_ms", 1000)
}

/// The answer to a message with an id: the status of its `ack`, or the code of its `error`.
fn answer(client: &mut Client, to: &str) -> String {
    client.send(json!({"type": "sendto", "to": to, "content": 1, "id": "q"}));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    loop {
        let message = client.json();
        match message["type"].as_str() {
            Some("ack") => return text(&message["status"]),
            Some("error") => return text(&message["code"]),
            _ => {}
        }
    }
}

fn health(cluster: &Cluster, host: usize) -> http::Response {
    http::get(cluster.host(host).websocket(), "/healthz")
}

fn routed(client: &mut Client, to: &str) {
    eventually("messages flow again", || {
        (answer(client, to) == "routed").then_some(())
    });
}

/// What has to hold while the directory is away, and what after it.
fn outage(cluster: &mut Cluster, begin: impl FnOnce(&mut Cluster), end: impl FnOnce(&mut Cluster)) {
    let mut ann = cluster.login(0, Tcp, "ann");
    let mut bob = cluster.login(1, Tcp, "bob");
    let mut cid = cluster.login(0, Tcp, "cid");
    cluster.expect_users(&[("ann", &[0]), ("bob", &[1]), ("cid", &[0])]);
    routed(&mut ann, "bob");
    begin(cluster);
    for host in 0..2 {
        // The bus may be found out first.
        eventually("/healthz tells of the directory", || {
            let said = health(cluster, host);
            (said.status == 503 && said.text().contains("directory")).then_some(())
        });
    }
    let began = Instant::now();
    for _ in 0..200 {
        assert_eq!(answer(&mut ann, "cid"), "delivered");
    }
    // Far more than the messages take even on a busy machine, far less than if each waited for the directory.
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "local messages wait"
    );
    for _ in 0..200 {
        cid.expect("message");
    }
    let said = answer(&mut ann, "bob");
    assert!(said == "overloaded" || said == "offline", "{said}");
    // Who comes and goes meanwhile is in the directory afterwards, or is not.
    let mut dan = cluster.login(1, Tcp, "dan");
    assert_eq!(answer(&mut dan, "bob"), "delivered");
    bob.expect("message");
    cid.logout();
    std::thread::sleep(LEASE);
    end(cluster);
    cluster.is_level();
    cluster.expect_users(&[("ann", &[0]), ("bob", &[1]), ("dan", &[1])]);
    routed(&mut ann, "bob");
    routed(&mut ann, "dan");
    routed(&mut dan, "ann");
    assert_eq!(answer(&mut ann, "cid"), "offline");
    for host in 0..2 {
        assert_eq!(health(cluster, host).status, 200);
    }
}

#[test]
fn redis_stopped_and_started_again_empty() {
    let mut cluster = Cluster::with(Bus::Redis, 2, short());
    outage(&mut cluster, |c| c.redis.stop(), |c| c.redis.start_again());
}

#[test]
fn redis_standing_still() {
    let mut cluster = Cluster::with(Bus::Mesh, 2, short());
    outage(
        &mut cluster,
        |c| c.redis.pause(true),
        |c| c.redis.pause(false),
    );
}

#[test]
fn redis_failed_over() {
    let master = Redis::start();
    let replica = Redis::with(&["--replicaof", "127.0.0.1", &master.port().to_string()]);
    let sentinels: Vec<Redis> = (0..3).map(|_| Redis::sentinel(&master)).collect();
    eventually("the sentinels know each other and the replica", || {
        let known = sentinels.iter().all(|sentinel| {
            let told = sentinel.ask(&["SENTINEL", "MASTER", "main"]);
            let is = |name: &str, value: &str| {
                let at = told.iter().position(|line| line == name);
                at.is_some_and(|at| told[at + 1] == value)
            };
            is("num-slaves", "1") && is("num-other-sentinels", "2")
        });
        known.then_some(())
    });
    let places: Vec<String> = sentinels
        .iter()
        .map(|sentinel| format!("127.0.0.1:{}", sentinel.port()))
        .collect();
    let address = format!("redis+sentinel://{}/main", places.join(","));
    let mut cluster = Cluster::at(Bus::Redis, 2, Settings::new(), master, &address);
    let mut ann = cluster.login(0, Tcp, "ann");
    let mut bob = cluster.login(1, Tcp, "bob");
    cluster.expect_users(&[("ann", &[0]), ("bob", &[1])]);
    let mut sent = 0;
    let mut told = Vec::new();
    let mut send = |ann: &mut Client| {
        sent += 1;
        ann.send(json!({"type": "sendto", "to": "bob", "content": sent, "id": sent}));
        let answer = ann.json();
        let status = answer["status"].as_str().unwrap_or("refused").to_owned();
        told.push((sent, status.clone()));
        status
    };
    for _ in 0..20 {
        assert_eq!(send(&mut ann), "routed");
    }
    // The master is gone with all that it had not passed on; the replica takes its place.
    cluster.redis.stop();
    cluster.redis = replica;
    eventually("messages flow again", || {
        (send(&mut ann) == "routed").then_some(())
    });
    cluster.is_level();
    cluster.expect_users(&[("ann", &[0]), ("bob", &[1])]);
    for _ in 0..20 {
        assert_eq!(send(&mut ann), "routed");
    }
    // What was said to have arrived has arrived, once and in order.
    let mut heard = Vec::new();
    bob.send(json!({"type": "ping"}));
    loop {
        let message = bob.json();
        match message["type"].as_str() {
            Some("message") => heard.push(message["content"].as_i64().unwrap()),
            _ => break,
        }
    }
    assert!(heard.is_sorted_by(|a, b| a < b), "{heard:?}");
    for (number, status) in told {
        assert!(
            status != "routed" || heard.contains(&number),
            "{number} is lost"
        );
    }
}

#[test]
fn rabbitmq_restarted() {
    let cluster = Cluster::own_broker(2, Settings::new());
    let mut ann = cluster.login(0, Tcp, "ann");
    let _bob = cluster.login(1, Tcp, "bob");
    cluster.expect_users(&[("ann", &[0]), ("bob", &[1])]);
    routed(&mut ann, "bob");
    let broker = cluster.rabbitmq.as_ref().unwrap();
    broker.stop();
    eventually("/healthz tells", || {
        (health(&cluster, 0).status == 503).then_some(())
    });
    let said = health(&cluster, 0).text();
    assert!(said.contains("bus"), "{said}");
    broker.start_again();
    cluster.is_level();
    routed(&mut ann, "bob");
    assert_eq!(health(&cluster, 0).status, 200);
}

#[test]
fn a_full_queue_refuses_and_a_waiting_one_delivers() {
    let settings = Settings::new()
        .with("cluster.timeout_ms", 0)
        .with("cluster.queue_bytes", 65_536);
    let mut cluster = Cluster::with(Bus::Redis, 2, settings);
    let mut ann = cluster.login(0, Tcp, "ann");
    let mut bob = cluster.login(1, Tcp, "bob");
    cluster.expect_users(&[("ann", &[0]), ("bob", &[1])]);
    routed(&mut ann, "bob");
    bob.expect("message");
    cluster.redis.stop();
    let content = "x".repeat(1000);
    for n in 0..100 {
        ann.send(json!({"type": "sendto", "to": "bob", "content": content, "id": n}));
    }
    // Those for which there is no room in her share, a quarter of what is left, are refused at once, each by its name; the others wait.
    let mut refused = Vec::new();
    ann.send(json!({"type": "ping"}));
    loop {
        let message = ann.json();
        match message["type"].as_str() {
            Some("error") => {
                assert_eq!(message["code"], "overloaded");
                refused.push(message["id"].as_i64().unwrap());
            }
            _ => break,
        }
    }
    assert!((85..95).contains(&refused.len()), "{refused:?}");
    let mut cid = cluster.login(0, Tcp, "cid");
    for n in 0..5 {
        cid.send(json!({"type": "sendto", "to": "bob", "content": content, "id": n}));
    }
    cid.expect_nothing();
    cluster.redis.start_again();
    let mut taken = Vec::new();
    for _ in 0..100 - refused.len() {
        let ack = ann.expect("ack");
        // A host whose lease was over is dead, and nobody is there.
        let status = ack["status"].as_str().unwrap().to_owned();
        if status == "routed" {
            taken.push(ack["id"].as_i64().unwrap());
            bob.expect("message");
        }
    }
    assert!(taken.iter().all(|id| !refused.contains(id)));
    for _ in 0..5 {
        if cid.expect("ack")["status"] == "routed" {
            bob.expect("message");
        }
    }
    bob.expect_nothing();
    cluster.is_level();
    routed(&mut ann, "bob");
}
