//! Groups: a few sessions that make as many as they can leave room for the groups of others.

use std::net::Ipv4Addr;

use serde_json::json;
use tests::client::BOTH;
use tests::{Client, Server, Settings};

#[test]
fn sixteen_sessions_do_not_take_all_groups() {
    for (name, users, addresses) in [("sessions", 1, 1), ("users", 16, 1), ("addresses", 16, 8)] {
        let settings = Settings::new().protected();
        let server = Server::start(settings.with("table.groups", 128));
        let mut refused = String::new();
        let mut attackers: Vec<Client> = (0..16)
            .map(|number| {
                let from = Ipv4Addr::new(127, 0, 4, 1 + (number % addresses) as u8);
                let client = Client::try_open_from(&server, BOTH[number % 2], from).unwrap();
                let user = format!("attacker {}", number % users);
                client.logged_in(json!({"type": "login", "userName": user}))
            })
            .collect();
        let mut joined = 0;
        for round in 0..20 {
            for (number, attacker) in attackers.iter_mut().enumerate() {
                let group = format!("{number} {round}");
                attacker.send(json!({"type": "join", "group": group, "id": "j"}));
                let answer = attacker.json();
                if answer["code"] == "capacity" {
                    refused = answer["content"].as_str().unwrap_or_default().to_owned();
                } else {
                    joined += 1;
                }
            }
        }
        assert!(
            refused.contains("share"),
            "{name}: {joined} joined: {refused}"
        );
        for transport in BOTH {
            let from = Ipv4Addr::new(127, 0, 5, 1);
            let newcomer = Client::try_open_from(&server, transport, from).unwrap();
            let mut newcomer = newcomer.logged_in(json!({"type": "login", "userName": "newcomer"}));
            for number in 0..4 {
                newcomer.join(&format!("{transport:?} {number}"));
            }
        }
    }
}
