//! Users on different hosts talk as if on one.

use serde_json::{Value, json};
use tests::Transport::{Tcp, WebSocket};
use tests::cluster::{ALL_BUSES, Bus, Cluster};
use tests::wait::eventually;
use tests::{Client, Settings};

/// Sends until the answer is this one: what another host knows of a login that has just happened comes a moment later.
fn sends_until(client: &mut Client, to: &str, status: &str) {
    eventually(&format!("a message to {to} is {status}"), || {
        (client.sendto(to, json!("?")) == status).then_some(())
    });
}

/// One sends to the other, who is elsewhere.
fn exchange(from: &mut Client, to: &mut Client) {
    let content = json!({"text": "h\u{e9}", "n": [1, 2.50]});
    let name = to.name().to_owned();
    from.send(json!({"type": "sendto", "to": name, "content": content, "id": 7}));
    let ack = from.expect("ack");
    assert_eq!((&ack["id"], &ack["status"]), (&json!(7), &json!("routed")));
    let message = to.expect("message");
    assert_eq!(message["id"], ack["messageId"]);
    assert_eq!(message["content"], content);
    assert_eq!(message["to"], name);
    from.expect_nothing();
    to.expect_nothing();
}

#[test]
fn private_messages_on_every_bus() {
    for bus in ALL_BUSES {
        println!("over {bus:?}");
        let cluster = Cluster::start(bus, 2);
        let mut ann = cluster.login(0, WebSocket, "ann");
        let mut bob = cluster.login(1, Tcp, "bob");
        cluster.expect_users(&[("ann", &[0]), ("bob", &[1])]);
        exchange(&mut ann, &mut bob);
        exchange(&mut bob, &mut ann);
        assert_eq!(ann.sendto("nobody", json!(1)), "offline");
    }
}

#[test]
fn every_session_of_both_users_has_it_once() {
    let cluster = Cluster::start(Bus::Redis, 3);
    let mut ann = cluster.login(0, Tcp, "ann");
    let mut others = vec![
        cluster.login(0, WebSocket, "ann"),
        cluster.login(1, Tcp, "ann"),
        cluster.login(0, Tcp, "bob"),
        cluster.login(1, WebSocket, "bob"),
        cluster.login(2, Tcp, "bob"),
    ];
    cluster.expect_users(&[("ann", &[0, 1]), ("bob", &[0, 1, 2])]);
    let mut eve = cluster.login(2, Tcp, "eve");
    // Until each host has heard of the others' logins, some may get it by another way; the directory is read back at each.
    ann.send(json!({"type": "sendto", "to": "bob", "content": 1, "id": 1}));
    assert_eq!(ann.expect("ack")["status"], "delivered");
    for other in &mut others {
        assert_eq!(other.expect("message")["content"], 1);
        other.expect_nothing();
    }
    eve.expect_nothing();
    // Without an id the sender has it back as well, whoever else has it.
    ann.send(json!({"type": "sendto", "to": "bob", "content": 2}));
    assert_eq!(ann.expect("message")["content"], 2);
    for other in &mut others {
        assert_eq!(other.expect("message")["content"], 2);
    }
    // Quiet: nothing unless it fails.
    ann.send(json!({"type": "sendto", "to": "bob", "content": 3, "quiet": true, "id": 3}));
    for other in &mut others {
        assert_eq!(other.expect("message")["content"], 3);
    }
    ann.expect_nothing();
    ann.send(json!({"type": "sendto", "to": "nobody", "content": 3, "quiet": true, "id": 4}));
    let ack = ann.expect("ack");
    assert_eq!((&ack["id"], &ack["status"]), (&json!(4), &json!("offline")));
}

#[test]
fn groups_and_broadcasts_reach_every_host_once() {
    let settings = Settings::new().with("auth.admins", vec!["root"]);
    let cluster = Cluster::with(Bus::Mesh, 3, settings);
    let mut ann = cluster.login(0, Tcp, "ann");
    let mut members = vec![
        cluster.login(0, WebSocket, "bob"),
        cluster.login(1, Tcp, "cid"),
        cluster.login(1, WebSocket, "dan"),
    ];
    let mut eve = cluster.login(2, Tcp, "eve");
    ann.join("chess");
    for member in &mut members {
        member.join("chess");
    }
    cluster.expect_groups(&[("chess", &[0, 1])]);
    ann.send(json!({"type": "sendgroup", "to": "chess", "content": "e4", "id": 1}));
    assert_eq!(ann.expect("ack")["status"], "delivered");
    for member in &mut members {
        let message = member.expect("message");
        assert_eq!(
            (&message["group"], &message["content"]),
            (&json!("chess"), &json!("e4"))
        );
        member.expect_nothing();
    }
    // Alone on its host, the sender hears what another host did with it.
    members.remove(0).logout();
    let routed = |client: &mut Client| {
        client.send(json!({"type": "sendgroup", "to": "chess", "content": "e5", "id": 2}));
        client.expect("ack")["status"].clone()
    };
    eventually("routed", || (routed(&mut ann) == "routed").then_some(()));
    let mut root = cluster.login(2, Tcp, "root");
    root.send(json!({"type": "broadcast", "content": "all", "id": 9}));
    assert_eq!(root.expect("system")["content"], "all");
    assert_eq!(root.expect("ack")["status"], "delivered");
    assert_eq!(ann.expect("system")["content"], "all");
    assert_eq!(eve.expect("system")["content"], "all");
    for member in &mut members {
        let mut heard = member.json();
        while heard["type"] == "message" {
            heard = member.json();
        }
        assert_eq!(
            (&heard["type"], &heard["content"]),
            (&json!("system"), &json!("all"))
        );
        member.expect_nothing();
    }
    ann.expect_nothing();
    eve.expect_nothing();
}

#[test]
fn who_answers_across_hosts() {
    let cluster = Cluster::start(Bus::Redis, 2);
    let mut ann = Client::device(cluster.host(0), Tcp, "ann", "a1", "phone");
    let mut desk = Client::device(cluster.host(1), WebSocket, "ann", "a2", "desk");
    let bob = Client::device(cluster.host(1), Tcp, "bob", "b1", "tablet");
    cluster.expect_users(&[("ann", &[0, 1]), ("bob", &[1])]);
    let user = |answer: &Value, index: usize| answer["users"][index].clone();
    ann.send(json!({"type": "who", "users": ["bob", "ann", "zed"]}));
    let answer = ann.expect("presence");
    assert_eq!(answer.get("partial"), None, "{answer}");
    let (there, own, nobody) = (user(&answer, 0), user(&answer, 1), user(&answer, 2));
    assert_eq!(there["name"], "bob");
    assert_eq!(
        (&there["online"], &there["hosts"]),
        (&json!(true), &json!(["n2"]))
    );
    assert_eq!(there["devices"], json!([{"id": "b1", "model": "tablet"}]));
    assert_eq!(own["hosts"], json!(["n1", "n2"]));
    assert_eq!(own["devices"].as_array().unwrap().len(), 2);
    assert_eq!(
        (&nobody["online"], &nobody["hosts"], &nobody["lastSeen"]),
        (&json!(false), &json!([]), &json!(null))
    );
    desk.join("chess");
    cluster.expect_groups(&[("chess", &[1])]);
    ann.send(json!({"type": "who", "group": "chess"}));
    let answer = ann.expect("presence");
    assert_eq!(answer["group"], "chess");
    assert_eq!(user(&answer, 0)["name"], "ann");
    ann.send(json!({"type": "who", "group": "nothing", "id": 3}));
    assert_eq!(ann.expect_error("unknown_group")["id"], 3);
    bob.logout();
    cluster.expect_users(&[("ann", &[0, 1])]);
    ann.send(json!({"type": "who", "users": ["bob"]}));
    let gone = user(&ann.expect("presence"), 0);
    assert_eq!(gone["online"], false);
    assert!(gone["lastSeen"].as_u64().is_some(), "{gone}");
}

#[test]
fn who_comes_and_goes_is_followed() {
    let cluster = Cluster::start(Bus::Forwarder, 2);
    let mut ann = cluster.login(0, Tcp, "ann");
    sends_until(&mut ann, "bob", "offline");
    let bob = cluster.login(1, Tcp, "bob");
    sends_until(&mut ann, "bob", "routed");
    let here = cluster.login(0, Tcp, "bob");
    sends_until(&mut ann, "bob", "delivered");
    here.logout();
    sends_until(&mut ann, "bob", "routed");
    drop(bob);
    sends_until(&mut ann, "bob", "offline");
    cluster.expect_users(&[("ann", &[0])]);
}

#[test]
fn a_stopped_cluster_leaves_nothing() {
    let mut cluster = Cluster::start(Bus::Redis, 2);
    let ann = cluster.login(0, Tcp, "ann");
    let mut bob = cluster.login(1, Tcp, "bob");
    bob.join("chess");
    cluster.expect_users(&[("ann", &[0]), ("bob", &[1])]);
    cluster.stop_host(1);
    cluster.expect_users(&[("ann", &[0])]);
    cluster.expect_groups(&[]);
    cluster.stop_host(0);
    assert_eq!(cluster.keys(), Vec::<String>::new());
    drop(ann);
}
