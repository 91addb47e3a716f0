//! A log that nobody reads keeps nobody waiting: what it does not take is lost, counted, and told of.

use std::fs::{self, File, OpenOptions};
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Arc, Mutex};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::json;
use tests::folder::Folder;
use tests::wait::eventually;
use tests::{Client, House, Server, Settings, Transport, posts, processes, status};

/// A pipe that has no room left, and what is in it.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = io::pipe().unwrap();
    // One page, as users with many pipes get it.
    fcntl(&writer, FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
    writer.write_all(&[b'.'; 4096]).unwrap();
    (reader, writer)
}

/// Reads on and on from now.
fn read_on(mut reader: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let text = Arc::new(Mutex::new(String::new()));
    let here = Arc::clone(&text);
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = reader.read(&mut bytes) {
            here.lock()
                .unwrap()
                .push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    });
    text
}

/// Everything that an operator or an accident asks of a server is done.
fn assert_it_works(server: &Server) {
    let mut ann = Client::login(server, Transport::WebSocket, "ann");
    let mut ben = Client::login(server, Transport::Tcp, "ben");
    posts::kill_each(server, "worker");
    posts::kill_each(server, "timer");
    for command in ["reload", "upgrade", "audit", "status"] {
        let output = server.house().run(&[command]);
        assert!(output.status.success(), "{command}: {output:?}");
    }
    posts::filled(server);
    server.signal(Signal::SIGHUP);
    ann.send(json!({"type": "sendto", "to": "ben", "content": "hello", "quiet": true}));
    assert_eq!(ben.expect("message")["content"], "hello");
}

fn lines_lost(server: &Server) -> u64 {
    status::whole(server)["log_lines_lost"].as_u64().unwrap()
}

#[test]
fn a_pipe_that_is_not_read_holds_up_nothing_and_what_was_lost_is_told() {
    let (reader, writer) = full_pipe();
    let server = Server::start_telling(House::new(Settings::new()), &writer);
    assert_it_works(&server);
    let lost = eventually("lost lines are counted", || {
        Some(lines_lost(&server)).filter(|&lost| lost >= 10)
    });
    let text = server.house().run(&["status"]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("lines were lost"), "{text}");
    assert!(lost <= lines_lost(&server), "it never goes back");
    // The description is also that of whoever started the server, and stays as it was.
    let flags = OFlag::from_bits_truncate(fcntl(&writer, FcntlArg::F_GETFL).unwrap());
    assert!(!flags.contains(OFlag::O_NONBLOCK));

    let told = read_on(reader);
    eventually("master and workers tell of what was lost", || {
        let told = told.lock().unwrap();
        let by = |who: &str| {
            let mut lines = told.lines();
            lines.any(|line| line.contains(who) && line.contains("lines of this process were lost"))
        };
        (by("\"master\"") && by("\"worker ")).then_some(())
    });
}

#[test]
fn a_server_whose_log_is_not_read_stops_when_it_is_told_to() {
    let (_reader, writer) = full_pipe();
    let mut server = Server::start_telling(House::new(Settings::new()), &writer);
    let _ann = Client::login(&server, Transport::Tcp, "ann");
    server.stop();
}

#[test]
fn a_pipe_of_somebody_else_that_cannot_be_opened_anew_is_written_with_care() {
    // Only root can become somebody else.
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let (reader, writer) = full_pipe();
    let house = House::new(Settings::new());
    nix::unistd::chown(house.path(), Some(nix::unistd::Uid::from_raw(65534)), None).unwrap();
    let server = Server::start_telling_as(house, &writer, "65534");
    assert_it_works(&server);
    assert!(lines_lost(&server) >= 10);
    let told = read_on(reader);
    eventually("it is told", || {
        let told = told.lock().unwrap();
        told.contains("lines of this process were lost")
            .then_some(())
    });
}

#[test]
fn a_fifo_that_nobody_reads_is_a_log_file() {
    let folder = Folder::new("steadfast-fifo");
    let fifo = folder.path().join("log");
    mkfifo(&fifo, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    let settings = Settings::new().with("server.log_file", fifo.display().to_string());
    let server = House::new(settings.clone()).start();
    assert_it_works(&server);
    // Whoever comes later finds what there was room for.
    let reader = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(&fifo)
        .unwrap();
    let told = read_on(reader);
    eventually("the beginning is there", || {
        told.lock().unwrap().contains("starting").then_some(())
    });
    drop(server);

    let house = House::new(settings);
    let output = house.run(&["--daemon"]);
    assert!(output.status.success(), "{output:?}");
    let output = house.run(&["stop"]);
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_log_that_is_moved_away_for_a_fifo_holds_up_nothing() {
    let folder = Folder::new("steadfast-fifo");
    let log = folder.path().join("log");
    let settings = Settings::new().with("server.log_file", log.display().to_string());
    let server = House::new(settings).start();
    fs::rename(&log, folder.path().join("log.1")).unwrap();
    mkfifo(&log, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    server.signal(Signal::SIGHUP);
    assert_it_works(&server);
    // It is the log now: who is told to open it anew says so there.
    let told = read_on(File::from(opened(&log)));
    eventually("the new log is written", || {
        told.lock().unwrap().contains("opened anew").then_some(())
    });
}

fn opened(fifo: &std::path::Path) -> OwnedFd {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    nix::fcntl::open(fifo, flags, Mode::empty()).unwrap()
}

#[test]
fn a_log_file_that_cannot_be_opened_any_more_keeps_no_successor_away() {
    let folder = Folder::new("steadfast-log");
    let log = folder.path().join("there/log");
    fs::create_dir(log.parent().unwrap()).unwrap();
    let settings = Settings::new().with("server.log_file", log.display().to_string());
    let server = House::new(settings).start();
    let mut ann = Client::login(&server, Transport::WebSocket, "ann");
    // Nothing of that path can be opened from here on, by whomever.
    let moved = folder.path().join("log.1");
    fs::rename(&log, &moved).unwrap();
    fs::remove_dir(log.parent().unwrap()).unwrap();
    assert_it_works_without(&server, &mut ann);
    // Those who were started since then write where the others do.
    let text = fs::read_to_string(&moved).unwrap();
    let successor = server.workers()[0];
    assert!(text.contains(&format!("pid={successor}")), "{text}");
    assert!(text.contains("the log file stays the old one"), "{text}");

    // And when there is a folder again, all of them come along.
    fs::create_dir(log.parent().unwrap()).unwrap();
    server.signal(Signal::SIGHUP);
    let everyone = processes::children(server.pid());
    eventually("everyone has opened the log anew", || {
        let text = fs::read_to_string(&log).ok()?;
        let has = |pid: &i32| text.contains(&format!("pid={pid}}}: log file opened anew"));
        everyone.iter().all(has).then_some(())
    });
}

#[test]
fn a_configuration_that_nobody_writes_is_not_waited_for() {
    let server = Server::standard();
    let config = server.house().config();
    let kept = config.with_extension("kept");
    fs::rename(&config, &kept).unwrap();
    mkfifo(&config, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    // The commands read it too, and may wait: only they do.
    server.signal(Signal::SIGUSR1);
    eventually("the reload is refused", || {
        let log = server.house().log();
        log.contains("reload refused").then_some(())
    });
    Client::login(&server, Transport::WebSocket, "ann").expect_nothing();
    fs::rename(&kept, &config).unwrap();
    let output = server.house().run(&["reload"]);
    assert!(output.status.success(), "{output:?}");
}

fn assert_it_works_without(server: &Server, ann: &mut Client) {
    server.signal(Signal::SIGHUP);
    posts::kill_each(server, "worker");
    posts::kill_each(server, "timer");
    ann.send(json!({"type": "ping"}));
    ann.expect("pong");
    for command in ["reload", "upgrade"] {
        let output = server.house().run(&[command]);
        assert!(output.status.success(), "{command}: {output:?}");
    }
    posts::filled(server);
    ann.send(json!({"type": "ping"}));
    ann.expect("pong");
}
