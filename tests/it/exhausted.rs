//! A master that can have no descriptor more goes on with those it has, does not burn the processor, tells it once, and does all that waited
//! when there are some again.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::processes::{limit_descriptors, next_descriptor, sleeps};
use tests::wait::{PATIENCE, eventually};
use tests::{Client, House, Server, Settings, Transport, posts, processes, status};

/// How often, and at what distance, the master is looked at while it can do nothing: it sleeps nearly always then. One that spins never does,
/// however little of a busy machine's processors it gets for that.
const LOOKS: usize = 200;
const APART: Duration = Duration::from_millis(10);

fn ask(server: &Server, request: &str) -> UnixStream {
    let path = server.house().pid_file().with_extension("sock");
    let mut stream = UnixStream::connect(path).unwrap();
    writeln!(stream, "{{\"request\":\"{request}\"}}").unwrap();
    stream
}

fn answer(stream: UnixStream) -> Value {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line:?}"))
}

fn told(server: &Server, what: &str) -> usize {
    server.house().log().matches(what).count()
}

#[test]
fn without_any_descriptor_it_rests_and_does_afterwards_what_has_waited() {
    let server = Server::standard();
    let mut ann = Client::login(&server, Transport::WebSocket, "ann");
    let before = limit_descriptors(server.pid(), 3);

    let waiting = ask(&server, "status");
    waiting.set_read_timeout(Some(APART)).unwrap();
    let newcomer = TcpStream::connect(server.tcp()).unwrap();
    let victims = [server.workers()[0], server.processes("timer")[0]];
    for victim in victims {
        assert!(posts::signal(victim, Signal::SIGKILL));
    }
    server.signal(Signal::SIGHUP);
    server.signal(Signal::SIGUSR1);
    server.signal(Signal::SIGUSR2);
    let mut asleep = 0;
    for _ in 0..LOOKS {
        let silence = (&waiting).read(&mut [0]).unwrap_err();
        assert_eq!(
            silence.kind(),
            ErrorKind::WouldBlock,
            "it has no way to answer"
        );
        asleep += usize::from(sleeps(server.pid()));
    }
    assert!(asleep > LOOKS / 2, "it slept at {asleep} of {LOOKS} looks");
    assert_eq!(told(&server, "the system has no room: "), 1);

    limit_descriptors(server.pid(), before);
    let status = answer(waiting);
    assert_eq!(status["ok"], true, "{status}");
    assert!(
        status["status"]["shortages"].as_u64().unwrap() > 0,
        "{status}"
    );
    let pids = posts::filled(&server);
    assert!(victims.iter().all(|victim| !pids.contains(victim)));
    ann.send(json!({"type": "ping"}));
    ann.expect("pong");
    Client::login(&server, Transport::Tcp, "ben").expect_nothing();
    drop(newcomer);
    eventually("it is told that it is over", || {
        (told(&server, "the system has room again") == 1).then_some(())
    });
    assert_eq!(told(&server, "the system has no room: "), 1);
    assert!(status::whole(&server)["shortage"].is_null());
    for command in ["reload", "upgrade"] {
        let output = server.house().run(&[command]);
        assert!(output.status.success(), "{command}: {output:?}");
    }
    posts::audit(&server).unwrap();
}

#[test]
fn with_the_last_descriptor_in_use_it_still_tells_why() {
    let server = Server::standard();
    let mut clients: Vec<Client> = (0..20)
        .map(|number| Client::login(&server, Transport::Tcp, &format!("u{number}")))
        .collect();
    let before = limit_descriptors(server.pid(), next_descriptor(server.pid()));
    // Nobody can be taken in, and nobody is left waiting.
    let newcomer = TcpStream::connect(server.tcp()).unwrap();
    newcomer.set_read_timeout(Some(PATIENCE)).unwrap();
    match (&newcomer).read(&mut [0]) {
        Ok(count) => assert_eq!(count, 0),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    // One after the other, as often as one likes.
    for _ in 0..5 {
        let status = answer(ask(&server, "status"));
        let what = &status["status"]["shortage"]["what"];
        assert!(
            what.as_str()
                .is_some_and(|what| what.contains("Too many open files")),
            "{status}"
        );
    }
    let text = server.house().run(&["status"]);
    assert!(
        String::from_utf8_lossy(&text.stdout).contains("no room"),
        "{text:?}"
    );
    for command in ["reload", "upgrade"] {
        let output = server.house().run(&[command]);
        assert!(!output.status.success(), "{command}: {output:?}");
    }
    clients.iter_mut().for_each(Client::expect_nothing);
    limit_descriptors(server.pid(), before);
    eventually("it is over", || {
        status::whole(&server)["shortage"].is_null().then_some(())
    });
    Client::login(&server, Transport::Tcp, "newcomer").expect_nothing();
    posts::audit(&server).unwrap();
}

#[test]
fn a_log_that_could_not_be_opened_anew_is_when_there_are_descriptors() {
    let folder = tests::folder::Folder::new("steadfast-log");
    let log = folder.path().join("log");
    let settings = Settings::new().with("server.log_file", log.display().to_string());
    let server = House::new(settings).start();
    let before = limit_descriptors(server.pid(), 3);
    std::fs::rename(&log, folder.path().join("log.1")).unwrap();
    server.signal(Signal::SIGHUP);
    eventually("the master has tried", || {
        let text = std::fs::read_to_string(folder.path().join("log.1")).unwrap();
        text.contains("the system has no room").then_some(())
    });
    limit_descriptors(server.pid(), before);
    let everyone = processes::children(server.pid());
    eventually("everyone has opened the log anew", || {
        let text = std::fs::read_to_string(&log).ok()?;
        let has = |pid: &i32| text.contains(&format!("pid={pid}}}: log file opened anew"));
        everyone.iter().all(has).then_some(())
    });
}
