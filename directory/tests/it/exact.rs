//! The directory is exact after whatever happens to it, and nothing in it is outside of an index meanwhile.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use directory::{Event, Key};
use tokio::time::sleep;

use crate::redis::Redis;
use crate::{LEASE, Member, eventually, member};

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % sides
    }
}

/// Every field that no index names, looked for in one moment.
const OUTSIDE: &str = "local found = {} \
    for _, key in ipairs(redis.call('KEYS', 't:user:*')) do \
      local name = string.match(key, '{(.*)}') \
      local all = redis.call('HGETALL', key) \
      for i = 1, #all, 2 do \
        local boot = string.match(all[i + 1], '\"boot\":\"(%x+)\"') \
        if redis.call('SISMEMBER', 't:index:' .. all[i] .. ':' .. boot, 'user:' .. name) == 0 then \
          table.insert(found, key .. ' ' .. all[i]) end \
      end \
    end return found";

/// All of it, as `user host` to value.
fn everything(redis: &Redis) -> BTreeMap<String, String> {
    let all = "local found = {} for _, key in ipairs(redis.call('KEYS', 't:user:*')) do \
        local all = redis.call('HGETALL', key) for i = 1, #all, 2 do \
        table.insert(found, string.match(key, '{(.*)}') .. ' ' .. all[i]) table.insert(found, all[i + 1]) end end return found";
    let lines = redis.ask(&["EVAL", all, "0"]);
    let pairs = lines.chunks(2);
    pairs.map(|p| (p[0].clone(), p[1].clone())).collect()
}

async fn storm(seed: u64, empties: bool) {
    let mut dice = Dice(seed);
    let mut redis = Redis::start();
    let hosts: Vec<Member> = (1..=3)
        .map(|n| member(&redis.address(), &format!("n{n}"), n))
        .collect();
    for host in &hosts {
        host.directory.complete();
        host.level().await;
    }
    let mut wanted = BTreeMap::new();
    for round in 0..12_u64 {
        for _ in 0..60 {
            let host = &hosts[dice.roll(3) as usize];
            let user = format!("u{}", dice.roll(40));
            let place = format!("{user} {}", host.node);
            if dice.roll(3) == 0 {
                host.has_not(&user);
                wanted.remove(&place);
            } else {
                let value = format!("{{\"boot\":\"{}\",\"round\":{round}}}", host.boot);
                host.directory.set(Key::User(user), Some(value.clone()));
                wanted.insert(place, value);
            }
            if dice.roll(10) == 0 {
                sleep(Duration::from_millis(dice.roll(4))).await;
            }
        }
        match dice.roll(5) {
            0 => {
                redis.pause(true);
                sleep(Duration::from_millis(100 + dice.roll(1500))).await;
                redis.pause(false);
            }
            1 if empties => {
                redis.stop();
                sleep(Duration::from_millis(dice.roll(300))).await;
                redis.start_again();
            }
            2 if empties => {
                redis.ask(&["FLUSHALL"]);
                // An entry whose index was lost between the two is outside until the lost lease is noticed.
                sleep(LEASE / 4).await;
                eventually("everything has an index", async || {
                    redis.ask(&["EVAL", OUTSIDE, "0"]).is_empty()
                })
                .await;
            }
            3 => {
                redis.ask(&["DEL", "t:host:n1"]);
            }
            _ => {
                redis.ask(&["CLIENT", "KILL", "TYPE", "normal"]);
            }
        }
        let outside = redis.ask(&["EVAL", OUTSIDE, "0"]);
        assert_eq!(outside, [""; 0], "round {round} of storm {seed}");
    }
    eventually("the directory is exact", async || {
        everything(&redis) == wanted
    })
    .await;
    for host in &hosts {
        host.level().await;
    }
    // And it stays so.
    sleep(LEASE * 3 / 2).await;
    assert_eq!(everything(&redis), wanted);
    for host in &hosts {
        let index = format!("t:index:{}:{}", host.node, host.boot);
        let named = wanted.keys().filter(|k| k.ends_with(&host.node)).count();
        assert_eq!(redis.ask(&["SCARD", &index]), [named.to_string()]);
        host.directory.leave(Duration::from_secs(5)).await.unwrap();
    }
    assert_eq!(redis.keys(), [""; 0]);
}

#[tokio::test]
async fn a_storm_of_pauses_and_broken_connections() {
    storm(1, false).await;
}

#[tokio::test]
async fn a_storm_with_losses_of_everything() {
    storm(2, true).await;
}

#[tokio::test]
async fn another_storm_with_losses_of_everything() {
    storm(3, true).await;
}

#[tokio::test]
async fn what_somebody_removed_or_changed_is_as_it_was() {
    let redis = Redis::start();
    let mut one = member(&redis.address(), "n1", 1);
    for user in ["ada", "bob", "eve"] {
        one.has(user);
    }
    one.directory.complete();
    one.level().await;
    redis.ask(&["DEL", "t:user:{ada}", "t:index:n1:0000000000000001"]);
    redis.ask(&["HSET", "t:user:{bob}", "n1", "nonsense"]);
    redis.ask(&["SADD", "t:index:n1:0000000000000001", "user:zoe"]);
    redis.ask(&[
        "HSET",
        "t:user:{zoe}",
        "n1",
        "\"boot\":\"0000000000000001\"",
    ]);
    eventually("all is as it was", async || {
        redis.ask(&["SCARD", "t:index:n1:0000000000000001"]) == ["3"]
            && redis.ask(&["HGET", "t:user:{ada}", "n1"]) == [one.value()]
            && redis.ask(&["HGET", "t:user:{bob}", "n1"]) == [one.value()]
            && redis.ask(&["EXISTS", "t:user:{zoe}"]) == ["0"]
    })
    .await;
    // What others write without a word is heard of.
    redis.ask(&["HSET", "t:user:{eve}", "n2", "\"boot\":\"2\""]);
    let heard = one
        .hears(|event| match event {
            Event::Written { key, news, entries } if entries.len() == 2 => Some((key, news)),
            _ => None,
        })
        .await;
    assert_eq!(heard, (Key::User("eve".into()), false));
}

#[tokio::test]
async fn nobody_is_taken_for_dead_when_redis_stood_still_longer_than_a_lease() {
    let redis = Redis::start();
    let mut hosts = [
        member(&redis.address(), "n1", 1),
        member(&redis.address(), "n2", 2),
    ];
    for host in &hosts {
        for n in 0..300 {
            host.has(&format!("u{n}"));
        }
        host.directory.complete();
    }
    for host in &mut hosts {
        host.level().await;
        host.hears(|event| matches!(event, Event::Came(_)).then_some(()))
            .await;
    }
    sleep(LEASE).await;
    redis.pause(true);
    sleep(LEASE * 2).await;
    redis.pause(false);
    for _ in 0..20 {
        let count = everything(&redis).len();
        assert_eq!(count, 600, "something was removed");
        sleep(LEASE / 10).await;
    }
    for host in &mut hosts {
        host.level().await;
        while let Ok(event) = host.events.try_recv() {
            assert!(!matches!(event, Event::Gone(_)), "{event:?}");
        }
    }
}

#[tokio::test]
async fn who_has_just_come_back_takes_nobody_for_dead() {
    let redis = Redis::start();
    let lease = "{\"boot\":\"0000000000000002\",\"since\":1}";
    redis.ask(&["HSET", "t:hosts", "n2/0000000000000002", "1"]);
    redis.ask(&["SET", "t:host:n2", lease]);
    redis.ask(&["SADD", "t:index:n2:0000000000000002", "user:ada"]);
    redis.ask(&["HSET", "t:user:{ada}", "n2", lease]);
    let mut one = member(&redis.address(), "n1", 1);
    one.directory.complete();
    one.level().await;
    assert!(one.directory.hosts().borrow().contains_key("n2"));
    sleep(LEASE).await;
    redis.ask(&["CLIENT", "KILL", "TYPE", "normal"]);
    redis.ask(&["DEL", "t:host:n2"]);
    sleep(LEASE / 2).await;
    one.level().await;
    assert!(one.directory.hosts().borrow().contains_key("n2"));
    assert_eq!(one.hosts_of("ada").await, ["n2"]);
    while let Ok(event) = one.events.try_recv() {
        assert!(!matches!(event, Event::Gone(_)), "{event:?}");
    }
    // A lease's time it has, and no more.
    one.hears(|event| matches!(event, Event::Gone(_)).then_some(()))
        .await;
    eventually("what it left is removed", async || {
        redis.ask(&["EXISTS", "t:user:{ada}"]) == ["0"]
    })
    .await;
}

#[tokio::test]
async fn what_a_host_has_is_news_again_when_its_lease_was_over() {
    let redis = Redis::start();
    let mut one = member(&redis.address(), "n1", 1);
    let mut two = member(&redis.address(), "n2", 2);
    two.directory.complete();
    one.has("ada");
    one.directory.complete();
    one.level().await;
    two.level().await;
    let first = |event| match event {
        Event::Written { news, .. } => Some(news),
        _ => None,
    };
    assert!(one.hears(first).await);
    sleep(LEASE).await;
    redis.ask(&["DEL", "t:host:n1"]);
    assert!(one.hears(first).await);
    // Whether the other noticed depends on when it looked; if it did, both were said.
    let mut gone = 0;
    sleep(LEASE).await;
    while let Ok(event) = two.events.try_recv() {
        match event {
            Event::Gone(_) => gone += 1,
            Event::Came(_) => gone = 0,
            _ => {}
        }
    }
    assert_eq!(gone, 0);
    assert!(two.directory.hosts().borrow().contains_key("n1"));
}

#[tokio::test]
async fn leaving_takes_no_longer_than_it_may() {
    let redis = Redis::start();
    let first = member(&redis.address(), "n1", 1);
    first.directory.complete();
    first.level().await;
    let second = member(&redis.address(), "n1", 11);
    let mut state = second.directory.state();
    let taken = state.wait_for(|state| state.why().contains("server.node"));
    tokio::time::timeout(Duration::from_secs(5), taken)
        .await
        .unwrap()
        .unwrap();
    second.directory.leave(LEASE).await.unwrap();
    redis.pause(true);
    assert!(first.directory.leave(LEASE / 2).await.is_err());
    redis.pause(false);
}

/// Something between a host and Redis that can hold back what the host says, and lets it go on even when the host has hung up.
struct Swamp {
    port: u16,
    holds: Arc<AtomicBool>,
}

impl Swamp {
    fn before(redis: &Redis) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let holds = Arc::new(AtomicBool::new(false));
        let (to, held) = (redis.port, Arc::clone(&holds));
        std::thread::spawn(move || {
            for (number, host) in listener.incoming().enumerate() {
                let (Ok(host), Ok(redis)) = (host, TcpStream::connect(("127.0.0.1", to))) else {
                    return;
                };
                // Only the first connection goes through the swamp.
                let held = (number == 0).then(|| Arc::clone(&held));
                let (from, to) = (host.try_clone().unwrap(), redis.try_clone().unwrap());
                std::thread::spawn(move || pass(from, to, held));
                std::thread::spawn(move || pass(redis, host, None));
            }
        });
        Swamp { port, holds }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, held: Option<Arc<AtomicBool>>) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(count) = from.read(&mut buffer) {
        while held.as_ref().is_some_and(|h| h.load(Ordering::Relaxed)) {
            std::thread::sleep(Duration::from_millis(1));
        }
        if count == 0 || to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    // What Redis would see of it comes later still.
    std::thread::sleep(Duration::from_millis(200));
    let _ = to.shutdown(std::net::Shutdown::Write);
}

#[tokio::test]
async fn what_was_long_on_its_way_does_not_take_effect() {
    let redis = Redis::start();
    let swamp = Swamp::before(&redis);
    let address = format!("redis://127.0.0.1:{}", swamp.port);
    let one = member(&address, "n1", 1);
    one.directory.complete();
    one.level().await;
    swamp.holds.store(true, Ordering::Relaxed);
    one.has("ada");
    let mut state = one.directory.state();
    state.wait_for(|state| !state.is_up()).await.unwrap();
    one.has_not("ada");
    one.level().await;
    swamp.holds.store(false, Ordering::Relaxed);
    sleep(Duration::from_millis(300)).await;
    assert_eq!(redis.keys(), ["t:host:n1", "t:hosts"]);
}
