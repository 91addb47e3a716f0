//! Reload: every process is replaced by the executable on disk, nobody is disconnected, and what cannot take over changes nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::client::BOTH;
use tests::house::executable;
use tests::installed::{executed, other_layout, program};
use tests::wait::eventually;
use tests::{Client, House, Server, Settings, posts};

/// A server of an executable of its own, which the test may replace, and some who are connected.
struct Visited {
    server: Server,
    clients: Vec<Client>,
}

impl Visited {
    fn begin() -> Visited {
        let server = House::new(Settings::new()).installed().start();
        let clients = (0..10)
            .map(|number| Client::login(&server, BOTH[number % 2], &format!("u{number}")))
            .collect();
        Visited { server, clients }
    }

    fn house(&self) -> &House {
        self.server.house()
    }

    /// The reload fails and says why, and everybody and everything is as before.
    fn is_refused(&mut self, why: &str) {
        let before = posts::filled(&self.server);
        let output = self.house().run(&["reload"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{output:?}");
        assert!(said.contains(why), "no {why:?} in {said}");
        assert!(self.house().log().contains(why), "no {why:?} in the log");
        assert_eq!(posts::filled(&self.server), before);
        self.clients.iter_mut().for_each(Client::expect_nothing);
    }
}

#[test]
fn all_processes_are_new_and_all_connections_old() {
    let Visited {
        server,
        mut clients,
    } = Visited::begin();
    let before = posts::filled(&server);
    for client in &mut clients {
        client.join("all");
    }
    let output = server.house().run(&["reload"]);
    assert!(output.status.success(), "{output:?}");
    let after = posts::filled(&server);
    assert_eq!(after.len(), before.len());
    assert!(
        after.iter().all(|pid| !before.contains(pid)),
        "{before:?} {after:?}"
    );
    clients.iter_mut().for_each(Client::expect_nothing);
    clients[0]
        .send(json!({"type": "sendgroup", "to": "all", "content": "still here?", "quiet": true}));
    for client in &mut clients[1..] {
        assert_eq!(client.expect("message")["content"], "still here?");
    }
    // And by signal.
    server.signal(Signal::SIGUSR1);
    eventually("all processes are new again", || {
        let now = posts::filled(&server);
        now.iter().all(|pid| !after.contains(pid)).then_some(())
    });
    clients.iter_mut().for_each(Client::expect_nothing);
    posts::audit(&server).unwrap();
}

#[test]
fn not_a_message_is_lost_or_doubled_under_traffic() {
    const RELOADS: usize = 3;
    let server = Server::standard();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for pair in 0..8 {
            let mut ann = Client::login(&server, BOTH[pair % 2], &format!("ann{pair}"));
            let mut bob = Client::login(&server, BOTH[pair / 2 % 2], &format!("bob{pair}"));
            let over = &over;
            scope.spawn(move || {
                let mut number = 0;
                while !over.load(Ordering::SeqCst) {
                    let bundle = 1 + number % 7;
                    for _ in 0..bundle {
                        ann.send(json!({"type": "sendto", "to": bob.name(), "content": number, "id": number}));
                        number += 1;
                    }
                    for number in number - bundle..number {
                        let ack = ann.expect("ack");
                        assert_eq!((&ack["id"], &ack["status"]), (&json!(number), &json!("delivered")));
                        assert_eq!(bob.expect("message")["content"], number);
                    }
                }
                ann.expect_nothing();
                bob.expect_nothing();
            });
        }
        let reloads: Vec<Output> = (0..RELOADS)
            .map(|_| server.house().run(&["reload"]))
            .collect();
        over.store(true, Ordering::SeqCst);
        reloads
            .iter()
            .for_each(|output| assert!(output.status.success(), "{output:?}"));
    });
}

#[test]
fn the_file_that_lies_there_now_is_what_runs() {
    let mut visited = Visited::begin();
    let all_run = |visited: &Visited, file: u64| {
        let runs = |pid: &i32| executed(*pid) == file;
        assert!(posts::filled(&visited.server).iter().all(runs));
    };
    let old = visited.house().installed_file();
    all_run(&visited, old);
    visited.house().install(&executable());
    let new = visited.house().installed_file();
    assert_ne!(new, old);
    // A death alone changes nothing.
    posts::kill_each(&visited.server, "worker");
    all_run(&visited, old);
    let output = visited.house().run(&["reload"]);
    assert!(output.status.success(), "{output:?}");
    all_run(&visited, new);
    posts::kill_each(&visited.server, "worker");
    all_run(&visited, new);
    visited.clients.iter_mut().for_each(Client::expect_nothing);
}

#[test]
fn an_executable_that_is_not_there_or_cannot_be_executed_is_refused() {
    let mut visited = Visited::begin();
    fs::rename(
        visited.house().installation(),
        visited.house().installation().with_extension("away"),
    )
    .unwrap();
    visited.is_refused("steadfast");
    fs::write(visited.house().installation(), "not a program").unwrap();
    visited.is_refused("steadfast");
    fs::set_permissions(
        visited.house().installation(),
        fs::Permissions::from_mode(0o755),
    )
    .unwrap();
    visited.is_refused("steadfast");
    restore_and_reload(visited);
}

#[test]
fn an_executable_that_ends_at_once_is_refused() {
    let mut visited = Visited::begin();
    visited.house().install(Path::new("/bin/false"));
    visited.is_refused("exit status 1");
    restore_and_reload(visited);
}

#[test]
fn an_executable_that_never_becomes_ready_is_refused() {
    let mut visited = Visited::begin();
    let sleeper = program(visited.house().path(), "for (;;) pause();");
    visited.house().install(&sleeper);
    visited.is_refused("not ready in time");
    eventually("nothing of it is left", || {
        tests::processes::children(visited.server.pid())
            .into_iter()
            .all(|pid| {
                fs::read_link(format!("/proc/{pid}/exe"))
                    .is_ok_and(|exe| exe != visited.house().installation())
            })
            .then_some(())
    });
    restore_and_reload(visited);
}

#[test]
fn an_executable_with_another_table_layout_is_refused() {
    let mut visited = Visited::begin();
    visited.house().install(&other_layout());
    visited.is_refused("layout");
    restore_and_reload(visited);
}

#[test]
fn the_dead_are_replaced_by_what_proved_good_though_the_file_is_broken_now() {
    let mut visited = Visited::begin();
    visited.house().install(Path::new("/bin/false"));
    posts::kill_each(&visited.server, "worker");
    posts::kill_each(&visited.server, "timer");
    visited.clients.iter_mut().for_each(Client::expect_nothing);
    visited.is_refused("exit status 1");
    posts::kill_each(&visited.server, "worker");
    visited.clients.iter_mut().for_each(Client::expect_nothing);
    restore_and_reload(visited);
}

#[test]
fn a_second_reload_during_one_is_refused_and_the_first_goes_on() {
    let Visited {
        server,
        mut clients,
    } = Visited::begin();
    let before = posts::filled(&server);
    let outputs: Vec<Output> = std::thread::scope(|scope| {
        let both: Vec<_> = (0..2)
            .map(|_| scope.spawn(|| server.house().run(&["reload"])))
            .collect();
        both.into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let succeeded = outputs
        .iter()
        .filter(|output| output.status.success())
        .count();
    assert!(succeeded > 0, "{outputs:?}");
    assert!(
        posts::filled(&server)
            .iter()
            .all(|pid| !before.contains(pid))
    );
    clients.iter_mut().for_each(Client::expect_nothing);
}

/// With a good executable in its place again the same reload succeeds, and leaves nothing wrong behind.
fn restore_and_reload(mut visited: Visited) {
    let before = posts::filled(&visited.server);
    visited.house().install(&executable());
    let output = visited.house().run(&["reload"]);
    assert!(output.status.success(), "{output:?}");
    let after = posts::filled(&visited.server);
    assert!(after.iter().all(|pid| !before.contains(pid)));
    visited.clients.iter_mut().for_each(Client::expect_nothing);
    posts::audit(&visited.server).unwrap();
    let pids: Vec<Value> = after.into_iter().map(Value::from).collect();
    println!("at work now: {pids:?}");
}
