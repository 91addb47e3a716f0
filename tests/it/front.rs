//! nginx in front of two hosts, as `deploy/try` starts them with `deploy/nginx.conf`.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tests::client::BOTH;
use tests::frames::Frame;
use tests::raw::upgrade_request;
use tests::wait::eventually;
use tests::{Client, RawWebSocket, Transport, http};

use crate::proxy_protocol::{Lines, connect_from, expect_capacity};

/// Connections from one address to one of the hosts.
const MOST: usize = 2;

/// Everything that `deploy/try` has started.
struct Front {
    script: Child,
    web: SocketAddr,
    tcp: SocketAddr,
    folder: PathBuf,
}

impl Front {
    fn start() -> Front {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/try");
        let mut script = Command::new(script);
        for (name, _) in std::env::vars_os() {
            // The hosts take each for a key, and refuse what is none.
            if name.to_string_lossy().starts_with("STEADFAST_") {
                script.env_remove(name);
            }
        }
        let mut script = script
            .env("STEADFAST_BIN", tests::house::executable())
            .env("STEADFAST_LIMITS_CONNECTIONS_PER_IP", MOST.to_string())
            .stdout(Stdio::piped())
            // A signal to the tests is not for it: it is stopped when the test is over.
            .process_group(0)
            .spawn()
            .expect("deploy/try");
        let mut said = Vec::new();
        for line in BufReader::new(script.stdout.take().unwrap()).lines() {
            said.push(line.unwrap());
            if said.last().is_some_and(|line| line.starts_with("Ctrl-C")) {
                break;
            }
        }
        let behind = |name: &str| {
            let line = said.iter().find_map(|line| line.trim().strip_prefix(name));
            line.unwrap_or_else(|| panic!("no {name} in {said:#?}"))
                .trim()
        };
        let web = behind("chat page").trim_start_matches("http://");
        let tcp = behind("TCP").trim_start_matches("nc ");
        let tcp: Vec<_> = tcp.split(' ').take(2).collect();
        Front {
            web: web.trim_end_matches('/').parse().unwrap(),
            tcp: tcp.join(":").parse().unwrap(),
            folder: behind("files").into(),
            script,
        }
    }

    fn address(&self, transport: Transport) -> SocketAddr {
        match transport {
            Transport::WebSocket => self.web,
            Transport::Tcp => self.tcp,
        }
    }

    /// A client that has logged in, and the host that it came to.
    fn login(&self, transport: Transport, name: &str) -> (Client, String) {
        let mut client = Client::connect_to(self.address(transport), transport);
        let host = client.expect("open")["server"].as_str().unwrap().to_owned();
        let client = client.logged_in(json!({"type": "login", "userName": name}));
        (client, host)
    }

    /// Whether anybody listens there.
    fn listens(&self) -> bool {
        [self.web, self.tcp]
            .iter()
            .any(|address| std::net::TcpStream::connect(address).is_ok())
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for log in ["a/log", "b/log", "nginx/error.log", "nginx/access.log"] {
                let text = std::fs::read_to_string(self.folder.join(log)).unwrap_or_default();
                eprintln!("---- {log}\n{text}");
            }
        }
        let _ = kill(
            Pid::from_raw(self.script.id().cast_signed()),
            Signal::SIGTERM,
        );
        let status = self.script.wait().unwrap();
        if !std::thread::panicking() {
            assert!(status.success(), "deploy/try ended with {status}");
            assert!(!self.folder.exists(), "it left {:?}", self.folder);
            assert!(!self.listens(), "nginx is still there");
        }
    }
}

/// Sends until it was not `offline`: the directory may not know yet of a login of this moment.
fn tell(from: &mut Client, to: &str, content: &str) {
    eventually("the message is taken", || {
        from.send(json!({"type": "sendto", "to": to, "content": content, "id": content}));
        let answer = from.json();
        assert_eq!(answer["type"], "ack", "{answer}");
        (answer["status"] != "offline").then_some(())
    })
}

#[test]
fn clients_of_both_transports_talk_through_nginx() {
    let front = Front::start();
    let page = http::get(front.web, "/");
    assert_eq!(page.status, 200);
    assert!(page.text().contains("<script>"), "this is not the page");
    assert_eq!(http::get(front.web, "/healthz").status, 200);

    let mut hosts = Vec::new();
    let mut clients = Vec::new();
    for (number, transport) in BOTH.into_iter().chain(BOTH).enumerate() {
        let (client, host) = front.login(transport, &format!("user{number}"));
        clients.push(client);
        hosts.push(host);
    }
    // Each transport has one on each host, in whatever order.
    for of_one in [[0, 2], [1, 3]] {
        let mut of_one = of_one.map(|number| hosts[number].as_str());
        of_one.sort_unstable();
        assert_eq!(of_one, ["a", "b"], "{hosts:?}");
    }
    for from in 0..clients.len() {
        for to in (0..clients.len()).filter(|to| *to != from) {
            let content = format!("from {from} to {to}");
            tell(&mut clients[from], &format!("user{to}"), &content);
            let heard = clients[to].json();
            assert_eq!(heard["content"], content, "{heard}");
            assert_eq!(heard["from"], format!("user{from}"), "{heard}");
        }
    }
}

#[test]
fn the_hosts_know_the_clients_addresses() {
    let front = Front::start();
    // Both hosts have all that they take from one address. Whoever comes from another is welcome.
    let mut lines: Vec<Lines> = (0..2 * MOST)
        .map(|number| {
            let mut client = Lines::open(connect_from("127.0.0.2", front.tcp));
            assert_eq!(client.login(&format!("user{number}")), Ok(()));
            assert!(client.pings());
            client
        })
        .collect();
    Lines::open(connect_from("127.0.0.2", front.tcp)).expect_crowded();
    let mut other = Lines::open(connect_from("127.0.0.3", front.tcp));
    assert_eq!(other.login("other"), Ok(()));
    assert!(other.pings());

    let upgrade = |source: &str| {
        // What a client says of itself is not passed on.
        let request = upgrade_request(front.web, "/ws", "X-Forwarded-For: 192.0.2.77\r\n");
        let mut socket = RawWebSocket::over(connect_from(source, front.web));
        socket.send_bytes(request.as_bytes());
        assert_eq!(socket.response().status, 101);
        assert_eq!(socket.json()["type"], "open");
        socket
    };
    expect_capacity(&upgrade("127.0.0.2").json());
    let mut welcome = upgrade("127.0.0.3");
    welcome.send(&Frame::text(json!({"type": "ping"})));
    assert_eq!(welcome.json()["type"], "pong");
    assert!(lines.iter_mut().all(Lines::pings));
}

#[test]
fn when_a_host_is_killed_the_other_takes_everybody() {
    let front = Front::start();
    let mut clients: Vec<(Client, String)> = BOTH
        .into_iter()
        .chain(BOTH)
        .enumerate()
        .map(|(number, transport)| front.login(transport, &format!("user{number}")))
        .collect();
    let pid = std::fs::read_to_string(front.folder.join("a/steadfast.pid")).unwrap();
    let pid: i32 = pid.trim().parse().unwrap();
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();

    let gone = clients.extract_if(.., |(_, host)| host == "a").count();
    assert!(gone > 0, "nobody was on the host that was killed");
    for (client, _) in &mut clients {
        client.expect_nothing();
    }
    for number in 0..8 {
        for transport in BOTH {
            let name = format!("late{number}{transport:?}");
            let (client, host) = front.login(transport, &name);
            assert_eq!(host, "b");
            clients.push((client, host));
        }
    }
    for (client, _) in &mut clients {
        client.expect_nothing();
    }
    assert_eq!(http::get(front.web, "/").status, 200);
}
