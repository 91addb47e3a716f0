//! Reload: what may change live does, what needs a restart is named, what is wrong is refused as a whole.

use nix::sys::signal::Signal;
use serde_json::json;
use tests::wait::eventually;
use tests::{Client, Server, Settings, Transport};

fn heartbeat(server: &Server) -> u64 {
    Client::connect(server, Transport::WebSocket).expect("open")["heartbeatMs"]
        .as_u64()
        .unwrap()
}

#[test]
fn a_signal_applies_live_keys_and_disturbs_nobody() {
    let settings = Settings::new()
        .with("limits.heartbeat_timeout_ms", 60_000)
        .with("auth.admins", json!([]));
    let mut server = Server::start(settings.clone());
    let mut ann = Client::login(&server, Transport::WebSocket, "ann");
    let mut bob = Client::login(&server, Transport::Tcp, "bob");
    ann.join("cats");
    ann.send(json!({"type": "broadcast", "content": "early", "id": 1}));
    ann.expect_error("forbidden");
    server.rewrite(
        settings
            .with("limits.heartbeat_timeout_ms", 70_000)
            .with("limits.message_bytes", 1_000)
            .with("auth.admins", json!(["ann"])),
    );
    server.signal(Signal::SIGUSR1);
    // Each worker hears of it in its own time.
    eventually("both workers have the new settings", || {
        (0..4).all(|_| heartbeat(&server) == 70_000).then_some(())
    });
    ann.send(json!({"type": "broadcast", "content": "now", "id": 2}));
    assert_eq!(bob.expect("system")["content"], "now");
    while ann.json()["type"] != "ack" {}
    bob.send(json!({"type": "sendto", "to": "ann", "content": "x".repeat(1_000)}));
    bob.expect_ending(1009);
}

#[test]
fn a_wrong_configuration_is_refused_and_the_old_one_stays() {
    let settings = Settings::new().with("limits.heartbeat_timeout_ms", 60_000);
    let mut server = Server::start(settings.clone());
    let mut ann = Client::login(&server, Transport::Tcp, "ann");
    for (key, value) in [
        ("limits.heartbeat_timeout_ms", json!("soon")),
        ("limits.heartbeat_timeout_ms", json!(0)),
        ("limits.same_user", json!("some")),
        ("limits.hartbeat_timeout_ms", json!(70_000)),
    ] {
        server.rewrite(
            settings
                .clone()
                .with("limits.login_timeout_ms", 7_777)
                .with(key, value.clone()),
        );
        let output = server.house().run(&["reload"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned()
            + &String::from_utf8_lossy(&output.stdout);
        assert!(
            !output.status.success(),
            "{key} = {value} was accepted: {said}"
        );
        assert!(
            said.contains("config.toml:") && said.contains(key),
            "{said}"
        );
        let open = Client::connect(&server, Transport::WebSocket).expect("open");
        assert_eq!(
            (&open["heartbeatMs"], &open["loginTimeoutMs"]),
            (&json!(60_000), &json!(10_000))
        );
    }
    // By signal there is only the log to say so.
    server.signal(Signal::SIGUSR1);
    eventually("the refusal is in the log", || {
        server
            .house()
            .log()
            .contains("limits.hartbeat_timeout_ms")
            .then_some(())
    });
    assert_eq!(heartbeat(&server), 60_000);
    ann.expect_nothing();
    server.rewrite(settings);
}

#[test]
fn what_needs_a_restart_is_named() {
    let settings = Settings::new();
    let mut server = Server::start(settings.clone());
    server.rewrite(
        settings
            .clone()
            .with("table.sessions", 300)
            .with("limits.heartbeat_timeout_ms", 70_000),
    );
    let output = server.house().run(&["reload"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("table.sessions") || server.house().log().contains("table.sessions"),
        "{said}"
    );
    eventually("the live key is applied", || {
        (heartbeat(&server) == 70_000).then_some(())
    });
}
