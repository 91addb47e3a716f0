//! The command line: check, status, version, help.

use std::process::Output;

use serde_json::json;
use tests::{Client, House, Server, Settings, Transport, status};

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
}

#[test]
fn check_accepts_a_good_configuration() {
    let house = House::new(Settings::new());
    let output = house.run(&["check"]);
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn check_names_file_line_and_key() {
    for (key, value) in [
        ("limits.login_timeout_ms", json!(-1)),
        ("limits.message_bytes", json!("many")),
        ("limits.no_such_key", json!(1)),
        ("nosuchsection.key", json!(1)),
        ("auth.mode", json!("closed")),
        ("server.tcp", json!(["everywhere"])),
        ("table.sessions", json!(0)),
    ] {
        let house = House::new(Settings::new().with(key, value.clone()));
        let text = std::fs::read_to_string(house.config()).unwrap();
        let (section, name) = key.split_once('.').unwrap();
        let wanted = if section == "nosuchsection" {
            format!("[{section}]")
        } else {
            format!("{name} = ")
        };
        let line = 1 + text
            .lines()
            .position(|line| line.starts_with(&wanted))
            .unwrap();
        let output = house.run(&["check"]);
        assert!(!output.status.success(), "{key} = {value} was accepted");
        let place = format!("{}:{line}:", house.config().display());
        assert!(
            said(&output).contains(&place),
            "{place} is not in {}",
            said(&output)
        );
        assert!(
            said(&output).contains(if section == "nosuchsection" {
                section
            } else {
                key
            }),
            "{}",
            said(&output)
        );
    }
}

#[test]
fn check_of_a_file_that_is_not_there_or_not_toml() {
    let house = House::new(Settings::new());
    std::fs::write(house.config(), "[server\nnode = 1\n").unwrap();
    let output = house.run(&["check"]);
    assert!(!output.status.success());
    assert!(said(&output).contains("config.toml:1"), "{}", said(&output));
    std::fs::remove_file(house.config()).unwrap();
    let output = house.run(&["check"]);
    assert!(!output.status.success());
    assert!(said(&output).contains("config.toml"), "{}", said(&output));
}

#[test]
fn the_default_configuration_is_complete_and_valid() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .join("config.toml");
    let text = std::fs::read_to_string(&root).unwrap();
    for key in [
        "websocket",
        "login_timeout_ms",
        "outbox_bytes",
        "same_user",
        "admins",
        "origins",
        "arena_mib",
        "pid_file",
        "echo",
    ] {
        assert!(
            text.lines().any(|line| line
                .trim_start_matches(['#', ' '])
                .starts_with(&format!("{key} ="))),
            "{key} is not in config.toml"
        );
    }
    let house = House::new(Settings::new());
    std::fs::write(house.config(), text).unwrap();
    let output = house.run(&["check"]);
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn status_shows_processes_sessions_and_every_section() {
    let server = Server::standard();
    let mut ann = Client::login(&server, Transport::WebSocket, "ann");
    ann.join("cats");
    let _bob = Client::login(&server, Transport::Tcp, "bob");
    let output = server.house().run(&["status"]);
    assert!(output.status.success(), "{}", said(&output));
    let text = said(&output);
    for word in ["master", "worker", "timer", &server.pid().to_string()] {
        assert!(text.contains(word), "{word} is not in\n{text}");
    }
    assert!(text.contains("turns of slot"), "{text}");
    let processes = &status::whole(&server)["processes"];
    let worker = processes
        .as_array()
        .unwrap()
        .iter()
        .find(|process| process["role"] == "worker");
    let turns = worker.unwrap()["turns"]["times"].as_array().unwrap();
    let counted = turns.iter().map(|bar| bar["count"].as_u64().unwrap());
    assert!(counted.sum::<u64>() > 0, "{turns:?}");
    let sections = status::sections(&server);
    for name in [
        "sessions",
        "users",
        "groups",
        "memberships",
        "arena",
        "outbox",
    ] {
        assert!(
            sections.keys().any(|section| section.starts_with(name)),
            "no {name} in {sections:?}"
        );
        assert!(text.contains(name), "{name} is not in\n{text}");
    }
    let section = |name: &str| &sections[name];
    assert!((2..=3).contains(&section("sessions").used), "{sections:?}");
    assert_eq!(
        (
            section("sessions").capacity,
            section("groups").used,
            section("memberships").used
        ),
        (200, 1, 1)
    );
    assert!(
        sections
            .values()
            .all(|section| section.used <= section.high_water
                && section.high_water <= section.capacity),
        "{sections:?}"
    );
}

#[test]
fn commands_that_need_a_server_say_when_there_is_none() {
    let house = House::new(Settings::new());
    for command in ["status", "reload", "stop"] {
        let output = house.run(&[command]);
        assert!(!output.status.success(), "{command}: {}", said(&output));
        assert!(!said(&output).is_empty(), "{command} failed without a word");
    }
}

#[test]
fn version_and_help() {
    let house = House::new(Settings::new());
    let output = house.run(&["--version"]);
    assert!(
        output.status.success() && said(&output).contains(env!("CARGO_PKG_VERSION")),
        "{}",
        said(&output)
    );
    let output = house.run(&["--help"]);
    let text = said(&output);
    assert!(output.status.success());
    for word in ["status", "reload", "stop", "check", "--daemon", "--config"] {
        assert!(text.contains(word), "{word} is not in\n{text}");
    }
    assert!(
        !text.contains("--role"),
        "hidden arguments are shown:\n{text}"
    );
    let output = house.run(&["--no-such-option"]);
    assert!(!output.status.success());
}
