//! Hosts in networks of their own, the way between them cut and healed.

use serde_json::json;
use tests::Transport::Tcp;
use tests::cluster::{Bus, Cluster, LEASE, Network, Redis};
use tests::wait::eventually;
use tests::{Client, Settings};

fn answer(client: &mut Client, to: &str) -> String {
    client.send(json!({"type": "sendto", "to": to, "content": 1, "id": "q"}));
    loop {
        let message = client.json();
        if let Some(said) = message["status"].as_str().or(message["code"].as_str()) {
            return said.to_owned();
        }
    }
}

fn routed(client: &mut Client, to: &str) {
    eventually("messages flow", || {
        (answer(client, to) == "routed").then_some(())
    });
}

/// Two hosts, each in a network of its own, a Redis at the hub; `test` gets a client of each, ann and bob, who talk.
fn apart(bus: Bus, test: impl FnOnce(&Network, &Cluster, &mut Client, &mut Client) + Send) {
    let test = || {
        let network = Network::new(2);
        let redis = Redis::with(&[
            "--bind",
            Network::HUB,
            "127.0.0.1",
            "--protected-mode",
            "no",
        ]);
        let address = format!("redis://{}:{}", Network::HUB, redis.port());
        let settings = Settings::new().with("cluster.timeout_ms", 1000);
        let mut cluster = Cluster::at(bus, 0, settings, redis, &address);
        let mut clients = Vec::new();
        for (place, name) in ["ann", "bob"].into_iter().enumerate() {
            network.enter(place);
            cluster.start_host_on(place, &Network::address(place));
            clients.push(cluster.login(place, Tcp, name));
        }
        network.to_hub();
        cluster.is_level();
        cluster.expect_users(&[("ann", &[0]), ("bob", &[1])]);
        let [ann, bob] = &mut clients[..] else {
            unreachable!()
        };
        routed(ann, "bob");
        routed(bob, "ann");
        test(&network, &cluster, ann, bob);
    };
    // Not this thread, which would never come back from there.
    std::thread::scope(|scope| scope.spawn(test).join().unwrap());
}

fn unreachable_both_ways(ann: &mut Client, bob: &mut Client) {
    for (from, to) in [(ann, "bob"), (bob, "ann")] {
        let said = answer(from, to);
        assert!(said == "overloaded" || said == "offline", "{said}");
        let own = from.name().to_owned();
        assert_eq!(answer(from, &own), "delivered", "what is local goes on");
    }
}

#[test]
fn a_host_cut_off_from_all_and_healed() {
    for bus in [Bus::Redis, Bus::Mesh] {
        apart(bus, |network, cluster, ann, bob| {
            network.cut(1, true);
            unreachable_both_ways(ann, bob);
            // Its lease is over, and the others clear what it left.
            cluster.expect_users(&[("ann", &[0])]);
            assert_eq!(answer(ann, "bob"), "offline");
            std::thread::sleep(LEASE);
            network.cut(1, false);
            cluster.is_level();
            cluster.expect_users(&[("ann", &[0]), ("bob", &[1])]);
            routed(ann, "bob");
            routed(bob, "ann");
        });
    }
}

#[test]
fn hosts_that_both_see_the_directory_and_not_each_other() {
    apart(Bus::Mesh, |network, cluster, ann, bob| {
        network.isolate(true);
        unreachable_both_ways(ann, bob);
        cluster.expect_users(&[("ann", &[0]), ("bob", &[1])]);
        network.isolate(false);
        cluster.is_level();
        routed(ann, "bob");
        routed(bob, "ann");
    });
}
