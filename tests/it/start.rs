//! Starting: what is printed, what refuses, and what a killed server left behind.

use std::process::Output;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::wait::eventually;
use tests::{Client, House, Server, Settings, Transport, processes};

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
}

#[test]
fn it_prints_where_to_go() {
    let server = Server::standard();
    let page = format!("http://{}", server.websocket());
    let port = server.tcp().port().to_string();
    eventually("the addresses are printed", || {
        let log = server.house().log();
        (log.contains(&page) && log.contains(&port)).then_some(())
    });
}

#[test]
fn a_second_start_is_refused_naming_the_first() {
    let server = Server::standard();
    let output = server.house().run(&[]);
    assert!(!output.status.success());
    assert!(
        said(&output).contains(&server.pid().to_string()),
        "{}",
        said(&output)
    );
    let output = server.house().run(&["--daemon"]);
    assert!(!output.status.success());
    assert!(
        said(&output).contains(&server.pid().to_string()),
        "{}",
        said(&output)
    );
    Client::login(&server, Transport::Tcp, "ann").expect_nothing();
    let pid = std::fs::read_to_string(server.house().pid_file()).unwrap();
    assert_eq!(pid.trim(), server.pid().to_string());
}

#[test]
fn what_a_killed_master_left_is_replaced() {
    let mut server = Server::standard();
    let segment = processes::segments(server.pid()).pop().unwrap();
    let _ann = Client::login(&server, Transport::WebSocket, "ann");
    server.kill();
    // The segment may be gone already, with the start of another test's server.
    assert!(
        server.house().pid_file().exists(),
        "a killed master cannot clean up"
    );
    server.start_again();
    assert!(!segment.exists());
    assert_ne!(processes::segments(server.pid()), [segment]);
    Client::login(&server, Transport::WebSocket, "ann").expect_nothing();
}

#[test]
fn a_taken_port_is_a_clear_refusal() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let house = House::new(Settings::new().with("server.tcp", vec![address.clone()]));
    for arguments in [&[][..], &["--daemon"]] {
        let output = house.run(arguments);
        assert!(!output.status.success());
        assert!(said(&output).contains(&address), "{}", said(&output));
        assert!(
            !house.pid_file().exists(),
            "left behind by a start that failed"
        );
    }
}

#[test]
fn more_sessions_than_the_system_allows_is_refused_with_the_numbers() {
    let house = House::new(
        Settings::new()
            .with("table.sessions", 3_000_000)
            .with("table.arena_mib", 1)
            .with("limits.message_bytes", 1_000),
    );
    let output = house.run(&[]);
    assert!(!output.status.success());
    assert!(said(&output).contains("3000000"), "{}", said(&output));
    assert!(!house.pid_file().exists());
}

#[test]
fn the_daemon_returns_when_the_server_is_ready() {
    let house = House::new(Settings::new());
    let output = house.run(&["--daemon"]);
    assert!(output.status.success(), "{}", said(&output));
    let pid: i32 = std::fs::read_to_string(house.pid_file())
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    // No waiting: it said that it is ready.
    assert_eq!(
        tests::http::get(house.address("server.websocket"), "/healthz").status,
        200
    );
    let mut client = Client::connect_to(house.address("server.tcp"), Transport::Tcp);
    client.expect("open");
    drop(client);
    let output = house.run(&["stop"]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(!processes::alive(pid));
    assert!(!house.pid_file().exists());
}

#[test]
fn a_daemon_that_cannot_start_says_why() {
    let house = House::new(Settings::new().with("limits.message_bytes", 0));
    let output = house.run(&["--daemon"]);
    assert!(!output.status.success());
    assert!(
        said(&output).contains("limits.message_bytes"),
        "{}",
        said(&output)
    );
}

#[test]
fn the_environment_wins_over_the_file() {
    let house =
        House::new(Settings::new()).environment("STEADFAST_LIMITS_LOGIN_TIMEOUT_MS", "4321");
    let server = house.start();
    assert_eq!(
        Client::connect(&server, Transport::Tcp).expect("open")["loginTimeoutMs"],
        4321
    );
    drop(server);
    let house =
        House::new(Settings::new()).environment("STEADFAST_LIMITS_LOGIN_TIMEOUT_MS", "soon");
    let output = house.run(&["check"]);
    assert!(!output.status.success());
    assert!(
        said(&output).contains("STEADFAST_LIMITS_LOGIN_TIMEOUT_MS"),
        "{}",
        said(&output)
    );
}

#[test]
fn no_process_outlives_a_killed_master() {
    let mut server = Server::standard();
    let children = processes::children(server.pid());
    assert!(children.len() >= 3, "two workers and a timer: {children:?}");
    let ann = Client::login(&server, Transport::WebSocket, "ann");
    server.kill();
    let ending = ann.ending();
    assert!(ending.code.is_none_or(|code| code == 1006), "{ending:?}");
    assert!(
        children.iter().all(
            |pid| kill(Pid::from_raw(*pid), None::<Signal>).is_err() || !processes::alive(*pid)
        )
    );
}
