//! Who lives, and what becomes of those who do not.

use std::time::Duration;

use directory::cleaning::{Cleaner, Whom};
use directory::{Event, Keys, Server};
use tokio::time::sleep;

use crate::redis::Redis;
use crate::{LEASE, eventually, member, member_with, settings};

/// A host that dies: all it does ends with its runtime.
fn dying(address: &str, node: &str, boot: u64, users: usize) {
    let address = address.to_owned();
    let node = node.to_owned();
    let life = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let host = member(&address, &node, boot);
            for n in 0..users {
                host.has(&format!("u{n}"));
            }
            host.directory.complete();
            host.level().await;
        });
    });
    life.join().unwrap();
}

fn came(event: Event) -> Option<String> {
    match event {
        Event::Came(host) => Some(host),
        _ => None,
    }
}

fn gone(event: Event) -> Option<String> {
    match event {
        Event::Gone(host) => Some(host),
        _ => None,
    }
}

#[tokio::test]
async fn hosts_come_and_leave() {
    let redis = Redis::start();
    let mut one = member(&redis.address(), "n1", 1);
    one.directory.complete();
    one.level().await;
    let two = member_with(directory::Settings {
        mesh: Some("tcp://127.0.0.1:9".into()),
        ..settings(&redis.address(), "n2", 2)
    });
    two.has("ada");
    two.directory.complete();
    assert_eq!(one.hears(came).await, "n2");
    let hosts = one.directory.hosts().borrow().clone();
    assert_eq!(hosts["n2"].mesh.as_deref(), Some("tcp://127.0.0.1:9"));
    assert!(!hosts.contains_key("n1"));
    two.level().await;
    two.directory.leave(Duration::from_secs(5)).await.unwrap();
    assert_eq!(one.hears(gone).await, "n2");
    one.directory.leave(Duration::from_secs(5)).await.unwrap();
    assert_eq!(redis.keys(), [""; 0]);
}

#[tokio::test]
async fn who_comes_and_leaves_is_noticed_long_before_a_lease_is_over() {
    let redis = Redis::start();
    let with = |node, boot| directory::Settings {
        lease: Duration::from_secs(600),
        ..settings(&redis.address(), node, boot)
    };
    let mut one = member_with(with("n1", 1));
    one.directory.complete();
    one.has("ada");
    one.level().await;
    let two = member_with(with("n2", 2));
    two.directory.complete();
    two.level().await;
    assert_eq!(one.hears(came).await, "n2");
    // What others have under its keys is said again, once it was read again.
    one.hears(|event| matches!(event, Event::Written { news: false, .. }).then_some(()))
        .await;
    // Who has just come himself takes nobody for dead, but he sees who has left.
    two.directory.leave(Duration::from_secs(5)).await.unwrap();
    assert_eq!(one.hears(gone).await, "n2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_host_left_is_removed_by_one_of_the_others() {
    let redis = Redis::start();
    let address = redis.address();
    let mut watchers = [member(&address, "n1", 1), member(&address, "n3", 3)];
    for watcher in &watchers {
        watcher.has("u7");
        watcher.directory.complete();
        watcher.level().await;
    }
    let dead = address.clone();
    tokio::task::spawn_blocking(move || dying(&dead, "n2", 2, 1000))
        .await
        .unwrap();
    for watcher in &mut watchers {
        watcher
            .hears(|event| came(event).filter(|host| host == "n2"))
            .await;
        assert_eq!(watcher.hears(gone).await, "n2");
    }
    eventually("all is removed", async || {
        redis.ask(&["EXISTS", "t:index:n2:0000000000000002"]) == ["0"]
            && redis.ask(&["HLEN", "t:hosts"]) == ["2"]
    })
    .await;
    assert_eq!(watchers[0].hosts_of("u7").await, ["n1", "n3"]);
    assert_eq!(watchers[0].hosts_of("u8").await, [""; 0]);
    let seen = watchers[0]
        .directory
        .last_seen(&["u8".into()])
        .await
        .unwrap();
    assert!(seen[0].is_some());
    sleep(LEASE / 2).await;
    assert_eq!(
        redis.keys(),
        [
            "t:host:n1",
            "t:host:n3",
            "t:hosts",
            "t:index:n1:0000000000000001",
            "t:index:n3:0000000000000003",
            "t:user:{u7}"
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_starts_again_keeps_what_is_new_and_loses_what_is_old() {
    let redis = Redis::start();
    let address = redis.address();
    let one = member(&address, "n1", 1);
    one.directory.complete();
    let dead = address.clone();
    tokio::task::spawn_blocking(move || dying(&dead, "n2", 2, 500))
        .await
        .unwrap();
    let again = member(&address, "n2", 22);
    again.has("u1");
    again.directory.complete();
    again.level().await;
    eventually("what is old is removed", async || {
        redis.ask(&["EXISTS", "t:index:n2:0000000000000002"]) == ["0"]
    })
    .await;
    assert_eq!(one.hosts_of("u1").await, ["n2"]);
    assert_eq!(one.hosts_of("u2").await, [""; 0]);
}

#[tokio::test]
async fn a_second_host_of_one_name_stays_out() {
    let redis = Redis::start();
    let first = member(&redis.address(), "n1", 1);
    first.has("ada");
    first.directory.complete();
    first.level().await;
    let second = member(&redis.address(), "n1", 11);
    second.has("bob");
    second.directory.complete();
    let mut state = second.directory.state();
    let taken = state.wait_for(|state| state.why().contains("server.node"));
    tokio::time::timeout(Duration::from_secs(5), taken)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(first.hosts_of("bob").await, [""; 0]);
    first.directory.leave(Duration::from_secs(5)).await.unwrap();
    second.level().await;
    assert_eq!(second.hosts_of("bob").await, ["n1"]);
}

#[tokio::test]
async fn a_host_that_lost_its_lease_is_back_with_everything() {
    let redis = Redis::start();
    let one = member(&redis.address(), "n1", 1);
    for n in 0..200 {
        one.has(&format!("u{n}"));
    }
    one.directory.complete();
    one.level().await;
    // As if it had been away for longer than its lease, and another had cleaned after it.
    redis.ask(&["DEL", "t:host:n1"]);
    let server = Server::new(&redis.address(), None).unwrap();
    let connection = server.connect(LEASE).await.unwrap();
    let keys = Keys::new("t");
    let cleaner = Cleaner {
        keys: &keys,
        lease: LEASE,
        last_seen: Duration::from_secs(60),
        name: "forwarder",
    };
    cleaner
        .clean_all(&connection, Whom::AllSilent)
        .await
        .unwrap();
    eventually("everything is there again", async || {
        redis.ask(&["SCARD", "t:index:n1:0000000000000001"]) == ["200"]
    })
    .await;
    one.level().await;
    for n in [0, 100, 199] {
        assert_eq!(one.hosts_of(&format!("u{n}")).await, ["n1"]);
    }
}
