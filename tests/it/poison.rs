//! A message over which its worker dies twice costs its own session, and nobody else anything.

use serde_json::json;
use tests::client::BOTH;
use tests::wait::eventually;
use tests::{Client, Settings, posts};

use crate::both;

#[test]
fn the_second_death_over_one_message_ends_its_session_and_no_other() {
    let settings = Settings::new().with("diagnostics.crash_word", "abracadabra");
    both(&settings, |server, transport| {
        let mut others: Vec<Client> = (0..12)
            .map(|number| Client::login(server, BOTH[number % 2], &format!("u{number}")))
            .collect();
        others.iter_mut().for_each(|client| client.join("all"));
        let mut victim = Client::login(server, transport, "victim");
        victim.join("all");
        victim.send(json!({"type": "sendto", "to": "u0", "content": "before", "quiet": true}));
        assert_eq!(others[0].expect("message")["content"], "before");
        victim.send(json!({"type": "sendto", "to": "u0", "content": "abracadabra", "quiet": true}));
        victim.expect_ending(1011);
        posts::filled(server);
        others.iter_mut().for_each(Client::expect_nothing);
        others[0]
            .send(json!({"type": "sendgroup", "to": "all", "content": "all well?", "quiet": true}));
        for other in &mut others[1..] {
            assert_eq!(other.expect("message")["content"], "all well?");
        }
        eventually("the log names it", || {
            let log = server.house().log();
            (log.contains("poison") && log.contains("victim")).then_some(())
        });
        posts::audit(server).unwrap();
    });
}

#[test]
fn whoever_was_ended_over_a_message_may_come_again() {
    let settings = Settings::new().with("diagnostics.crash_word", "abracadabra");
    both(&settings, |server, transport| {
        let mut bob = Client::login(server, BOTH[0], "bob");
        for round in 0..3 {
            let victim_name = format!("victim{round}");
            let mut victim = Client::login(server, transport, &victim_name);
            victim.send(
                json!({"type": "sendto", "to": "bob", "content": "abracadabra", "quiet": true}),
            );
            victim.expect_ending(1011);
            let mut next = Client::login(server, transport, &victim_name);
            assert_eq!(next.sendto("bob", json!(round)), "delivered");
            assert_eq!(bob.expect("message")["content"], round);
        }
    });
}
