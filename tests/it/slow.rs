//! A reader that does not read is let go; nobody else notices.

use std::time::{Duration, Instant};

use serde_json::json;
use tests::wait::median;
use tests::{Client, Settings, Transport};

use crate::both;

#[test]
fn past_its_outbox_limit_a_slow_reader_is_closed_with_4008() {
    let settings = Settings::new()
        .with("table.arena_mib", 8)
        .with("limits.outbox_bytes", 200_000)
        .with("limits.drain_timeout_ms", 20_000);
    both(&settings, |server, transport| {
        let slow = Client::login(server, transport, "slow");
        let mut second = Client::login(server, transport, "slow");
        let mut ann = Client::login(server, Transport::WebSocket, "ann");
        let mut bob = Client::login(server, Transport::Tcp, "bob");
        ann.join("all");
        let mut slow = slow;
        slow.join("all");
        bob.join("all");
        let mut trips = Vec::new();
        let content = "z".repeat(10_000);
        let mut members = 3;
        for number in 0..20_000 {
            let start = Instant::now();
            ann.send(json!({"type": "sendgroup", "to": "all", "content": [number, content], "quiet": true}));
            assert_eq!(bob.expect("message")["content"][0], number);
            trips.push(start.elapsed());
            if number % 20 == 0 {
                ann.send(json!({"type": "who", "group": "all"}));
                members = ann.expect("presence")["users"].as_array().unwrap().len();
                if members == 2 {
                    break;
                }
            }
        }
        assert_eq!(members, 2, "the slow reader was never let go");
        let usual = median(trips);
        assert!(
            usual < Duration::from_millis(100),
            "others waited {usual:?}"
        );
        slow.expect_ending(4008);
        second.expect_nothing();
    });
}

#[test]
fn a_reader_that_is_only_a_little_late_loses_nothing() {
    let settings = Settings::new().with("limits.outbox_bytes", 4 << 20);
    both(&settings, |server, transport| {
        let mut late = Client::login(server, transport, "late");
        let mut ann = Client::login(server, transport, "ann");
        let content = "z".repeat(10_000);
        for number in 0..300 {
            ann.send(json!({"type": "sendto", "to": "late", "content": [number, content], "quiet": true}));
        }
        ann.expect_nothing();
        for number in 0..300 {
            assert_eq!(late.expect("message")["content"][0], number);
        }
        late.expect_nothing();
    });
}

#[test]
fn a_sender_that_does_not_read_its_answers_is_slowed_or_let_go() {
    // Its own acknowledgements fill its outbox.
    let settings = Settings::new()
        .with("limits.outbox_bytes", 100_000)
        .with("limits.drain_timeout_ms", 500);
    let names: Vec<String> = (0..900)
        .map(|number| format!("somebody with the number {number}"))
        .collect();
    both(&settings, |server, transport| {
        let mut bob = Client::login(server, transport, "bob");
        let mut ann = Client::login(server, transport, "ann");
        ann.stream()
            .set_write_timeout(Some(Duration::from_secs(2)))
            .unwrap();
        let request = json!({"type": "who", "users": names}).to_string();
        let stopped = (0..20_000).any(|_| ann.try_send(&request).is_err());
        assert!(stopped, "20,000 answers nobody reads");
        bob.expect_nothing();
    });
}
