//! A server that is years old: its clock and its counters pass the ends of their ranges under load, and nobody notices.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use serde_json::json;
use tests::client::BOTH;
use tests::wait::{PATIENCE, eventually};
use tests::{Client, Server, Settings, posts};

const HEARTBEAT: Duration = Duration::from_secs(3);

#[test]
fn sessions_deadlines_and_ids_hold_while_everything_wraps() {
    let settings = Settings::new()
        .with("diagnostics.near_wrap", true)
        .with("limits.heartbeat_timeout_ms", HEARTBEAT.as_millis() as u64)
        .with("server.workers", 2);
    let server = Server::start(settings);
    let mut pairs: Vec<(Client, Client)> = (0..4)
        .map(|n| {
            let client =
                |name, at: usize| Client::login(&server, BOTH[(n + at) % 2], &format!("{name}{n}"));
            (client("ann", 0), client("bob", 1))
        })
        .collect();
    let mut ids = HashSet::new();
    let (mut sessions, mut silent) = (HashSet::new(), Vec::new());
    // The ticks of deadlines wrap four seconds after the start; incarnations with the reloads; generations with the newcomers, of whom
    // each takes the row of the one before.
    let end = Instant::now() + Duration::from_secs(9);
    let mut round = 0;
    while Instant::now() < end {
        for (n, (ann, bob)) in pairs.iter_mut().enumerate() {
            let text = format!("{round} of {n}");
            ann.send(
                json!({"type": "sendto", "to": format!("bob{n}"), "content": text, "id": round}),
            );
            let message = bob.expect("message");
            assert_eq!(message["content"], text);
            let ack = ann.expect("ack");
            assert_eq!(ack["status"], "delivered");
            assert_eq!(ack["messageId"], message["id"]);
            assert!(ids.insert(message["id"].as_str().unwrap().to_owned()));
            bob.send(json!({"type": "ping"}));
            bob.expect("pong");
        }
        let mut newcomer = Client::connect(&server, BOTH[round % 2]);
        let open = newcomer.expect("open");
        assert!(sessions.insert(open["session"].to_string()), "{open}");
        drop(newcomer);
        if round % 5 == 0 {
            let name = format!("silent{round}");
            silent.push((
                Instant::now(),
                Client::login(&server, BOTH[round % 2], &name),
            ));
        }
        match round % 20 {
            7 => {
                let reload = server.house().run(&["reload"]);
                assert!(reload.status.success(), "{reload:?}");
            }
            15 => posts::kill_each(&server, "worker"),
            _ => {}
        }
        // Those who are silent end when it is time, before the wrap, across it and after it.
        let now = Instant::now();
        while silent
            .first()
            .is_some_and(|(since, _)| now > *since + HEARTBEAT)
        {
            let (since, client) = silent.remove(0);
            client.expect_ending(4002);
            let late = since.elapsed().saturating_sub(HEARTBEAT);
            assert!(late < PATIENCE / 2, "{late:?} late");
        }
        round += 1;
        std::thread::sleep(Duration::from_millis(50));
    }
    for (_, client) in silent {
        client.expect_ending(4002);
    }
    eventually("the books agree", || posts::audit(&server).ok());
}
