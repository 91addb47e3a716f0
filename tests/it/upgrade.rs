//! Upgrade: the master becomes the executable on disk in its own place; whoever is connected notices nothing, and what cannot take over
//! changes nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::Signal;
use serde_json::json;
use tests::client::BOTH;
use tests::house::executable;
use tests::installed::{executed, other_layout, program};
use tests::processes::{self, children};
use tests::wait::eventually;
use tests::{Client, House, Server, Settings, Transport, posts, status};

/// A server of an executable of its own, which the test may replace, and some who are connected.
pub(crate) struct Visited {
    pub server: Server,
    clients: Vec<Client>,
    /// The worker and the timer processes.
    roles: Vec<i32>,
}

impl Visited {
    pub fn begin() -> Visited {
        let server = House::new(Settings::new()).installed().start();
        let mut clients: Vec<Client> = (0..10)
            .map(|number| Client::login(&server, BOTH[number % 2], &format!("u{number}")))
            .collect();
        clients.iter_mut().for_each(|client| client.join("all"));
        let roles = roles(&server);
        Visited {
            server,
            clients,
            roles,
        }
    }

    /// Replaces the executable.
    pub fn install(&self, from: &Path) {
        self.server.house().install(from);
    }

    pub fn upgrade(&self) -> Output {
        // By the executable that the server was built as: the one on disk may be none.
        upgrade(self.server.house())
    }

    /// Nobody was disconnected, and everybody is heard by everybody.
    pub fn all_talk(&mut self) {
        self.clients.iter_mut().for_each(Client::expect_nothing);
        for speaker in 0..2 {
            self.clients[speaker].send(
                json!({"type": "sendgroup", "to": "all", "content": "still here?", "quiet": true}),
            );
            for (_, client) in (0..).zip(&mut self.clients).filter(|(n, _)| *n != speaker) {
                assert_eq!(client.expect("message")["content"], "still here?");
            }
        }
    }

    /// Everybody is still there, and nobody is another process.
    pub fn is_as_before(&mut self) {
        assert_eq!(roles(&self.server), self.roles);
        self.all_talk();
    }

    /// The upgrade succeeds, and nothing but the master's executable has changed.
    fn is_upgraded(&mut self) {
        let output = self.upgrade();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(
            executed(self.server.pid()),
            self.server.house().installed_file()
        );
        assert_eq!(roles(&self.server), self.roles);
        self.all_talk();
    }

    /// The upgrade fails and says why, and everybody and everything is as before.
    fn is_refused(&mut self, why: &str) {
        let before = executed(self.server.pid());
        let output = self.upgrade();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{output:?}");
        assert!(said.contains(why), "no {why:?} in {said}");
        let log = self.server.house().log();
        assert!(log.contains(why), "no {why:?} in the log");
        assert_eq!(executed(self.server.pid()), before);
        assert_eq!(roles(&self.server), self.roles);
        self.all_talk();
    }

    /// With a good executable in its place again everything works that a server does.
    pub fn works(mut self) {
        self.install(&executable());
        self.is_upgraded();
        posts::kill_each(&self.server, "worker");
        posts::kill_each(&self.server, "timer");
        self.all_talk();
        Client::login(&self.server, Transport::WebSocket, "new").expect_nothing();
        posts::audit(&self.server).unwrap();
    }
}

fn upgrade(house: &House) -> Output {
    let mut command = Command::new(executable());
    command.arg("upgrade").arg("--config").arg(house.config());
    command.output().unwrap()
}

fn roles(server: &Server) -> Vec<i32> {
    let mut pids = [server.processes("worker"), server.processes("timer")].concat();
    pids.sort_unstable();
    pids
}

/// The process that is asked whether it could take over.
fn on_trial(server: &Server) -> i32 {
    eventually("an executable is tried", || {
        let is_trial = |pid: &i32| processes::arguments(*pid).contains(&"--takeover-trial".into());
        children(server.pid()).into_iter().find(is_trial)
    })
}

#[test]
fn the_master_is_another_executable_and_everything_else_is_as_before() {
    let mut visited = Visited::begin();
    let pid = visited.server.pid();
    let arguments = processes::arguments(pid);
    let mut guest = Client::open(&visited.server, Transport::Tcp);
    let before = status::whole(&visited.server);
    let mut descriptors = Vec::new();
    for _ in 0..3 {
        let old = executed(pid);
        visited.install(&executable());
        visited.is_upgraded();
        assert_ne!(executed(pid), old);
        assert!(processes::arguments(pid).starts_with(&arguments));
        descriptors.push(visited.server.descriptors());
        // In the middle of something else than a session.
        guest.send(r#"{"type": "nonsense"}"#);
        guest.expect("error");
    }
    assert_eq!(descriptors[1], descriptors[2], "descriptors are left open");
    let after = status::whole(&visited.server);
    for key in ["pid", "node", "websocket", "tcp", "segment", "sessions"] {
        assert_eq!(after[key], before[key], "{key}");
    }
    assert_eq!(after["state"], "running");
    assert!(after["uptime_ms"].as_u64() >= before["uptime_ms"].as_u64());
    drop(guest);
    visited.works();
}

#[test]
fn not_a_message_is_lost_or_doubled_under_traffic() {
    const UPGRADES: usize = 5;
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
        // Those who come and go meanwhile are all served.
        let (server, over_for_guests) = (&server, &over);
        scope.spawn(move || {
            let mut number = 0;
            while !over_for_guests.load(Ordering::SeqCst) {
                let guest = Client::login(server, BOTH[number % 2], &format!("guest{number}"));
                guest.logout();
                number += 1;
            }
        });
        let outputs: Vec<Output> = (0..UPGRADES)
            .map(|_| server.house().run(&["upgrade"]))
            .collect();
        over.store(true, Ordering::SeqCst);
        for output in outputs {
            assert!(output.status.success(), "{output:?}");
        }
    });
    posts::audit(&server).unwrap();
}

#[test]
fn workers_may_die_meanwhile() {
    let mut visited = Visited::begin();
    for round in 0..3 {
        let workers = visited.server.workers();
        std::thread::scope(|scope| {
            let upgrade = scope.spawn(|| visited.upgrade());
            for &worker in &workers {
                posts::signal(worker, Signal::SIGKILL);
            }
            let output = upgrade.join().unwrap();
            assert!(output.status.success(), "round {round}: {output:?}");
        });
        posts::filled(&visited.server);
        visited.all_talk();
        posts::audit(&visited.server).unwrap();
    }
    visited.roles = roles(&visited.server);
    visited.works();
}

#[test]
fn reload_and_upgrade_follow_each_other() {
    let mut visited = Visited::begin();
    for _ in 0..2 {
        visited.install(&executable());
        visited.is_upgraded();
        let output = visited.server.house().run(&["reload"]);
        assert!(output.status.success(), "{output:?}");
        let now = roles(&visited.server);
        assert!(now.iter().all(|pid| !visited.roles.contains(pid)));
        let here = visited.server.house().installed_file();
        assert!(now.iter().all(|&pid| executed(pid) == here));
        visited.roles = now;
        visited.is_upgraded();
    }
    visited.works();
}

#[test]
fn the_dead_are_replaced_by_what_proved_good_before_the_upgrade() {
    let mut visited = Visited::begin();
    let proved = visited.server.house().installed_file();
    visited.install(&executable());
    visited.is_upgraded();
    posts::kill_each(&visited.server, "worker");
    let workers = visited.server.workers();
    assert!(workers.into_iter().all(|pid| executed(pid) == proved));
    visited.roles = roles(&visited.server);
    visited.works();
}

#[test]
fn by_signal() {
    let visited = Visited::begin();
    visited.install(&executable());
    let new = visited.server.house().installed_file();
    visited.server.signal(Signal::SIGUSR2);
    eventually("the master is another executable", || {
        (executed(visited.server.pid()) == new).then_some(())
    });
    visited.install(Path::new("/bin/false"));
    visited.server.signal(Signal::SIGUSR2);
    eventually("the log says why there is no upgrade", || {
        let log = visited.server.house().log();
        log.contains("upgrade failed").then_some(())
    });
    assert_eq!(executed(visited.server.pid()), new);
    visited.works();
}

#[test]
fn an_executable_that_is_not_there_or_is_no_program_is_refused() {
    let mut visited = Visited::begin();
    let own = visited.server.house().installation();
    fs::rename(&own, own.with_extension("away")).unwrap();
    visited.is_refused("cannot be opened");
    fs::write(&own, "not a program").unwrap();
    visited.is_refused("cannot be executed");
    fs::set_permissions(&own, fs::Permissions::from_mode(0o755)).unwrap();
    visited.is_refused("cannot be executed");
    visited.works();
}

#[test]
fn a_program_that_does_not_say_that_it_can_is_refused() {
    let mut visited = Visited::begin();
    for program in ["/bin/false", "/bin/true", "/bin/echo", "/bin/cat"] {
        visited.install(Path::new(program));
        visited.is_refused("asked whether it can");
    }
    visited.works();
}

#[test]
fn an_executable_with_another_table_layout_is_refused() {
    let mut visited = Visited::begin();
    visited.install(&other_layout());
    visited.is_refused("layout");
    visited.works();
}

#[test]
fn one_that_finds_too_late_that_it_cannot_take_over_gives_the_process_back() {
    let mut visited = Visited::begin();
    // On trial it is the good one, and then the one with the other layout.
    let body = format!(
        "int trial = argc > 1 && !strcmp(argv[1], \"--takeover-trial\"); execv(trial ? {:?} : {:?}, argv); return 1;",
        executable(),
        other_layout()
    );
    let two_faced = program(visited.server.house().path(), &body);
    visited.install(&two_faced);
    visited.is_refused("layout");
    visited.is_refused("layout");
    visited.works();
}

#[test]
fn a_second_upgrade_or_a_reload_during_one_is_refused_and_by_signal_it_follows() {
    let mut visited = Visited::begin();
    let sleeper = program(visited.server.house().path(), "for (;;) pause();");
    visited.install(&sleeper);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| visited.upgrade());
        let trial = on_trial(&visited.server);
        for command in ["upgrade", "reload"] {
            let mut second = Command::new(executable());
            second.arg(command).arg("--config");
            let output = second.arg(visited.server.house().config()).output();
            let output = output.unwrap();
            assert!(!output.status.success(), "{output:?}");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(said.contains("is under way"), "{said}");
        }
        visited.install(&executable());
        visited.server.signal(Signal::SIGUSR1);
        // One after the other, so that the second signal is heard before the first upgrade is over.
        eventually("the signal is heard", || {
            let log = visited.server.house().log();
            log.contains("another one follows").then_some(())
        });
        assert!(posts::signal(trial, Signal::SIGKILL));
        assert!(!first.join().unwrap().status.success());
    });
    eventually("the reload follows", || {
        let now = roles(&visited.server);
        let all_new = now.iter().all(|pid| !visited.roles.contains(pid));
        (all_new && now.len() == visited.roles.len()).then_some(())
    });
    visited.roles = roles(&visited.server);
    visited.all_talk();
    visited.works();
}

#[test]
fn one_that_never_says_whether_it_can_is_killed_and_refused() {
    let mut visited = Visited::begin();
    let sleeper = program(visited.server.house().path(), "for (;;) pause();");
    visited.install(&sleeper);
    visited.is_refused("did not say within");
    assert_eq!(children(visited.server.pid()).len(), visited.roles.len());
    visited.works();
}

#[test]
fn a_stop_during_an_upgrade_stops() {
    let visited = Visited::begin();
    let sleeper = program(visited.server.house().path(), "for (;;) pause();");
    visited.install(&sleeper);
    let Visited {
        mut server,
        clients,
        ..
    } = visited;
    drop(clients);
    std::thread::scope(|scope| {
        let house = server.house();
        let upgrade = scope.spawn(move || upgrade(house));
        on_trial(&server);
        server.signal(Signal::SIGTERM);
        assert!(!upgrade.join().unwrap().status.success());
    });
    assert!(server.ended().success());
    server.assert_nothing_left();
}

#[test]
fn a_daemon_is_upgraded_as_well() {
    let house = House::new(Settings::new()).installed();
    let mut command = Command::new(house.installation());
    command.arg("--daemon").arg("--config").arg(house.config());
    for name in ["STEADFAST_BIN", "STEADFAST_OTHER_LAYOUT"] {
        command.env_remove(name);
    }
    assert!(command.output().unwrap().status.success());
    let pid = || -> i32 {
        let text = fs::read_to_string(house.pid_file()).unwrap();
        text.trim().parse().unwrap()
    };
    let before = pid();
    let mut client = Client::connect_to(house.address("server.tcp"), Transport::Tcp);
    client.expect("open");
    for _ in 0..2 {
        house.install(&executable());
        let output = upgrade(&house);
        assert!(output.status.success(), "{output:?}");
        assert_eq!((pid(), executed(before)), (before, house.installed_file()));
    }
    client.send(r#"{"type": "nonsense"}"#);
    client.expect("error");
    let log = fs::read_to_string(house.pid_file().with_extension("log")).unwrap();
    assert!(log.contains("another executable"), "{log}");
    assert!(house.run(&["stop"]).status.success());
    assert!(!processes::alive(before));
    house.assert_nothing_left();
}
