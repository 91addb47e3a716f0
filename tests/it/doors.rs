//! What another user of the machine can do to the server's files, and the server to theirs: nothing.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::{Flock, FlockArg, RenameFlags, renameat2};
use nix::sys::signal::Signal;
use nix::unistd::{User, geteuid};
use tests::folder::Folder;
use tests::wait::eventually;
use tests::{Client, House, Server, Settings, Transport};

/// Whom the server becomes.
const NOBODY: &str = "nobody";
/// Another one.
const THIRD: u32 = 12_345;

/// Only the superuser can become somebody else, or give them files.
fn root() -> bool {
    geteuid().is_root()
}

fn nobody() -> u32 {
    User::from_name(NOBODY).unwrap().unwrap().uid.as_raw()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
}

/// Files of root that somebody would like to have, and what they are like.
struct Victims {
    folder: Folder,
    before: Vec<(PathBuf, String)>,
}

impl Victims {
    fn new() -> Victims {
        let folder = Folder::new("victims");
        fs::write(folder.path().join("secret"), "of root\n").unwrap();
        // A pid is what might be written over.
        fs::write(folder.path().join("number"), "1\n").unwrap();
        fs::create_dir(folder.path().join("inner")).unwrap();
        for (name, mode) in [("secret", 0o600), ("number", 0o600), ("inner", 0o700)] {
            let mode = fs::Permissions::from_mode(mode);
            fs::set_permissions(folder.path().join(name), mode).unwrap();
        }
        let mut victims = Victims {
            folder,
            before: Vec::new(),
        };
        victims.before = victims.now();
        victims
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn now(&self) -> Vec<(PathBuf, String)> {
        let mut found = vec![self.folder.path().to_owned()];
        let mut at = 0;
        while let Some(path) = found.get(at).cloned() {
            at += 1;
            found.extend(
                fs::read_dir(path)
                    .into_iter()
                    .flatten()
                    .flatten()
                    .map(|e| e.path()),
            );
        }
        found.sort();
        let told = |path: &PathBuf| {
            let it = fs::symlink_metadata(path).unwrap();
            let content = fs::read(path).unwrap_or_default();
            format!("{}:{} {:o} {content:?}", it.uid(), it.gid(), it.mode())
        };
        found
            .iter()
            .map(|path| (path.clone(), told(path)))
            .collect()
    }

    #[track_caller]
    fn assert_unharmed(&self, what: &str) {
        assert_eq!(self.now(), self.before, "{what}");
    }
}

/// A house whose run folder, with pid file, socket and log, belongs to whom the server becomes.
fn house_of_nobody() -> House {
    let mut house = House::new(Settings::new());
    let log = house.path().join("run/steadfast.log");
    house.rewrite(
        Settings::new()
            .with("server.user", NOBODY)
            .with("server.log_file", log.display().to_string()),
    );
    fs::create_dir(house.path().join("run")).unwrap();
    chown(house.path().join("run"), Some(nobody()), None).unwrap();
    house
}

/// What can be planted under a name, and the sentence that refuses it.
const PLANTS: [(&str, &str); 7] = [
    ("link", "link"),
    ("dangling link", "link"),
    ("hard link", "names (hard links)"),
    ("root's file", "belongs to the user"),
    ("third user's file", "belongs to the user"),
    ("folder", "not a plain file"),
    ("device", "not a plain file"),
];

fn plant(what: &str, at: &Path, victims: &Victims) {
    match what {
        "link" => symlink(victims.path("number"), at).unwrap(),
        "dangling link" => symlink(victims.path("inner/new"), at).unwrap(),
        "hard link" => fs::hard_link(victims.path("number"), at).unwrap(),
        "root's file" => fs::write(at, "1\n").unwrap(),
        "third user's file" => {
            fs::write(at, "1\n").unwrap();
            chown(at, Some(THIRD), None).unwrap();
            fs::set_permissions(at, fs::Permissions::from_mode(0o666)).unwrap();
        }
        "folder" => fs::create_dir(at).unwrap(),
        "device" => {
            let made = Command::new("mknod")
                .arg(at)
                .args(["b", "7", "200"])
                .status();
            assert!(made.unwrap().success());
        }
        _ => unreachable!(),
    }
}

fn uproot(at: &Path) {
    let _ = fs::remove_file(at).or_else(|_| fs::remove_dir(at));
}

#[test]
fn nothing_that_is_planted_under_the_names_of_the_server_harms_what_is_roots() {
    if !root() {
        return;
    }
    let house = house_of_nobody();
    let victims = Victims::new();
    let run = house.path().join("run");
    for name in ["steadfast.pid", "steadfast.log", "steadfast.sock"] {
        for (what, sentence) in PLANTS {
            for arguments in [&[][..], &["--daemon"]] {
                let at = run.join(name);
                plant(what, &at, &victims);
                let output = house.run(arguments);
                let case = format!("{what} as {name} with {arguments:?}: {}", said(&output));
                victims.assert_unharmed(&case);
                assert!(!output.status.success(), "{case}");
                let sentence = match name {
                    "steadfast.sock" => "another file of that name",
                    _ => sentence,
                };
                assert!(case.contains(sentence), "{case}");
                assert!(case.contains(name), "{case}");
                uproot(&at);
                // A log is left by such a start, which is nobody's.
                for left in fs::read_dir(&run).unwrap().flatten() {
                    assert_eq!(left.metadata().unwrap().uid(), nobody(), "{case}");
                    fs::remove_file(left.path()).unwrap();
                }
            }
        }
    }
    // With all of that gone it starts, and what it makes is nobody's.
    let server = house.start();
    for (name, mode) in [("pid", 0o600), ("sock", 0o600), ("log", 0o640)] {
        let file = fs::metadata(run.join("steadfast").with_extension(name)).unwrap();
        assert_eq!(
            (file.uid(), file.mode() & 0o777),
            (nobody(), mode),
            "{name}"
        );
    }
    drop(server);
}

#[test]
fn the_folder_itself_may_be_a_link_of_theirs_and_leads_nowhere_they_could_not_go() {
    if !root() {
        return;
    }
    let mut house = house_of_nobody();
    let victims = Victims::new();
    // They own the folder in which the run folder lies.
    let theirs = house.path().join("run/deeper");
    let settings = |folder: &Path| {
        Settings::new()
            .with("server.user", NOBODY)
            .with(
                "server.pid_file",
                folder.join("s.pid").display().to_string(),
            )
            .with(
                "server.log_file",
                folder.join("s.log").display().to_string(),
            )
    };
    house.rewrite(settings(&theirs));
    for target in [victims.path("inner"), victims.path("inner/new")] {
        symlink(&target, &theirs).unwrap();
        for arguments in [&[][..], &["--daemon"]] {
            let output = house.run(arguments);
            assert!(!output.status.success(), "{}", said(&output));
            victims.assert_unharmed(&said(&output));
        }
        fs::remove_file(&theirs).unwrap();
    }
    // A folder of root's that they have moved there is not given to them.
    fs::create_dir(&theirs).unwrap();
    let output = house.run(&[]);
    assert!(!output.status.success(), "{}", said(&output));
    assert_eq!(fs::metadata(&theirs).unwrap().uid(), 0);
    assert_eq!(fs::read_dir(&theirs).unwrap().count(), 0);
    // One that is missing is made, and is theirs.
    fs::remove_dir(&theirs).unwrap();
    let output = house.run(&["--daemon"]);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(fs::metadata(&theirs).unwrap().uid(), nobody());
    assert!(house.run(&["stop"]).status.success());
}

#[test]
fn what_is_exchanged_while_the_server_starts_harms_nothing_either() {
    if !root() {
        return;
    }
    let house = house_of_nobody();
    let victims = Victims::new();
    let run = house.path().join("run");
    let over = AtomicBool::new(false);
    // Beside the names, so that one exchange swaps them. Hard links of root's files among them, whatever the kernel lets users do.
    for name in ["pid", "log", "sock"] {
        symlink(victims.path("number"), run.join(format!("link.{name}"))).unwrap();
        fs::hard_link(victims.path("number"), run.join(format!("hard.{name}"))).unwrap();
        symlink(victims.path("inner"), run.join(format!("folder.{name}"))).unwrap();
    }
    let mut started = 0;
    std::thread::scope(|scope| {
        for name in ["pid", "log", "sock"] {
            let (run, over) = (&run, &over);
            scope.spawn(move || {
                let at = run.join(format!("steadfast.{name}"));
                let mut turn = 0_u32;
                while !over.load(Ordering::Relaxed) {
                    turn = turn.wrapping_add(1);
                    let other = ["link", "hard", "folder"][turn as usize % 3];
                    let other = run.join(format!("{other}.{name}"));
                    let cwd = nix::fcntl::AT_FDCWD;
                    if renameat2(cwd, &at, cwd, &other, RenameFlags::RENAME_EXCHANGE).is_ok() {
                        std::thread::yield_now();
                        let _ = renameat2(cwd, &at, cwd, &other, RenameFlags::RENAME_EXCHANGE);
                    }
                    // As long as a start of a server takes from one step to the next.
                    std::thread::sleep(std::time::Duration::from_micros(u64::from(turn % 400)));
                }
            });
        }
        for _ in 0..30 {
            let output = house.run(&["--daemon"]);
            // Only content, owner and mode count: the number of names is what was planted.
            victims.assert_unharmed(&said(&output));
            if output.status.success() {
                started += 1;
                let _ = house.run(&["stop"]);
            }
            kill_whoever_is_left(&house);
        }
        over.store(true, Ordering::Relaxed);
    });
    println!("{started} of 30 starts succeeded");
    victims.assert_unharmed("in the end");
}

/// Servers whose socket was exchanged, so that a stop did not reach them.
fn kill_whoever_is_left(house: &House) {
    let config = house.config().display().to_string();
    eventually("no server is left", || {
        let mut gone = true;
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let arguments = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&arguments).contains(&config)
                && let Ok(pid) = entry.file_name().to_string_lossy().parse()
            {
                gone = false;
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        gone.then_some(())
    });
}

#[test]
fn a_log_is_opened_anew_with_the_same_care() {
    let victims = Victims::new();
    let mut house = House::new(Settings::new());
    let log = house.path().join("s.log");
    house.rewrite(Settings::new().with("server.log_file", log.display().to_string()));
    let server = house.start();
    let aside = log.with_extension("1");
    for plant in ["link", "hard link", "dangling link"] {
        fs::rename(&log, &aside).unwrap();
        self::plant(plant, &log, &victims);
        server.signal(Signal::SIGHUP);
        eventually("it says that it stays with the old one", || {
            fs::read_to_string(&aside)
                .unwrap()
                .contains("the log file stays the old one")
                .then_some(())
        });
        victims.assert_unharmed(plant);
        fs::remove_file(&log).unwrap();
        fs::rename(&aside, &log).unwrap();
        fs::write(&log, "").unwrap();
    }
    fs::rename(&log, &aside).unwrap();
    server.signal(Signal::SIGHUP);
    eventually("a new one is made where there is none", || {
        fs::read_to_string(&log)
            .ok()?
            .contains("log file opened anew")
            .then_some(())
    });
    // After an upgrade and a reload as well.
    for command in ["upgrade", "reload"] {
        let output = server.house().run(&[command]);
        assert!(output.status.success(), "{}", said(&output));
    }
    Client::login(&server, Transport::Tcp, "ann").expect_nothing();
}

#[test]
fn a_file_that_is_no_pid_file_is_not_emptied() {
    let house = House::new(Settings::new());
    fs::create_dir(house.path().join("run")).unwrap();
    for content in ["root:x:0:0:root:/root:/bin/sh\n", &"1".repeat(200)] {
        fs::write(house.pid_file(), content).unwrap();
        let output = house.run(&[]);
        assert!(!output.status.success());
        assert!(
            said(&output).contains("something else than a process id"),
            "{}",
            said(&output)
        );
        assert_eq!(fs::read_to_string(house.pid_file()).unwrap(), content);
    }
    fs::remove_file(house.pid_file()).unwrap();
}

#[test]
fn nobody_holds_the_pid_file_that_a_killed_server_left() {
    let mut server = Server::standard();
    server.kill();
    let path = server.house().pid_file();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    // As an earlier version left it: whoever may read it may lock it, alone and for ever.
    let readable = || fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    readable();
    let held = Flock::lock(fs::File::open(&path).unwrap(), FlockArg::LockShared).unwrap();
    server.start_again();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    drop(held);
    server.kill();
    if root() {
        readable();
        let third = THIRD.to_string();
        let mut holder = Command::new("setpriv")
            .args([
                "--reuid",
                &third,
                "--clear-groups",
                "--pdeathsig",
                "KILL",
                "--",
            ])
            .args(["flock", "--exclusive", "--no-fork"])
            .arg(&path)
            .args(["sleep", "1000"])
            .spawn()
            .unwrap();
        eventually("somebody holds it", || {
            let file = fs::File::open(&path).unwrap();
            Flock::lock(file, FlockArg::LockSharedNonblock)
                .is_err()
                .then_some(())
        });
        server.start_again();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        holder.kill().unwrap();
        holder.wait().unwrap();
        server.kill();
    }
    if root() {
        let refused = as_user(THIRD, &["cat", &path.display().to_string()]);
        assert!(!refused.status.success());
    }
    server.start_again();
}

fn as_user(user: u32, command: &[&str]) -> Output {
    let user = user.to_string();
    Command::new("setpriv")
        .args(["--reuid", &user, "--regid", &user, "--clear-groups", "--"])
        .args(command)
        .output()
        .unwrap()
}

#[test]
fn files_of_others_in_shared_memory_keep_nothing_from_starting() {
    if !root() {
        return;
    }
    let planted: Vec<PathBuf> = (0..64)
        .map(|n| PathBuf::from(format!("/dev/shm/steadfast-{n:032x}")))
        .chain(["steadfast", "steadfast-x"].map(|name| Path::new("/dev/shm").join(name)))
        .collect();
    for (number, path) in planted.iter().enumerate() {
        match number % 3 {
            0 => fs::write(path, "mine").unwrap(),
            1 => symlink("/dev/shm/of-nobody", path).unwrap(),
            _ => drop(as_user(THIRD, &["mkfifo", &path.display().to_string()])),
        }
        std::os::unix::fs::lchown(path, Some(THIRD), Some(THIRD)).unwrap();
    }
    let mut server = Server::standard();
    server.kill();
    server.start_again();
    server.stop();
    for path in planted {
        assert!(path.symlink_metadata().is_ok(), "{}", path.display());
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn commands_are_roots_and_the_servers_users_and_others_are_told_so() {
    if !root() {
        return;
    }
    let server = house_of_nobody().start();
    let socket = server.house().pid_file().with_extension("sock");
    let folder = server.house().path().to_owned();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    // Where everybody can execute it.
    let executable = folder.join("master");
    fs::copy(tests::house::executable(), &executable).unwrap();
    let status = |user: u32| {
        let (executable, config) = (executable.display(), server.house().config());
        let command = [
            executable.to_string(),
            "status".into(),
            "--config".into(),
            config.display().to_string(),
        ];
        as_user(user, &command.each_ref().map(String::as_str))
    };
    assert!(server.house().run(&["status"]).status.success());
    let theirs = status(nobody());
    assert!(theirs.status.success(), "{}", said(&theirs));
    let others = status(THIRD);
    assert!(!others.status.success());
    assert!(
        said(&others).contains("Permission denied"),
        "{}",
        said(&others)
    );
    // The mode of the socket keeps others away; where somebody has changed that, the server does.
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
    let told = said(&status(THIRD));
    assert!(
        told.contains("only root and the user") && told.contains("12345"),
        "{told}"
    );
    assert!(status(nobody()).status.success());
    for command in ["reload", "upgrade", "audit", "status"] {
        let output = server.house().run(&[command]);
        assert!(output.status.success(), "{command}: {}", said(&output));
    }
    Client::login(&server, Transport::Tcp, "ann").expect_nothing();
}

#[test]
fn a_folder_that_is_not_to_be_relied_on_is_refused_with_what_to_do() {
    let house = House::new(Settings::new());
    let run = house.path().join("run");
    fs::create_dir(&run).unwrap();
    fs::set_permissions(&run, fs::Permissions::from_mode(0o777)).unwrap();
    let output = house.run(&[]);
    assert!(!output.status.success());
    assert!(said(&output).contains("chmod o-w"), "{}", said(&output));
    fs::set_permissions(&run, fs::Permissions::from_mode(0o755)).unwrap();
    if root() {
        chown(&run, Some(THIRD), None).unwrap();
        let output = house.run(&[]);
        assert!(!output.status.success());
        assert!(said(&output).contains("chown"), "{}", said(&output));
        chown(&run, Some(0), None).unwrap();
    }
    drop(house.start());
}

/// The house's configuration becomes one that only root may read, in a folder that only root may enter or everybody.
fn secret_config(house: &House, folder_mode: u32) -> PathBuf {
    let folder = house.path().join("secret");
    fs::create_dir(&folder).unwrap();
    let config = folder.join("config.toml");
    fs::copy(house.config(), &config).unwrap();
    fs::set_permissions(&config, fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(folder_mode)).unwrap();
    config
}

#[test]
fn a_configuration_that_only_root_may_read_is_read_again_or_it_is_said_what_to_do() {
    if !root() {
        return;
    }
    for folder_mode in [0o755, 0o700] {
        let house = house_of_nobody();
        let config = secret_config(&house, folder_mode);
        let run_with = |command: &str, config: &Path| {
            let mut run = Command::new(tests::house::executable());
            for (name, _) in std::env::vars_os() {
                if name.to_string_lossy().starts_with("STEADFAST_") {
                    run.env_remove(name);
                }
            }
            run.arg(command)
                .arg("--config")
                .arg(config)
                .current_dir(house.path());
            run.output().unwrap()
        };
        let run = |command: &str| run_with(command, &config);
        let heartbeat = || {
            let address = house.address("server.websocket");
            Client::connect_to(address, Transport::WebSocket).expect("open")["heartbeatMs"].clone()
        };
        let original = fs::read_to_string(&config).unwrap();
        let with = |ms: u32| {
            // The house's own settings have no such section entry.
            format!(
                "{}\n",
                original.replace(
                    "[limits]",
                    &format!("[limits]\nheartbeat_timeout_ms = {ms}")
                )
            )
        };
        let output = run("--daemon");
        assert!(output.status.success(), "{}", said(&output));
        // Written in place, and read through what root has opened; after an upgrade too.
        for (turn, ms) in [61_000, 62_000].into_iter().enumerate() {
            if turn == 1 {
                let output = run("upgrade");
                assert!(output.status.success(), "{}", said(&output));
            }
            fs::write(&config, with(ms)).unwrap();
            let output = run("reload");
            assert!(output.status.success(), "{}", said(&output));
            assert!(
                said(&output).contains("limits.heartbeat_timeout_ms"),
                "{}",
                said(&output)
            );
            eventually("it is taken over", || (heartbeat() == ms).then_some(()));
        }
        // Replaced, as editors do: the old one is not taken for the new.
        let new = config.with_extension("new");
        fs::write(&new, with(63_000)).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(&config, config.with_extension("old")).unwrap();
        fs::rename(&new, &config).unwrap();
        let output = run("reload");
        assert!(!output.status.success(), "{}", said(&output));
        assert!(said(&output).contains("chgrp"), "{}", said(&output));
        assert_eq!(heartbeat(), 62_000);
        // Removed: that is not as if nothing was ever configured.
        fs::rename(&config, &new).unwrap();
        let output = run_with("reload", &house.config());
        assert!(!output.status.success(), "{}", said(&output));
        assert_eq!(heartbeat(), 62_000);
        // What it was told to do is enough.
        fs::rename(&new, &config).unwrap();
        chown(&config, None, Some(group_of_nobody())).unwrap();
        chown(config.parent().unwrap(), None, Some(group_of_nobody())).unwrap();
        fs::set_permissions(&config, fs::Permissions::from_mode(0o640)).unwrap();
        fs::set_permissions(config.parent().unwrap(), fs::Permissions::from_mode(0o750)).unwrap();
        let output = run("reload");
        assert!(output.status.success(), "{}", said(&output));
        eventually("it is taken over", || (heartbeat() == 63_000).then_some(()));
        assert!(run("stop").status.success());
    }
}

fn group_of_nobody() -> u32 {
    User::from_name(NOBODY).unwrap().unwrap().gid.as_raw()
}
