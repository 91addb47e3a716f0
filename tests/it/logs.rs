//! Log files: written, in the asked form, and opened anew on SIGHUP.

use nix::sys::signal::Signal;
use tests::wait::eventually;
use tests::{Client, House, Settings, Transport};

#[test]
fn a_moved_log_file_is_opened_anew() {
    let folder = tests::folder::Folder::new("steadfast-log");
    let log = folder.path().join("server.log");
    let server =
        House::new(Settings::new().with("server.log_file", log.display().to_string())).start();
    let first = eventually("a first line", || {
        std::fs::read_to_string(&log)
            .ok()
            .filter(|text| !text.is_empty())
    });
    let moved = folder.path().join("server.log.1");
    std::fs::rename(&log, &moved).unwrap();
    server.signal(Signal::SIGHUP);
    eventually("a new file", || log.exists().then_some(()));
    assert!(std::fs::read_to_string(&moved).unwrap().starts_with(&first));
    // What happens now is logged to the new file, by whichever process it happens to.
    server.signal(Signal::SIGUSR1);
    eventually("a line in the new file", || {
        std::fs::read_to_string(&log)
            .ok()
            .filter(|text| !text.is_empty())
    });
    Client::login(&server, Transport::WebSocket, "ann").expect_nothing();
}

#[test]
fn json_is_one_object_a_line() {
    let server = House::new(Settings::new().with("server.log_format", "json")).start();
    let log = server.house().log();
    let lines: Vec<&str> = log.lines().filter(|line| line.starts_with('{')).collect();
    assert!(!lines.is_empty(), "{log}");
    for line in lines {
        serde_json::from_str::<serde_json::Value>(line)
            .unwrap_or_else(|error| panic!("{error} in {line}"));
    }
}
