//! `who` and `presence`: who is there, on what, since when.

use std::time::UNIX_EPOCH;

use serde_json::{Value, json};
use tests::{Client, Server, Settings, Transport};

use crate::both;

fn who(client: &mut Client, request: Value) -> Vec<Value> {
    client.send(request);
    client.expect("presence")["users"]
        .as_array()
        .unwrap()
        .clone()
}

#[test]
fn who_tells_of_each_user_that_was_asked_for() {
    let server = Server::standard();
    let mut ann = Client::login(&server, Transport::WebSocket, "ann");
    let _bob = (
        Client::device(&server, Transport::Tcp, "bob", "b1", "phone \"X\""),
        Client::device(&server, Transport::WebSocket, "bob", "b2", "desk"),
    );
    let users = who(
        &mut ann,
        json!({"type": "who", "users": ["bob", "nobody", "ann"]}),
    );
    assert_eq!(users.len(), 3);
    let find = |name: &str| {
        users
            .iter()
            .find(|user| user["name"] == name)
            .unwrap_or_else(|| panic!("no {name} in {users:?}"))
    };
    let bob = find("bob");
    assert_eq!(
        (&bob["online"], &bob["hosts"]),
        (&json!(true), &json!(["test"]))
    );
    let mut devices: Vec<_> = bob["devices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|device| (device["id"].clone(), device["model"].clone()))
        .collect();
    devices.sort_by_key(|(id, _)| id.to_string());
    assert_eq!(
        devices,
        [
            (json!("b1"), json!("phone \"X\"")),
            (json!("b2"), json!("desk"))
        ]
    );
    let now = UNIX_EPOCH.elapsed().unwrap().as_millis() as u64;
    let seen = bob["lastSeen"].as_u64().unwrap();
    assert!(seen.abs_diff(now) < 60_000, "{seen} is far from {now}");
    let nobody = find("nobody");
    assert_eq!(nobody["online"], false);
    assert_eq!(nobody["devices"].as_array().map_or(0, Vec::len), 0);
    assert_eq!(find("ann")["online"], true);
}

#[test]
fn who_was_here_is_remembered_as_last_seen() {
    both(&Settings::new(), |server, transport| {
        let mut ann = Client::login(server, transport, "ann");
        let before = UNIX_EPOCH.elapsed().unwrap().as_millis() as u64;
        let bob = Client::login(server, transport, "bob");
        bob.logout();
        let users = who(&mut ann, json!({"type": "who", "users": ["bob"]}));
        assert_eq!(
            (&users[0]["name"], &users[0]["online"]),
            (&json!("bob"), &json!(false))
        );
        let seen = users[0]["lastSeen"]
            .as_u64()
            .unwrap_or_else(|| panic!("{users:?}"));
        let now = UNIX_EPOCH.elapsed().unwrap().as_millis() as u64;
        assert!(
            (before - 1_000..=now + 1_000).contains(&seen),
            "{seen} is not between {before} and {now}"
        );
    });
}

#[test]
fn who_tells_of_the_members_of_a_group() {
    both(&Settings::new(), |server, transport| {
        let mut ann = Client::login(server, transport, "ann");
        let mut members: Vec<Client> = ["bob", "carl", "bob"]
            .iter()
            .map(|name| Client::login(server, transport, name))
            .collect();
        members.iter_mut().for_each(|member| member.join("cats"));
        let _alone = Client::login(server, transport, "dora");
        let users = who(&mut ann, json!({"type": "who", "group": "cats"}));
        let mut names: Vec<_> = users
            .iter()
            .map(|user| user["name"].as_str().unwrap())
            .collect();
        names.sort_unstable();
        assert_eq!(names, ["bob", "carl"], "each once, however many sessions");
        assert!(users.iter().all(|user| user["online"] == true), "{users:?}");
    });
}

#[test]
fn who_asks_for_users_or_a_group() {
    both(&Settings::new(), |server, transport| {
        let mut ann = Client::login(server, transport, "ann");
        for bad in [
            json!({"type": "who", "id": 1}),
            json!({"type": "who", "users": "bob", "id": 1}),
            json!({"type": "who", "users": [1], "id": 1}),
            json!({"type": "who", "users": ["bob", ""], "id": 1}),
            json!({"type": "who", "group": ["cats"], "id": 1}),
        ] {
            ann.send(&bad);
            assert_eq!(ann.expect_error("bad_request")["id"], 1, "{bad}");
        }
        assert!(who(&mut ann, json!({"type": "who", "users": []})).is_empty());
    });
}

#[test]
fn ping_is_answered_by_pong_with_the_time() {
    both(&Settings::new(), |server, transport| {
        let mut ann = Client::login(server, transport, "ann");
        ann.send(json!({"type": "ping"}));
        let time = ann.expect("pong")["time"].as_u64().unwrap();
        let now = UNIX_EPOCH.elapsed().unwrap().as_millis() as u64;
        assert!(time.abs_diff(now) < 60_000, "{time} is far from {now}");
    });
}

#[test]
fn an_answer_names_its_group_and_says_when_it_was_cut() {
    both(
        &Settings::new().with("limits.presence_users", 3),
        |server, transport| {
            let mut clients: Vec<Client> = (0..5)
                .map(|number| Client::login(server, transport, &format!("u{number}")))
                .collect();
            clients.iter_mut().for_each(|client| client.join("cats"));
            clients[0].send(json!({"type": "who", "group": "cats"}));
            let presence = clients[0].expect("presence");
            assert_eq!(
                (&presence["group"], &presence["more"]),
                (&json!("cats"), &json!(2)),
                "{presence}"
            );
            assert_eq!(presence["users"].as_array().map(Vec::len), Some(3));
            clients[0].send(json!({"type": "who", "users": ["u0", "u1", "u2"]}));
            let presence = clients[0].expect("presence");
            assert_eq!(
                (
                    presence.get("group"),
                    presence["users"].as_array().map(Vec::len)
                ),
                (None, Some(3)),
                "{presence}"
            );
        },
    );
}
