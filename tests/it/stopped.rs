//! Stopped is not dead, and waiting is not wedged: who waits for a stopped process is not killed with it, and nobody else waits for it.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::Transport::{Tcp, WebSocket};
use tests::client::BOTH;
use tests::cluster::{Bus, Cluster};
use tests::random::Random;
use tests::wait::{PATIENCE, eventually};
use tests::{Client, Server, Settings, posts, processes};

/// What everybody waits at most for a death among stopped processes: far less than `server.watchdog_ms`, and far more than it takes, because
/// the machine is busy.
const BOUND: Duration = Duration::from_secs(2);

/// A successor is started at once only where its predecessor lived for a second.
const GROWN_UP: Duration = Duration::from_millis(1_100);

/// The processes as the server sees them now, asked without a process for it.
fn seen(server: &Server) -> Vec<Value> {
    let path = server.house().pid_file().with_extension("sock");
    let mut socket = UnixStream::connect(path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.write_all(b"{\"request\":\"status\"}\n").unwrap();
    let mut line = String::new();
    BufReader::new(socket).read_line(&mut line).unwrap();
    let reply: Value = serde_json::from_str(&line).unwrap();
    reply["status"]["processes"].as_array().unwrap().clone()
}

fn of(seen: &[Value], pid: i32) -> &Value {
    let is = |process: &&Value| process["pid"] == pid;
    seen.iter().find(is).expect("it is there")
}

/// Stops a process, and returns when it stands.
fn stop(pid: i32) {
    assert!(posts::signal(pid, Signal::SIGSTOP));
    let end = Instant::now() + PATIENCE;
    loop {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let (_, rest) = stat.rsplit_once(") ").unwrap();
        if rest.starts_with('T') {
            return;
        }
        assert!(Instant::now() < end, "it is not stopped");
        std::thread::yield_now();
    }
}

/// Joins and leaves groups until it is over, many requests at a time, and counts the answers.
fn come_and_go(mut client: Client, over: &AtomicBool) {
    let mut number = 0_u32;
    while !over.load(Ordering::SeqCst) {
        for kind in ["join", "leave"] {
            for group in 0..20 {
                let name = format!("{}{}", client.name(), (number + group) % 100);
                client.send(json!({"type": kind, "group": name}));
            }
            for _ in 0..20 {
                assert_eq!(client.expect("system")["event"], kind);
            }
        }
        number += 1;
    }
}

/// Stops a worker again and again until it stands with an index lock in its hands.
fn stop_with_a_lock(server: &Server, worker: i32) {
    // A lock is held for a fraction of a microsecond.
    let end = Instant::now() + 4 * PATIENCE;
    let mut random = Random::of_the_clock();
    loop {
        stop(worker);
        if of(&seen(server), worker)["locks"].as_u64() > Some(0) {
            return;
        }
        assert!(Instant::now() < end, "it was never stopped with a lock");
        posts::signal(worker, Signal::SIGCONT);
        std::thread::sleep(Duration::from_micros(100 + random.below(900) as u64));
    }
}

#[test]
fn who_waits_for_a_lock_of_a_stopped_worker_lives_on() {
    const PAUSE: Duration = Duration::from_millis(2_000);
    let settings = Settings::new()
        .with("server.workers", 3)
        .with("table.groups", 1_000)
        .with("server.watchdog_ms", 60_000)
        .with("server.pause_ms", PAUSE.as_millis() as u64);
    let server = Server::start(settings);
    let clients: Vec<Client> = (0..6)
        .map(|n| Client::login(&server, BOTH[n % 2], &format!("u{n}-")))
        .collect();
    let mut workers = server.workers();
    let holder = workers.remove(0);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // A failure ends the others as well.
        let stop_all = Stop(&over);
        for client in clients {
            scope.spawn(|| {
                come_and_go(client, &over);
            });
        }
        stop_with_a_lock(&server, holder);
        let slot = of(&seen(&server), holder)["slot"].clone();
        // All others run into that lock, and say for whom they wait.
        eventually("they wait for the stopped one", || {
            let seen = seen(&server);
            let waits = |pid: &i32| of(&seen, *pid)["waits_for_slot"] == slot;
            workers.iter().all(waits).then_some(())
        });
        let cpu =
            |pids: &[i32]| -> Duration { pids.iter().copied().map(processes::cpu_time).sum() };
        let (began, before) = (Instant::now(), cpu(&workers));
        let mut oldest = 0;
        while processes::alive(holder) {
            let seen = seen(&server);
            for &pid in &workers {
                oldest = oldest.max(of(&seen, pid)["heartbeat_age_ms"].as_u64().unwrap());
            }
            assert!(began.elapsed() < PATIENCE, "the stopped one is not killed");
            std::thread::sleep(Duration::from_millis(20));
        }
        let (waited, cpu) = (began.elapsed(), cpu(&workers) - before);
        assert!(oldest < 900, "a sign of life {oldest} ms old");
        assert!(cpu * 4 < waited, "{cpu:?} of a core in {waited:?}");
        posts::filled(&server);
        assert!(workers.iter().all(|&pid| processes::alive(pid)));
        drop(stop_all);
    });
    let log = server.house().log();
    assert!(log.contains("holds a lock that others wait for"));
    assert_eq!(log.matches("a process is killed").count(), 1, "{log}");
    posts::audit(&server).unwrap();
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Everybody writes to everybody; the longest wait for a message.
fn longest_wait(clients: &mut [Client]) -> Duration {
    let began = Instant::now();
    let names: Vec<String> = clients.iter().map(|c| c.name().to_owned()).collect();
    for client in &mut *clients {
        let own = client.name().to_owned();
        for name in names.iter().filter(|name| **name != own) {
            client.send(json!({"type": "sendto", "to": name, "content": 1, "quiet": true}));
        }
    }
    for client in &mut *clients {
        for _ in 1..names.len() {
            client.expect("message");
        }
    }
    began.elapsed()
}

/// A worker is killed while another process is stopped: what everybody waits.
fn dies_while_stopped(server: &Server, stopped: i32, killed: i32) {
    let mut clients: Vec<Client> = (0..6)
        .map(|n| Client::login(server, BOTH[n % 2], &format!("u{n}")))
        .collect();
    std::thread::sleep(GROWN_UP);
    let before = processes::children(server.pid());
    stop(stopped);
    assert!(posts::signal(killed, Signal::SIGKILL));
    let waited = longest_wait(&mut clients);
    assert!(waited < BOUND, "{waited:?}");
    // The stopped one is dead as well, and nobody else is.
    posts::filled(server);
    let now = processes::children(server.pid());
    let gone: Vec<&i32> = before.iter().filter(|pid| !now.contains(pid)).collect();
    assert_eq!(gone.len(), 2, "{gone:?} of {before:?}");
    assert!(gone.contains(&&stopped) && gone.contains(&&killed));
    clients.iter_mut().for_each(Client::expect_nothing);
    posts::audit(server).unwrap();
}

#[test]
fn a_death_while_the_timer_is_stopped_is_a_matter_of_moments() {
    let server = Server::start(Settings::new().with("server.workers", 3));
    let timer = server.processes("timer")[0];
    dies_while_stopped(&server, timer, server.workers()[0]);
}

#[test]
fn a_death_while_another_worker_is_stopped_is_a_matter_of_moments() {
    let server = Server::start(Settings::new().with("server.workers", 3));
    let workers = server.workers();
    dies_while_stopped(&server, workers[1], workers[0]);
}

#[test]
fn a_death_while_the_link_is_stopped_is_a_matter_of_moments() {
    let settings = Settings::new().with("server.workers", 3);
    let cluster = Cluster::with(Bus::Redis, 1, settings);
    let server = cluster.host(0);
    let link = server.processes("link")[0];
    dies_while_stopped(server, link, server.workers()[0]);
}

#[test]
fn an_audit_waits_for_a_stopped_process_no_longer_than_that() {
    let server = Server::standard();
    let mut clients = [Tcp, WebSocket].map(|t| Client::login(&server, t, &format!("{t:?}")));
    std::thread::sleep(GROWN_UP);
    stop(server.processes("timer")[0]);
    std::thread::scope(|scope| {
        let audit = scope.spawn(|| posts::audit(&server));
        let began = Instant::now();
        while !audit.is_finished() {
            let waited = longest_wait(&mut clients);
            assert!(waited < BOUND, "{waited:?}");
            assert!(
                began.elapsed() < BOUND,
                "the audit takes {:?}",
                began.elapsed()
            );
        }
        audit.join().unwrap().unwrap();
    });
}

#[test]
fn who_is_merely_stopped_holds_up_nobody_but_its_own() {
    let settings = Settings::new()
        .with("server.workers", 2)
        .with("server.watchdog_ms", 600_000);
    let server = Server::start(settings);
    let mut clients: Vec<Client> = (0..6)
        .map(|n| Client::login(&server, BOTH[n % 2], &format!("u{n}")))
        .collect();
    let stopped = server.workers()[0];
    stop(stopped);
    for client in &mut clients {
        client.stream().set_read_timeout(Some(BOUND)).unwrap();
        client.send(json!({"type": "ping"}));
    }
    // Whoever is answered belongs to the other.
    let (mut served, mut held_up): (Vec<_>, Vec<_>) = clients.into_iter().partition(has_answer);
    assert_eq!((served.len(), held_up.len()), (3, 3));
    served.iter_mut().for_each(|c| drop(c.expect("pong")));
    // Among themselves they notice nothing, and what they write to the others is accepted.
    assert!(longest_wait(&mut served) < BOUND);
    let names: Vec<String> = held_up.iter().map(|c| c.name().to_owned()).collect();
    for client in &mut served {
        for name in &names {
            assert_eq!(client.sendto(name, json!("later")), "delivered");
        }
    }
    // Newcomers are served, too.
    std::thread::sleep(GROWN_UP);
    for n in 0..4 {
        let mut newcomer = Client::login(&server, BOTH[n % 2], &format!("new{n}"));
        newcomer.expect_nothing();
        served.push(newcomer);
    }
    assert!(posts::signal(stopped, Signal::SIGCONT));
    for client in &mut held_up {
        let mut kinds: Vec<String> = (0..4)
            .map(|_| client.json()["type"].as_str().unwrap().to_owned())
            .collect();
        kinds.sort_unstable();
        assert_eq!(kinds, ["message", "message", "message", "pong"]);
        client.expect_nothing();
    }
    assert!(processes::alive(stopped));
    posts::audit(&server).unwrap();
}

#[test]
fn who_writes_much_to_sessions_of_a_stopped_worker_waits_only_for_a_moment() {
    const MESSAGES: usize = 600;
    let settings = Settings::new()
        .with("limits.outbox_bytes", 65_536)
        .with("server.watchdog_ms", 600_000);
    for transport in BOTH {
        let server = Server::start(settings.clone());
        let mut clients: Vec<Client> = (0..2)
            .map(|n| Client::login(&server, transport, &format!("u{n}")))
            .collect();
        let stopped = server.workers()[0];
        stop(stopped);
        clients
            .iter_mut()
            .for_each(|c| c.send(json!({"type": "ping"})));
        let at_work = clients.iter().position(has_answer).unwrap();
        let mut sender = clients.swap_remove(at_work);
        let mut reader = clients.remove(0);
        sender.expect("pong");
        let content = "x".repeat(1_000);
        for id in 0..MESSAGES {
            sender.send(json!({"type": "sendto", "to": reader.name(), "content": content, "id": id, "quiet": true}));
        }
        // More than may wait for the other one, in any case; and the sender is heard all the same.
        let began = Instant::now();
        sender.send(json!({"type": "ping"}));
        assert!(sender.survives());
        assert!(began.elapsed() < 2 * BOUND, "{:?}", began.elapsed());
        assert!(posts::signal(stopped, Signal::SIGCONT));
        // Who could not read is not to blame: nothing has ended, and what was accepted comes.
        assert!(reader.survives());
        reader.expect_nothing();
        posts::audit(&server).unwrap();
    }
}

#[test]
fn who_is_only_short_of_processor_time_is_not_killed() {
    let settings = Settings::new()
        .with("server.workers", 3)
        .with("server.pause_ms", 20);
    let server = Server::start(settings);
    let mut clients: Vec<Client> = (0..6)
        .map(|n| Client::login(&server, BOTH[n % 2], &format!("u{n}")))
        .collect();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stop_all = Stop(&over);
        // Everybody else has all processors, and the workers have next to nothing.
        let cores = std::thread::available_parallelism().unwrap().get();
        for _ in 0..2 * cores {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        for _ in 0..3 {
            std::thread::sleep(GROWN_UP);
            let workers = server.workers();
            for pid in &workers {
                let mut renice = std::process::Command::new("renice");
                let done = renice.args(["-n", "19", "-p", &pid.to_string()]).output();
                assert!(done.unwrap().status.success());
            }
            posts::kill(&server, workers[0]);
            longest_wait(&mut clients);
        }
        drop(stop_all);
    });
    let log = server.house().log();
    assert_eq!(log.matches("a process is killed").count(), 0, "{log}");
    posts::audit(&server).unwrap();
}

/// Whether something comes on the connection within a second.
fn has_answer(client: &Client) -> bool {
    use std::os::fd::AsFd;
    let mut fds = [nix::poll::PollFd::new(
        client.stream().as_fd(),
        nix::poll::PollFlags::POLLIN,
    )];
    nix::poll::poll(&mut fds, 1_000_u16).unwrap() == 1
}
