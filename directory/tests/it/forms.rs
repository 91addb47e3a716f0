//! Every form of address: with a password, over TLS, Sentinel, Cluster.

use std::process::Command;
use std::time::Duration;

use directory::Server;

use crate::redis::{Redis, folder, free_port};
use crate::{eventually, member, member_with, settings};

#[tokio::test]
async fn with_a_password_and_a_database() {
    let redis = Redis::with(&["--requirepass", "se cret"]);
    let address = format!("redis://:se%20cret@127.0.0.1:{}/3", redis.port);
    let one = member(&address, "n1", 1);
    one.has("ada");
    one.directory.complete();
    one.level().await;
    assert_eq!(one.hosts_of("ada").await, ["n1"]);
    let wrong = Server::new(&redis.address(), None).unwrap();
    let connected = wrong.connect(Duration::from_secs(1)).await;
    let refused = match connected {
        Err(why) => why,
        Ok(connection) => connection.one_of(::redis::Cmd::get("x")).await.unwrap_err(),
    };
    assert!(refused.contains("NOAUTH"), "{refused}");
}

#[tokio::test]
async fn over_tls() {
    let place = folder();
    let certificate = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let (cert, key) = (place.join("cert.pem"), place.join("key.pem"));
    std::fs::write(&cert, certificate.cert.pem()).unwrap();
    std::fs::write(&key, certificate.signing_key.serialize_pem()).unwrap();
    let tls = free_port();
    let redis = Redis::with(&[
        "--tls-port",
        &tls.to_string(),
        "--tls-cert-file",
        cert.to_str().unwrap(),
        "--tls-key-file",
        key.to_str().unwrap(),
        "--tls-auth-clients",
        "no",
    ]);
    let mut with = settings(&format!("rediss://localhost:{tls}"), "n1", 1);
    with.tls_ca_file = Some(cert);
    let one = member_with(with.clone());
    one.has("ada");
    one.directory.complete();
    one.level().await;
    assert_eq!(one.hosts_of("ada").await, ["n1"]);
    // Whom nobody vouches for is not talked to.
    with.tls_ca_file = None;
    let stranger = Server::new(&with.redis, None).unwrap();
    assert!(stranger.connect(Duration::from_secs(2)).await.is_err());
    drop(redis);
    let _ = std::fs::remove_dir_all(place);
}

#[tokio::test]
async fn sentinels_and_a_failover() {
    let mut master = Redis::start();
    let replica = Redis::with(&["--replicaof", "127.0.0.1", &master.port.to_string()]);
    let sentinels: Vec<Redis> = (0..3).map(|_| sentinel(master.port)).collect();
    let places: Vec<String> = sentinels
        .iter()
        .map(|sentinel| format!("127.0.0.1:{}", sentinel.port))
        .collect();
    eventually(
        "the sentinels know each other and the replica",
        async || {
            sentinels.iter().all(|sentinel| {
                let known = sentinel.ask(&["SENTINEL", "MASTER", "main"]);
                let value = |name: &str| {
                    let at = known.iter().position(|line| line == name).unwrap();
                    known[at + 1].clone()
                };
                value("num-slaves") == "1" && value("num-other-sentinels") == "2"
            })
        },
    )
    .await;
    let address = format!("redis+sentinel://{}/main", places.join(","));
    let one = member(&address, "n1", 1);
    one.has("ada");
    one.directory.complete();
    one.level().await;
    master.stop();
    eventually("the replica is the master", async || {
        replica.ask(&["ROLE"]).first().map(String::as_str) == Some("master")
    })
    .await;
    one.has("bob");
    eventually("both are at the new master", async || {
        ["ada", "bob"]
            .iter()
            .all(|user| replica.ask(&["HKEYS", &format!("t:user:{{{user}}}")]) == ["n1"])
    })
    .await;
    one.level().await;
}

#[tokio::test]
async fn a_sentinel_over_tls() {
    let place = folder();
    let names = vec!["localhost".into(), "127.0.0.1".into()];
    let certificate = rcgen::generate_simple_self_signed(names).unwrap();
    let (cert, key) = (place.join("cert.pem"), place.join("key.pem"));
    std::fs::write(&cert, certificate.cert.pem()).unwrap();
    std::fs::write(&key, certificate.signing_key.serialize_pem()).unwrap();
    let (cert_path, key_path) = (cert.to_str().unwrap(), key.to_str().unwrap());
    let tls = free_port();
    let master = Redis::with(&[
        "--tls-port",
        &tls.to_string(),
        "--tls-cert-file",
        cert_path,
        "--tls-key-file",
        key_path,
        "--tls-auth-clients",
        "no",
        "--requirepass",
        "secret",
    ]);
    let sentinel_tls = free_port();
    let file = folder().join("sentinel.conf");
    let lines = format!(
        "tls-port {sentinel_tls}\ntls-cert-file {cert_path}\ntls-key-file {key_path}\n\
         tls-ca-cert-file {cert_path}\ntls-auth-clients no\ntls-replication yes\n\
         sentinel monitor main 127.0.0.1 {tls} 1\nsentinel auth-pass main secret\n"
    );
    std::fs::write(&file, lines).unwrap();
    let sentinel = Redis::sentinel(file);
    let address = format!("rediss+sentinel://:secret@localhost:{sentinel_tls}/main/1");
    let mut with = settings(&address, "n1", 1);
    with.tls_ca_file = Some(cert);
    let one = member_with(with);
    one.has("ada");
    one.directory.complete();
    one.level().await;
    assert_eq!(one.hosts_of("ada").await, ["n1"]);
    drop((master, sentinel));
    let _ = std::fs::remove_dir_all(place);
}

fn sentinel(master: u16) -> Redis {
    let place = folder();
    let file = place.join("sentinel.conf");
    std::fs::write(
        &file,
        format!(
            "sentinel monitor main 127.0.0.1 {master} 2\n\
             sentinel down-after-milliseconds main 500\n\
             sentinel failover-timeout main 2000\n"
        ),
    )
    .unwrap();
    Redis::sentinel(file)
}

#[tokio::test]
async fn a_cluster_of_three() {
    let nodes: Vec<Redis> = (0..3)
        .map(|n| {
            let bus = free_port().to_string();
            let name = format!("nodes-{n}.conf");
            Redis::with(&[
                "--cluster-enabled",
                "yes",
                "--cluster-config-file",
                &name,
                "--cluster-port",
                &bus,
            ])
        })
        .collect();
    let mut create = Command::new("redis-cli");
    create.args(["--cluster", "create"]);
    for node in &nodes {
        create.arg(format!("127.0.0.1:{}", node.port));
    }
    let created = create.args(["--cluster-yes"]).output().unwrap();
    assert!(created.status.success(), "{created:?}");
    eventually("the cluster is whole", async || {
        nodes.iter().all(|node| {
            let info = node.ask(&["CLUSTER", "INFO"]);
            info.iter().any(|line| line.trim() == "cluster_state:ok")
        })
    })
    .await;
    let address = format!(
        "redis+cluster://127.0.0.1:{},127.0.0.1:{}",
        nodes[0].port, nodes[1].port
    );
    let one = member(&address, "n1", 1);
    for n in 0..200 {
        one.has(&format!("u{n}"));
    }
    one.directory.complete();
    one.level().await;
    for n in [0, 57, 199] {
        assert_eq!(one.hosts_of(&format!("u{n}")).await, ["n1"]);
    }
    one.directory.leave(Duration::from_secs(5)).await.unwrap();
    let left: usize = nodes.iter().map(|node| node.keys().len()).sum();
    assert_eq!(left, 0);
}
