//! What a person sees of `config::load`: values from three sources, and each mistake with its file, line, key and reason.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use config::{Config, Place, Problem, load};

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("steadfast-config-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, text: &str) -> PathBuf {
        let path = self.0.join("config.toml");
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn environment(variables: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    variables
        .iter()
        .map(|(name, text)| (name.into(), text.into()))
        .collect()
}

/// The problems of a file with that text.
fn problems(name: &str, text: &str) -> Vec<Problem> {
    let folder = Folder::new(name);
    load(Some(&folder.write(text)), []).unwrap_err().0
}

/// The line, key and reason of the only problem of a file with that text.
fn problem(name: &str, text: &str) -> (usize, String, String) {
    let problems = problems(name, text);
    let [
        Problem {
            place: Place::Line(_, line),
            key,
            reason,
        },
    ] = problems.as_slice()
    else {
        panic!("{problems:?}");
    };
    (*line, key.clone(), reason.clone())
}

#[test]
fn the_file_of_the_repository_is_the_defaults_complete() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config.toml");
    let from_file = load(Some(&path), []).unwrap();
    let mut defaults = Config::default();
    // The only default that a file moves: to its own folder.
    defaults.server.pid_file = path.parent().unwrap().join(defaults.server.pid_file);
    assert_eq!(from_file, defaults);

    let text = std::fs::read_to_string(&path).unwrap();
    let tree = serde_json::to_value(Config::default()).unwrap();
    for (section, keys) in tree.as_object().unwrap() {
        let part = text.split(&format!("\n[{section}]\n")).nth(1).unwrap();
        let part = part.split("\n[").next().unwrap();
        for key in keys.as_object().unwrap().keys() {
            let at = part
                .find(&format!("\n{key} = "))
                .unwrap_or_else(|| panic!("{section}.{key} is missing"));
            let before = part[..at].lines().last().unwrap();
            assert!(before.starts_with("# "), "{section}.{key} has no comment");
        }
    }
}

#[test]
fn the_environment_wins_over_the_file_and_the_file_over_the_defaults() {
    let folder = Folder::new("order");
    let path = folder.write("[table]\nsessions = 5\ngroups = 6\n");
    let config = load(
        Some(&path),
        environment(&[
            ("STEADFAST_TABLE_GROUPS", "7"),
            ("STEADFAST_SERVER_TCP", "127.0.0.1:1,[::1]:2"),
            ("STEADFAST_AUTH_ADMINS", r#"["root", "a,b"]"#),
            ("STEADFAST_LIMITS_SAME_USER", "one_per_device"),
            ("STEADFAST_DIAGNOSTICS_ECHO", "true"),
            ("STEADFAST_AUTH_JWT_SECRET", "12345"),
            ("HOME", "/elsewhere"),
        ]),
    )
    .unwrap();
    assert_eq!(
        (
            config.table.sessions,
            config.table.groups,
            config.table.memberships
        ),
        (5, 7, 65_536)
    );
    assert_eq!(
        config.server.tcp,
        ["127.0.0.1:1".parse().unwrap(), "[::1]:2".parse().unwrap()]
    );
    assert_eq!(config.auth.admins, ["root", "a,b"]);
    assert_eq!(config.limits.same_user, config::SameUser::OnePerDevice);
    assert!(config.diagnostics.echo);
    assert_eq!(config.auth.jwt_secret.0, "12345");
}

#[test]
fn paths_are_relative_to_the_file() {
    let folder = Folder::new("paths");
    let path = folder.write("[server]\npid_file = \"a/b.pid\"\nlog_file = \"/var/log/x\"\n");
    let server = load(Some(&path), []).unwrap().server;
    assert_eq!(server.pid_file, folder.0.join("a/b.pid"));
    assert_eq!(server.log_file, Path::new("/var/log/x"));
    let without = load(None, []).unwrap().server;
    assert_eq!(
        without.pid_file,
        std::env::current_dir().unwrap().join("run/steadfast.pid")
    );
    assert_eq!(without.log_file, Path::new(""));
}

#[test]
fn a_name_that_does_not_exist_is_named_with_those_that_do() {
    let (line, key, reason) = problem("key", "[limits]\n\nmesage_bytes = 1\n");
    assert_eq!((line, key.as_str()), (3, "limits.mesage_bytes"));
    assert!(reason.contains("message_bytes"), "{reason}");

    let (line, key, reason) = problem("section", "[limit]\nmessage_bytes = 1\nx = 2\n");
    assert_eq!((line, key.as_str()), (1, "limit"));
    assert!(reason.contains("limits"), "{reason}");
    assert_eq!(problem("empty-section", "\n[limit]\n").0, 2);

    let (line, key, reason) = problem("top", "message_bytes = 1\n");
    assert_eq!((line, key.as_str()), (1, "message_bytes"));
    assert!(reason.contains("section"), "{reason}");
}

#[test]
fn a_value_of_the_wrong_kind_is_blamed_on_its_line() {
    for (i, (text, key, part)) in [
        (
            "[table]\nsessions = \"many\"",
            "table.sessions",
            "expected u32",
        ),
        ("[table]\nsessions = -1", "table.sessions", "-1"),
        ("[table]\nsessions = 1.5", "table.sessions", "fraction"),
        ("[server]\nworkers = 300", "server.workers", "300"),
        (
            "[server]\ntcp = [\"localhost\"]",
            "server.tcp",
            "socket address",
        ),
        ("[server]\ntcp = \"127.0.0.1:1\"", "server.tcp", "sequence"),
        (
            "[server]\nlog_level = \"loud\"",
            "server.log_level",
            "`error`",
        ),
        (
            "[limits]\nsame_user = \"two\"",
            "limits.same_user",
            "`one_per_device`",
        ),
        ("[diagnostics]\necho = 1", "diagnostics.echo", "boolean"),
        ("[auth]\nadmins = [1]", "auth.admins", "string"),
        ("[auth]\nmode = {a = 1}", "auth.mode", "table"),
    ]
    .into_iter()
    .enumerate()
    {
        let (line, found, reason) = problem(&format!("kind-{i}"), text);
        assert_eq!((line, found.as_str()), (2, key));
        assert!(reason.contains(part), "{text}: {reason}");
    }
}

#[test]
fn a_value_that_breaks_a_rule_is_blamed_on_its_line() {
    for (i, (text, key, part)) in [
        ("[table]\nsessions = 0", "table.sessions", "between 1 and"),
        ("[server]\nworkers = 61", "server.workers", "60"),
        ("[server]\nwatchdog_ms = 1", "server.watchdog_ms", "1000"),
        (
            "[server]\nhandover_ms = 1",
            "server.handover_ms",
            "between 100",
        ),
        (
            "[server]\nabandon_ms = 3600001",
            "server.abandon_ms",
            "3600000",
        ),
        (
            "[diagnostics]\nfail_slot = 64",
            "diagnostics.fail_slot",
            "63",
        ),
        ("[server]\npause_ms = 9", "server.pause_ms", "10"),
        ("[server]\nnode = \"\"", "server.node", "name"),
        ("[server]\npid_file = \"\"", "server.pid_file", "file"),
        (
            "[server]\npid_file = \"a.sock\"",
            "server.pid_file",
            ".sock",
        ),
        (
            "[server]\ntcp = [\"127.0.0.1:9501\"]",
            "server.tcp",
            "twice",
        ),
        (
            "[server]\ntcp = [\"0.0.0.0:9502\"]",
            "server.tcp",
            "auth.allow_open",
        ),
        (
            "[server]\nwebsocket = [\"[::]:9501\"]",
            "server.websocket",
            "auth.allow_open",
        ),
        (
            "[server]\nproxies = [\"10.0.0.1\", \"proxy\"]",
            "server.proxies",
            "neither an address nor a network",
        ),
        (
            "[server]\nproxies = [\"10.0.0.1/8\"]",
            "server.proxies",
            "the network is \"10.0.0.0/8\"",
        ),
        (
            "[limits]\nlogin_timeout_ms = 1",
            "limits.login_timeout_ms",
            "100",
        ),
        (
            "[limits]\nmessage_bytes = 33554432",
            "limits.message_bytes",
            "quarter",
        ),
        (
            "[limits]\noutbox_bytes = 60000",
            "limits.outbox_bytes",
            "one message",
        ),
        ("[auth]\nmode = \"jwt\"", "auth.mode", "not available"),
        ("[auth]\nadmins = [\"a\\nb\"]", "auth.admins", "name"),
        (
            "[auth]\norigins = [\"https://x/\"]",
            "auth.origins",
            "origin",
        ),
        (
            "[cluster]\nnamespace = \"a b\"\nenabled = true",
            "cluster.namespace",
            "letters",
        ),
        (
            "[cluster]\nforwarder = []\nbus = \"forwarder\"\nsecret = \"s\"\nenabled = true",
            "cluster.forwarder",
            "needs it",
        ),
        ("[api]\nlisten = \"0.0.0.0:9503\"", "api.listen", "token"),
        ("[api]\nlisten = \"here\"", "api.listen", "address"),
    ]
    .into_iter()
    .enumerate()
    {
        // A large message needs a larger outbox; only the rule at hand is to be broken.
        let text = text.replace("33554432", "33554432\noutbox_bytes = 67108864");
        let (line, found, reason) = problem(&format!("rule-{i}"), &text);
        assert_eq!((line, found.as_str()), (2, key));
        assert!(reason.contains(part), "{text}: {reason}");
    }
}

#[test]
fn what_is_allowed_when_it_is_asked_for() {
    let folder = Folder::new("allowed");
    let path = folder.write(
        "[server]\nwebsocket = [\"0.0.0.0:9501\", \"[::]:9501\", \"127.0.0.1:0\", \"127.0.0.1:0\"]\ntcp = []\n\
         [auth]\nallow_open = true\norigins = [\"*\", \"https://a.example:8443\"]\n[api]\nlisten = \"\"\n",
    );
    load(Some(&path), []).unwrap();
}

#[test]
fn no_listener_at_all_is_an_error() {
    assert_eq!(
        problem("deaf", "[server]\ntcp = []\nwebsocket = []\n").1,
        "server.websocket"
    );
}

#[test]
fn all_problems_come_at_once_in_the_order_of_the_file() {
    let folder = Folder::new("all");
    let path =
        folder.write("[server]\nworkers = 99\nnode = 1\n[oops]\nx = 1\n[table]\nsessions = 0\n");
    let error = load(
        Some(&path),
        environment(&[
            ("STEADFAST_TABLE_ROWS", "1"),
            ("STEADFAST_TABLE_GROUPS", "x"),
        ]),
    );
    let text = error.unwrap_err().to_string();
    let file = path.display();
    let begins = [
        format!("{file}:2: server.workers: "),
        format!("{file}:3: server.node: "),
        format!("{file}:4: oops: "),
        format!("{file}:7: table.sessions: "),
        "environment variable STEADFAST_TABLE_GROUPS: table.groups: ".to_owned(),
        "environment variable STEADFAST_TABLE_ROWS: ".to_owned(),
    ];
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), begins.len(), "{text}");
    for (line, begin) in lines.iter().zip(&begins) {
        assert!(line.starts_with(begin), "{line}\n{begin}");
    }
}

#[test]
fn a_file_that_cannot_be_read_or_parsed_says_so() {
    let error = load(Some(Path::new("/nowhere/config.toml")), [])
        .unwrap_err()
        .to_string();
    assert_eq!(error, "/nowhere/config.toml: there is no such file");
    assert_eq!(problem("syntax", "[server]\nnode = \"a\n").0, 2);
    assert_eq!(
        problem("twice", "[table]\nsessions = 1\nsessions = 2\n").0,
        3
    );
}

#[test]
fn secrets_do_not_show_in_debug_output() {
    let config = load(None, environment(&[("STEADFAST_API_TOKEN", "hunter2")])).unwrap();
    assert_eq!(config.api.token.0, "hunter2");
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn the_pid_file_is_found_in_a_file_with_other_mistakes() {
    let folder = Folder::new("pid");
    let path = folder.write(
        "[server]\npid_file = \"x.pid\"\nworkers = \"a\"\n[nonsense]\n[limits]\nrefusals = 99999\n",
    );
    assert_eq!(
        config::pid_file(Some(&path), []).unwrap(),
        folder.0.join("x.pid")
    );
    let from_environment = environment(&[
        ("STEADFAST_SERVER_PID_FILE", "/y.pid"),
        ("STEADFAST_OOPS", ""),
    ]);
    assert_eq!(
        config::pid_file(Some(&path), from_environment).unwrap(),
        Path::new("/y.pid")
    );

    for text in ["[server]\npid_file = 1\n", "[server\n"] {
        config::pid_file(Some(&folder.write(text)), []).unwrap_err();
    }
}
