//! What a second login of the same user does, and how many sessions a user may have.

use serde_json::json;
use tests::{Client, Settings, Transport};

use crate::both;

#[test]
fn one_the_newer_login_replaces_the_older() {
    both(
        &Settings::new().with("limits.same_user", "one"),
        |server, transport| {
            let old = Client::device(server, transport, "ann", "phone", "m");
            let mut bob = Client::login(server, transport, "bob");
            let mut new = Client::device(server, Transport::Tcp, "ann", "desk", "m");
            let ending = old.expect_ending(4004);
            let last = ending.last.unwrap();
            assert_eq!(last["type"], "kicked", "{last}");
            assert!(
                last["reason"]
                    .as_str()
                    .is_some_and(|reason| !reason.is_empty()),
                "{last}"
            );
            assert_eq!(bob.sendto("ann", json!("which?")), "delivered");
            assert_eq!(new.expect("message")["content"], "which?");
        },
    );
}

#[test]
fn one_per_device_replaces_only_the_same_device() {
    both(
        &Settings::new().with("limits.same_user", "one_per_device"),
        |server, transport| {
            let old = Client::device(server, transport, "ann", "phone", "m");
            let mut desk = Client::device(server, transport, "ann", "desk", "m");
            let mut other = Client::device(server, transport, "bob", "phone", "m");
            let mut new = Client::device(server, transport, "ann", "phone", "m");
            old.expect_ending(4004);
            for client in [&mut desk, &mut other, &mut new] {
                client.expect_nothing();
            }
        },
    );
}

#[test]
fn many_leaves_everyone_be() {
    both(&Settings::new(), |server, transport| {
        let mut sessions: Vec<Client> = (0..5)
            .map(|_| Client::device(server, transport, "ann", "phone", "m"))
            .collect();
        sessions.iter_mut().for_each(Client::expect_nothing);
    });
}

#[test]
fn sessions_per_user_are_limited_by_name() {
    both(
        &Settings::new().with("limits.sessions_per_user", 2),
        |server, transport| {
            let first = Client::login(server, transport, "ann");
            let mut second = Client::login(server, transport, "ann");
            let mut third = Client::open(server, transport);
            third.send(json!({"type": "login", "userName": "ann", "id": "third"}));
            assert_eq!(third.expect_error("capacity")["id"], "third");
            // The connection is still good for another name, and later for this one.
            let mut third = third.logged_in(json!({"type": "login", "userName": "bob"}));
            third.expect_nothing();
            first.logout();
            let mut fourth = Client::login(server, transport, "ann");
            fourth.expect_nothing();
            second.expect_nothing();
        },
    );
}
