//! The executable, with hosts that have a bus in this process.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that unwraps fails with its location, which is what a test is for"
)]

use bus::{Bus, Hosts, Settings};
use directory::Host;
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::watch, time::timeout};

const LONG: Duration = Duration::from_secs(15);
const SECRET: &str = "only tests know it";

struct Forwarder {
    child: Child,
    address: String,
}

impl Forwarder {
    fn start(listen: &str, arguments: &[&str]) -> Self {
        let mut child = command(listen, arguments)
            .env("STEADFAST_CLUSTER_SECRET", SECRET)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line
            .trim()
            .strip_prefix("listening on ")
            .expect("it does not say where it listens")
            .to_owned();
        Self { child, address }
    }

    fn signal(&self, signal: &str) {
        assert!(
            Command::new("kill")
                .args(["-s", signal, &self.child.id().to_string()])
                .status()
                .unwrap()
                .success()
        );
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(listen: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forwarder"));
    command
        .args([
            "--listen",
            listen,
            "--namespace",
            "tests",
            "--lease-ms",
            "1500",
        ])
        .args(arguments)
        .env_remove("STEADFAST_CLUSTER_SECRET");
    command
}

/// A pipe that has no room left, as standard output or error.
fn full_pipe() -> (std::io::PipeReader, Stdio) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
    std::io::Write::write_all(&mut writer, &[b'.'; 4096]).unwrap();
    (reader, writer.into())
}

#[test]
fn a_log_that_nobody_reads_holds_it_up_in_nothing() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = port.local_addr().unwrap();
    drop(port);
    let ((_output, stdout), (_errors, stderr)) = (full_pipe(), full_pipe());
    let child = command(&format!("tcp://{address}"), &[])
        .env("STEADFAST_CLUSTER_SECRET", SECRET)
        .stdout(stdout)
        .stderr(stderr)
        .spawn()
        .unwrap();
    let mut forwarder = Forwarder {
        child,
        address: address.to_string(),
    };
    let end = Instant::now() + LONG;
    let mut eventually = |what: &str, mut look: Box<dyn FnMut(&mut Forwarder) -> bool>| {
        while !look(&mut forwarder) {
            assert!(Instant::now() < end, "waited in vain: {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    // A stranger is refused, which it would say.
    eventually(
        "it closes a stranger's connection",
        Box::new(move |_| {
            std::net::TcpStream::connect(address).is_ok_and(|mut stranger| {
                let _ = std::io::Write::write_all(&mut stranger, b"GET / HTTP/1.1\r\n\r\n");
                stranger.set_read_timeout(Some(LONG)).unwrap();
                stranger.read_to_end(&mut Vec::new()).is_ok()
            })
        }),
    );
    eventually(
        "it ends when it is told to",
        Box::new(|forwarder| {
            let ended = forwarder.child.try_wait().unwrap();
            if ended.is_none() {
                forwarder.signal("TERM");
            }
            ended.is_some()
        }),
    );
}

fn host(node: &str, others: &[&str], forwarders: &[&Forwarder]) -> Bus {
    let cluster = config::Cluster {
        bus: config::Bus::Forwarder,
        namespace: "tests".into(),
        secret: config::Secret(SECRET.into()),
        forwarder: forwarders
            .iter()
            .map(|forwarder| forwarder.address.clone())
            .collect(),
        lease_ms: 1500,
        ..config::Config::default().cluster
    };
    let host = Host {
        boot: "0".into(),
        mesh: None,
        since_ms: 1,
    };
    let map: BTreeMap<_, _> = others
        .iter()
        .map(|name| ((*name).to_owned(), host.clone()))
        .collect();
    // A sender that is gone changes nothing any more, which is what these tests need.
    let hosts: Hosts = watch::channel(Arc::new(map)).1;
    Bus::start(
        Settings {
            kind: config::Bus::Forwarder,
            cluster,
            node: node.into(),
            boot: "00000000000000aa".into(),
            life: 1,
        },
        hosts,
    )
    .unwrap()
}

/// Until something comes through.
async fn until_heard(from: &Bus, to: &mut Bus, name: &str) {
    let attempt = async {
        loop {
            let _ = from.send(name, "hello".into());
            if timeout(Duration::from_millis(50), to.receive())
                .await
                .is_ok()
            {
                return;
            }
        }
    };
    timeout(LONG, attempt)
        .await
        .unwrap_or_else(|_| panic!("{name} hears nothing: {:?}", from.state().borrow()));
    tokio::time::sleep(Duration::from_millis(100)).await;
    while to.try_receive().is_some() {}
}

#[tokio::test]
async fn frames_go_on_when_one_is_killed_or_stopped_and_when_it_is_back() {
    let (first, second) = (
        Forwarder::start("tcp://127.0.0.1:0", &[]),
        Forwarder::start("tcp://127.0.0.1:0", &[]),
    );
    let (mut a, mut b) = (
        host("a", &["b"], &[&first, &second]),
        host("b", &["a"], &[&first, &second]),
    );
    until_heard(&a, &mut b, "b").await;
    for n in 0..500_u32 {
        a.send("b", n.to_be_bytes().to_vec().into()).unwrap();
    }
    for n in 0..500_u32 {
        let incoming = timeout(LONG, b.receive()).await.unwrap();
        assert_eq!(
            (incoming.from.as_str(), incoming.payload),
            ("a", n.to_be_bytes().to_vec().into())
        );
    }
    let address = first.address.clone();
    drop(first);
    until_heard(&a, &mut b, "b").await;
    until_heard(&b, &mut a, "a").await;

    let first = Forwarder::start(&address, &[]);
    // Back, but the other stops without a word: hosts notice the silence and use the first.
    let mut state = a.state();
    second.signal("STOP");
    until_heard(&a, &mut b, "b").await;
    drop(second);
    until_heard(&b, &mut a, "a").await;
    drop(first);
    let away = timeout(LONG, state.wait_for(|state| !state.is_up())).await;
    assert!(
        matches!(away, Ok(Ok(_))),
        "nobody notices that no forwarder is left"
    );
}

#[test]
fn it_ends_on_sigterm_with_success() {
    let mut forwarder = Forwarder::start("tcp://127.0.0.1:0", &[]);
    forwarder.signal("TERM");
    let end = Instant::now() + LONG;
    loop {
        if let Some(status) = forwarder.child.try_wait().unwrap() {
            assert!(status.success(), "{status}");
            break;
        }
        assert!(Instant::now() < end, "it does not end");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn what_cannot_work_is_told() {
    let told = |listen: &str, arguments: &[&str], secret: &str| {
        let mut child = command(listen, arguments)
            .env("STEADFAST_CLUSTER_SECRET", secret)
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut text = String::new();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        assert!(!child.wait().unwrap().success());
        text
    };
    assert!(told("127.0.0.1:1", &[], SECRET).contains("is not an address"));
    assert!(told("tcp://127.0.0.1:0", &[], "").contains("STEADFAST_CLUSTER_SECRET"));
    assert!(
        told(
            "tcp://127.0.0.1:0",
            &["--secret-file", "/nowhere/at/all"],
            ""
        )
        .contains("/nowhere/at/all")
    );
    assert!(
        told(
            "tls://127.0.0.1:0",
            &["--tls-cert", "/nowhere/at/all"],
            SECRET
        )
        .contains("/nowhere/at/all")
    );
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    assert!(
        told(
            &format!("tcp://{}", taken.local_addr().unwrap()),
            &[],
            SECRET
        )
        .contains("cannot listen")
    );
}

/// A Redis in a folder of its own; both go with their owner.
struct Redis {
    child: Child,
    folder: std::path::PathBuf,
    port: u16,
}

impl Redis {
    fn start() -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let folder =
            std::env::temp_dir().join(format!("steadfast-forwarder-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut command = Command::new("redis-server");
        command
            .args([
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--port",
                &port.to_string(),
                "--dir",
            ])
            .arg(&folder)
            .stdout(Stdio::null());
        let child = command
            .spawn()
            .expect("redis-server cannot be started; this test needs it installed");
        let redis = Self {
            child,
            folder,
            port,
        };
        redis.until(&["PING"], "PONG");
        redis
    }

    fn ask(&self, words: &[&str]) -> String {
        let output = Command::new("redis-cli")
            .args(["-p", &self.port.to_string()])
            .args(words)
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn until(&self, words: &[&str], answer: &str) {
        let end = Instant::now() + LONG;
        while self.ask(words) != answer {
            assert!(
                Instant::now() < end,
                "{words:?} is answered {}",
                self.ask(words)
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[tokio::test]
async fn what_the_last_host_left_in_the_directory_is_cleared() {
    let redis = Redis::start();
    let address = format!("redis://127.0.0.1:{}", redis.port);
    let _forwarder = Forwarder::start("tcp://127.0.0.1:0", &["--redis", &address]);
    let settings = directory::Settings {
        redis: address,
        namespace: "tests".into(),
        node: "a".into(),
        boot: "00000000000000aa".into(),
        lease: Duration::from_millis(1500),
        last_seen: Duration::from_secs(60),
        tls_ca_file: None,
        mesh: None,
        clock: || 0,
    };
    // A runtime that is shut down is what a kill is to others.
    let host = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    host.spawn(async move {
        let (directory, _events) = directory::Directory::start(settings).unwrap();
        directory.set(
            directory::Key::User("ada".into()),
            Some(r#"{"boot":"00000000000000aa"}"#.into()),
        );
        directory.complete();
        std::future::pending::<()>().await;
    });
    redis.until(&["HEXISTS", "tests:user:{ada}", "a"], "1");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(
        redis.ask(&["HEXISTS", "tests:user:{ada}", "a"]),
        "1",
        "a host that lives is cleared"
    );
    host.shutdown_background();
    redis.until(&["HEXISTS", "tests:user:{ada}", "a"], "0");
    redis.until(&["HLEN", "tests:hosts"], "0");
    assert_eq!(redis.ask(&["EXISTS", "tests:seen:{ada}"]), "1");
}
