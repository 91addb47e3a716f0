//! What was set is there, whatever becomes of Redis.

use std::time::Duration;

use directory::{Event, Key};
use tokio::time::{Instant, sleep};

use crate::redis::Redis;
use crate::{LEASE, eventually, member};

#[tokio::test]
async fn what_is_set_is_there_and_what_is_not_goes() {
    let redis = Redis::start();
    let mut one = member(&redis.address(), "n1", 1);
    one.has("ada");
    one.directory.complete();
    one.level().await;
    assert_eq!(one.hosts_of("ada").await, ["n1"]);
    assert_eq!(
        redis.ask(&["SMEMBERS", "t:index:n1:0000000000000001"]),
        ["user:ada"]
    );
    let two = member(&redis.address(), "n2", 2);
    two.has("ada");
    two.directory.complete();
    two.level().await;
    one.has_not("ada");
    one.hears(|event| match event {
        Event::Removed { entries, .. } => {
            assert_eq!(entries.len(), 1);
            assert_eq!(entries[0].host, "n2");
            Some(())
        }
        _ => None,
    })
    .await;
    one.level().await;
    assert_eq!(one.hosts_of("ada").await, ["n2"]);
    let seen = one
        .directory
        .last_seen(&["ada".into(), "bob".into()])
        .await
        .unwrap();
    assert!(seen[0].is_some() && seen[1].is_none());
    assert!(
        redis
            .ask(&["SMEMBERS", "t:index:n1:0000000000000001"])
            .is_empty()
    );
}

#[tokio::test]
async fn a_write_tells_who_else_is_there_and_whether_it_is_news() {
    let redis = Redis::start();
    let two = member(&redis.address(), "n2", 2);
    two.has("ada");
    two.directory.complete();
    two.level().await;
    let mut one = member(&redis.address(), "n1", 1);
    one.has("ada");
    one.directory.complete();
    let written = |event| match event {
        Event::Written { key, news, entries } => Some((key, news, entries.len())),
        _ => None,
    };
    let key = Key::User("ada".into());
    assert_eq!(one.hears(written).await, (key.clone(), true, 2));
    one.has("ada");
    assert_eq!(one.hears(written).await, (key, false, 2));
}

#[tokio::test]
async fn a_redis_that_lost_everything_has_it_again() {
    let mut redis = Redis::start();
    let one = member(&redis.address(), "n1", 1);
    for n in 0..300 {
        one.has(&format!("u{n}"));
    }
    one.directory.complete();
    one.level().await;
    let mut state = one.directory.state();
    redis.stop();
    state.wait_for(|state| !state.is_up()).await.unwrap();
    assert!(!state.borrow().why().is_empty());
    assert!(
        one.directory
            .look_up(&[Key::User("u1".into())])
            .await
            .is_err()
    );
    one.has("late");
    one.has_not("u0");
    redis.start_again();
    one.level().await;
    assert_eq!(
        redis.ask(&["SCARD", "t:index:n1:0000000000000001"]),
        ["300"]
    );
    assert_eq!(one.hosts_of("late").await, ["n1"]);
    assert_eq!(one.hosts_of("u0").await, [""; 0]);
}

#[tokio::test]
async fn a_redis_that_stands_still_holds_nobody_up() {
    let redis = Redis::start();
    let one = member(&redis.address(), "n1", 1);
    one.has("ada");
    one.directory.complete();
    one.level().await;
    redis.pause(true);
    let began = Instant::now();
    assert!(
        one.directory
            .look_up(&[Key::User("ada".into())])
            .await
            .is_err()
    );
    assert!(began.elapsed() < Duration::from_secs(2));
    let mut state = one.directory.state();
    state.wait_for(|state| !state.is_up()).await.unwrap();
    one.has("bob");
    sleep(LEASE).await;
    redis.pause(false);
    one.level().await;
    for user in ["ada", "bob"] {
        assert_eq!(one.hosts_of(user).await, ["n1"]);
    }
}

#[tokio::test]
async fn what_a_predecessor_of_the_same_life_left_is_leveled() {
    let redis = Redis::start();
    let one = member(&redis.address(), "n1", 1);
    for user in ["stays", "went", "went too"] {
        one.has(user);
    }
    one.directory.complete();
    one.level().await;
    let successor = member(&redis.address(), "n1", 1);
    successor.has("stays");
    // Nothing is too much while it has not said that this is all.
    sleep(Duration::from_millis(200)).await;
    assert_eq!(successor.hosts_of("went").await, ["n1"]);
    successor.directory.complete();
    successor.level().await;
    assert_eq!(successor.hosts_of("stays").await, ["n1"]);
    assert_eq!(
        redis.ask(&["SMEMBERS", "t:index:n1:0000000000000001"]),
        ["user:stays"]
    );
}

#[tokio::test]
async fn ten_thousand_users_are_leveled_in_little_time() {
    let redis = Redis::start();
    let one = member(&redis.address(), "n1", 1);
    for n in 0..10_000 {
        one.has(&format!("user-{n}"));
    }
    one.directory.complete();
    one.level().await;
    assert_eq!(
        redis.ask(&["SCARD", "t:index:n1:0000000000000001"]),
        ["10000"]
    );
    let keys: Vec<Key> = (0..10_000)
        .map(|n| Key::User(format!("user-{n}")))
        .collect();
    let found = one.directory.look_up(&keys).await.unwrap();
    assert!(found.iter().all(|entries| entries.len() == 1));
    eventually("level again", async || {
        one.directory.state().borrow().is_level()
    })
    .await;
}
