//! Whose a table is, and who a process is: no name in /dev/shm and no number of a process decides that.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::mpsc::channel;

use nix::sys::signal::Signal;
use serde_json::json;
use tests::cluster::{Bus, Cluster};
use tests::container::{Container, NOBODY};
use tests::folder::Folder;
use tests::wait::eventually;
use tests::{Client, House, Server, Settings, Transport, posts, processes};

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
}

fn succeeds(server: &Server, command: &str) {
    let output = server.house().run(&[command]);
    assert!(output.status.success(), "{command}: {}", said(&output));
}

/// The one file in /dev/shm that a server has mapped.
fn segment(server: &Server) -> PathBuf {
    let mapped = processes::segments(server.pid());
    let [segment] = &mapped[..] else {
        panic!("one segment, not {mapped:?}")
    };
    segment.clone()
}

/// They are served: by the workers that have them, and by each other.
fn are_served(clients: &mut [Client]) {
    for client in &mut *clients {
        client.send(json!({"type": "ping"}));
        client.expect("pong");
    }
    if clients.len() < 2 {
        return;
    }
    for speaker in 0..clients.len() {
        let to = clients[(speaker + 1) % clients.len()].name().to_owned();
        let status = clients[speaker].sendto(&to, json!(1));
        assert_eq!(status, "delivered");
        clients[(speaker + 1) % clients.len()].expect("message");
    }
}

/// In a thread of its own, which does not come back from a container.
fn apart(test: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let done = scope.spawn(test).join();
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

#[test]
fn nobody_who_follows_needs_the_name_of_the_segment() {
    // As systemd-logind does when the user logs out who started the server (`RemoveIPC=yes`).
    let cluster = Cluster::start(Bus::Redis, 1);
    let server = cluster.host(0);
    let mut clients: Vec<Client> = (0..6)
        .map(|number| Client::login(server, Transport::Tcp, &format!("u{number}")))
        .collect();
    fs::remove_file(segment(server)).unwrap();
    for role in ["worker", "timer", "link"] {
        posts::kill_each(server, role);
    }
    are_served(&mut clients);
    succeeds(server, "reload");
    are_served(&mut clients);
    // The second by what the first became.
    for _ in 0..2 {
        succeeds(server, "upgrade");
        for role in ["worker", "timer", "link"] {
            posts::kill_each(server, role);
        }
        are_served(&mut clients);
    }
    succeeds(server, "reload");
    clients.push(Client::login(server, Transport::WebSocket, "new"));
    are_served(&mut clients);
    posts::audit(server).unwrap();
}

#[test]
fn containers_with_one_pid_file_path_and_one_dev_shm_never_meet() {
    let shared = Folder::new("identity");
    let house = || {
        let pid_file = shared.path().join("steadfast.pid");
        let settings = Settings::new().with("server.pid_file", pid_file.to_str().unwrap());
        House::new(settings).contained(0)
    };
    let (first_runs, when_first_runs) = channel();
    let (second_runs, when_second_runs) = channel();
    let (first_is_done, when_first_is_done) = channel::<()>();
    let (shared, house) = (&shared, &house);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let container = Container::enter();
            container.has_its_own(shared.path());
            let server = house().start();
            let own = segment(&server);
            let mut clients: Vec<Client> = ["ann", "bob", "cid", "dee"]
                .iter()
                .map(|name| Client::login(&server, Transport::Tcp, name))
                .collect();
            first_runs.send(()).unwrap();
            let others: PathBuf = when_second_runs.recv().unwrap();
            assert_ne!(own, others);
            assert!(own.exists(), "the second removed the segment of the first");
            let has_own = |pid: &i32| processes::segments(*pid) == [own.clone()];
            for victim in server.workers() {
                assert!(posts::signal(victim, Signal::SIGKILL));
                eventually("a successor with the first's own table", || {
                    let workers = server.workers();
                    let all = workers.len() == 2 && workers.iter().all(has_own);
                    (all && !workers.contains(&victim)).then_some(())
                });
                are_served(&mut clients);
            }
            succeeds(&server, "reload");
            clients.push(Client::login(&server, Transport::WebSocket, "new"));
            are_served(&mut clients);
            assert!(processes::children(server.pid()).iter().all(has_own));
            succeeds(&server, "audit");
            drop((server, container));
            assert!(
                others.exists(),
                "the first removed the segment of the second"
            );
            drop(first_is_done);
        });
        scope.spawn(move || {
            let container = Container::enter();
            container.has_its_own(shared.path());
            when_first_runs.recv().unwrap();
            let server = house().start();
            second_runs.send(segment(&server)).unwrap();
            let mut clients = [Client::login(&server, Transport::Tcp, "eve")];
            // It ends when the other thread does, with whatever result.
            assert!(when_first_is_done.recv().is_err());
            are_served(&mut clients);
            posts::signal(server.workers()[0], Signal::SIGKILL);
            are_served(&mut clients);
            drop((server, container));
        });
    });
}

#[test]
fn the_number_of_a_killed_master_may_be_a_strangers() {
    apart(|| {
        let container = Container::enter();
        let mut server = House::new(Settings::new()).contained(NOBODY).start();
        server.kill();
        let left = fs::read_to_string(server.house().pid_file()).unwrap();
        let mut stranger = container.stranger(left.trim().parse().unwrap());
        for command in ["status", "reload", "upgrade", "audit", "stop"] {
            let output = server.house().run(&[command]);
            assert!(!output.status.success(), "{command}: {}", said(&output));
            let text = said(&output);
            assert!(text.contains("no server runs"), "{command}: {text}");
        }
        server.start_again();
        are_served(&mut [Client::login(&server, Transport::Tcp, "ann")]);
        assert!(stranger.is_unharmed());
        server.stop();
        assert!(stranger.is_unharmed());
    });
}

#[test]
fn what_a_killed_server_left_goes_at_the_next_start_of_any_and_what_is_in_use_stays() {
    let (mut dead, running) = (Server::standard(), Server::standard());
    let (left, used) = (segment(&dead), segment(&running));
    dead.kill();
    // Nothing leads to it any more but its name.
    fs::remove_dir_all(dead.house().path().join("run")).unwrap();
    let next = Server::standard();
    assert!(!left.exists(), "{} stays for ever", left.display());
    assert!(used.exists() && segment(&next) != used);
    are_served(&mut [Client::login(&running, Transport::Tcp, "ann")]);
}

#[test]
fn a_server_in_another_container_is_not_named_by_a_number_that_means_another_here() {
    let server = Server::standard();
    apart(|| {
        let _container = Container::enter();
        let output = server.house().run(&[]);
        assert!(!output.status.success(), "{}", said(&output));
        let text = said(&output);
        assert!(text.contains("another pid namespace"), "{text}");
    });
    are_served(&mut [Client::login(&server, Transport::Tcp, "ann")]);
}

#[test]
fn a_lock_without_a_server_is_not_called_one() {
    // Somebody's backup, say.
    let house = House::new(Settings::new());
    fs::create_dir_all(house.path().join("run")).unwrap();
    fs::write(house.pid_file(), "1\n").unwrap();
    let locked = fs::File::open(house.pid_file()).unwrap();
    let locked = nix::fcntl::Flock::lock(locked, nix::fcntl::FlockArg::LockExclusive).unwrap();
    let output = house.run(&[]);
    assert!(!output.status.success(), "{}", said(&output));
    let text = said(&output);
    assert!(!text.contains("a server runs already"), "{text}");
    assert!(text.contains("no server answers"), "{text}");
    drop(locked);
    house.start().stop();
}

#[test]
fn another_user_cannot_lock_the_pid_file_that_a_killed_server_left() {
    let mut server = Server::standard();
    server.kill();
    let mut command = Command::new("setpriv");
    let user = format!("--reuid={NOBODY}");
    command.args([&user, "--clear-groups", "--", "flock", "--shared"]);
    command.arg(server.house().pid_file()).arg("true");
    let locked = command.output().unwrap();
    assert!(!locked.status.success(), "{}", said(&locked));
    assert!(said(&locked).contains("Permission"), "{}", said(&locked));
    server.start_again();
    are_served(&mut [Client::login(&server, Transport::Tcp, "ann")]);
}

#[test]
fn deaths_are_followed_though_the_server_was_started_by_one_who_ignores_them() {
    // With SIGCHLD ignored a dead child's number is free at once, and nobody is told.
    let house = House::new(Settings::new()).installed();
    let script = format!(
        "#!/bin/sh\nexec env --ignore-signal=CHLD {} \"$@\"\n",
        house.installation().display()
    );
    let path = house.path().join("ignoring");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let server = house.executable(&path).start();
    let mut clients = ["ann", "bob"].map(|name| Client::login(&server, Transport::Tcp, name));
    for role in ["worker", "timer"] {
        posts::kill_each(&server, role);
    }
    are_served(&mut clients);
    succeeds(&server, "upgrade");
    posts::kill_each(&server, "worker");
    are_served(&mut clients);
}
