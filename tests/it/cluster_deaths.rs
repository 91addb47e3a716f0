//! Hosts, links and forwarders die.

use serde_json::json;
use tests::Client;
use tests::Transport::Tcp;
use tests::cluster::{ALL_BUSES, Bus, Cluster};
use tests::wait::eventually;

fn status(client: &mut Client, to: &str) -> String {
    client.send(json!({"type": "sendto", "to": to, "content": 1, "id": "q"}));
    loop {
        let message = client.json();
        if let Some(said) = message["status"].as_str().or(message["code"].as_str()) {
            return said.to_owned();
        }
    }
}

#[test]
fn a_dead_host_leaves_the_directory_and_its_users_are_offline() {
    for bus in [Bus::Redis, Bus::Forwarder] {
        let mut cluster = Cluster::start(bus, 3);
        let mut ann = cluster.login(0, Tcp, "ann");
        let _bob = cluster.login(1, Tcp, "bob");
        let _cid = cluster.login(2, Tcp, "cid");
        cluster.expect_users(&[("ann", &[0]), ("bob", &[1]), ("cid", &[2])]);
        assert_eq!(status(&mut ann, "bob"), "routed");
        cluster.kill_host(1);
        // Sent while its lease still stands: the answer is late, and not silence.
        let said = status(&mut ann, "bob");
        assert!(said == "offline" || said == "overloaded", "{said}");
        cluster.expect_users(&[("ann", &[0]), ("cid", &[2])]);
        assert_eq!(status(&mut ann, "bob"), "offline");
        assert_eq!(status(&mut ann, "cid"), "routed");
        cluster.is_level();
        // The same host again, in another life.
        cluster.start_host(1);
        cluster.is_level();
        let _bob = cluster.login(1, Tcp, "bob");
        cluster.expect_users(&[("ann", &[0]), ("bob", &[1]), ("cid", &[2])]);
        assert_eq!(status(&mut ann, "bob"), "routed");
    }
}

#[test]
fn a_dead_link_costs_nobody_anything() {
    for bus in ALL_BUSES {
        let cluster = Cluster::start(bus, 2);
        let mut ann = cluster.login(0, Tcp, "ann");
        let mut bob = cluster.login(1, Tcp, "bob");
        let mut cid = cluster.login(0, Tcp, "cid");
        cluster.expect_users(&[("ann", &[0]), ("bob", &[1]), ("cid", &[0])]);
        for (victim, n) in [(0, 0), (1, 100), (0, 200), (1, 300)] {
            // Its successor comes at once only if it worked for a second.
            std::thread::sleep(std::time::Duration::from_millis(1100));
            for id in n..n + 50 {
                ann.send(json!({"type": "sendto", "to": "bob", "content": id, "id": id}));
            }
            assert!(cluster.kill_link(victim));
            for id in n + 50..n + 100 {
                ann.send(json!({"type": "sendto", "to": "bob", "content": id, "id": id}));
            }
            for id in n..n + 100 {
                let ack = ann.expect("ack");
                assert_eq!((&ack["id"], &ack["status"]), (&json!(id), &json!("routed")));
            }
            assert_eq!(cid.sendto("ann", json!("local")), "delivered");
            assert_eq!(ann.expect("message")["content"], "local");
        }
        let mut ids = std::collections::HashSet::new();
        let mut heard = Vec::new();
        let mut repeated = 0;
        while heard.len() < 400 {
            let message = bob.expect("message");
            if ids.insert(message["id"].clone()) {
                heard.push(message["content"].as_i64().unwrap());
            } else {
                repeated += 1;
            }
        }
        assert_eq!(heard, (0..400).collect::<Vec<_>>());
        assert!(
            repeated <= 4,
            "{repeated} messages came twice over four deaths"
        );
        cluster.is_level();
        cluster.expect_users(&[("ann", &[0]), ("bob", &[1]), ("cid", &[0])]);
    }
}

#[test]
fn a_dead_forwarder_is_replaced_by_the_next() {
    let mut cluster = Cluster::start(Bus::Forwarder, 2);
    let mut ann = cluster.login(0, Tcp, "ann");
    let mut bob = cluster.login(1, Tcp, "bob");
    cluster.expect_users(&[("ann", &[0]), ("bob", &[1])]);
    for id in 0..300 {
        if id == 100 {
            cluster.forwarders[0].kill();
        }
        ann.send(json!({"type": "sendto", "to": "bob", "content": id, "id": id}));
    }
    for id in 0..300 {
        let ack = ann.expect("ack");
        assert_eq!((&ack["id"], &ack["status"]), (&json!(id), &json!("routed")));
        assert_eq!(bob.expect("message")["content"], id);
    }
    bob.expect_nothing();
    // Without any, it is told; and the other way round.
    cluster.forwarders[1].kill();
    eventually("/healthz tells", || {
        let said = tests::http::get(cluster.host(0).websocket(), "/healthz");
        (said.status == 503).then_some(())
    });
}
