//! One server under test: the real executable, its folder, its ports, and its end.
//!
//! [`Server::start`] returns when the server takes sessions. Dropping it stops it with SIGTERM and fails the test unless it
//! ended with 0 and left nothing behind. When the test has failed already, the server's log is printed instead.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::folder::Folder;
use crate::settings::Settings;
use crate::wait::eventually;
use crate::{http, processes};

/// A running server.
pub struct Server {
    child: Option<Child>,
    /// The shared memory it was seen to map.
    segments: Vec<PathBuf>,
    house: House,
}

/// Where a server lives: what remains when its process does not.
pub struct House {
    folder: Folder,
    settings: Settings,
    environment: Vec<(String, String)>,
}

impl House {
    /// A folder with the configuration in it; nothing is started.
    pub fn new(settings: Settings) -> House {
        let folder = Folder::new("steadfast");
        let house = House {
            folder,
            settings: settings.clone(),
            environment: Vec::new(),
        };
        house.write(&settings);
        house
    }

    /// The same with an environment variable for everything started here.
    pub fn environment(mut self, name: &str, value: &str) -> House {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    fn write(&self, settings: &Settings) {
        fs::write(self.config(), settings.text(self.path())).unwrap();
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.path().join("config.toml")
    }

    /// The pid file, as the configuration names it.
    pub fn pid_file(&self) -> PathBuf {
        self.path().join("run/steadfast.pid")
    }

    /// The first address of a listener key.
    pub fn address(&self, key: &str) -> SocketAddr {
        self.settings
            .address(key)
            .unwrap_or_else(|| panic!("no listener {key}"))
    }

    /// What the server has printed and logged so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.path().join("log")).unwrap_or_default()).into_owned()
    }

    /// The executable with arguments, on this configuration, in this folder, without the caller's own settings.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(executable());
        command
            .args(arguments)
            .arg("--config")
            .arg(self.config())
            .current_dir(self.path())
            .stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("STEADFAST_") {
                command.env_remove(name);
            }
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Starts the server in the foreground and waits until it takes sessions.
    pub fn start(self) -> Server {
        let log = File::create(self.path().join("log")).unwrap();
        let child = self
            .command(&[])
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut server = Server {
            child: Some(child),
            segments: Vec::new(),
            house: self,
        };
        let websocket = server.websocket();
        eventually("the server takes sessions", || {
            if let Some(status) = server.child.as_mut()?.try_wait().unwrap() {
                server.child = None;
                panic!("the server ended at its start with {status}");
            }
            http::try_get(websocket, "/healthz")
                .ok()
                .filter(|answer| answer.status == 200)
        });
        server.segments = processes::segments(server.pid());
        assert!(
            !server.segments.is_empty(),
            "the master has no shared memory mapped"
        );
        server
    }
}

impl Server {
    /// Starts a server with these settings.
    pub fn start(settings: Settings) -> Server {
        House::new(settings).start()
    }

    /// Starts a small server with the settings every test starts from.
    pub fn standard() -> Server {
        Server::start(Settings::new())
    }

    /// Its folder, files and commands.
    pub fn house(&self) -> &House {
        &self.house
    }

    /// Its first WebSocket address.
    pub fn websocket(&self) -> SocketAddr {
        self.house.address("server.websocket")
    }

    /// Its first TCP address.
    pub fn tcp(&self) -> SocketAddr {
        self.house.address("server.tcp")
    }

    /// The master's process id.
    pub fn pid(&self) -> i32 {
        self.child.as_ref().expect("the server was stopped").id() as i32
    }

    /// The process ids of its workers.
    pub fn workers(&self) -> Vec<i32> {
        self.processes("worker")
    }

    /// The process ids of its children with that role.
    pub fn processes(&self, role: &str) -> Vec<i32> {
        let mut pids = processes::children(self.pid());
        pids.retain(|pid| {
            processes::arguments(*pid)
                .iter()
                .any(|argument| argument == role)
        });
        pids
    }

    /// Descriptors held by the master and all its children together.
    pub fn descriptors(&self) -> usize {
        processes::children(self.pid())
            .into_iter()
            .chain([self.pid()])
            .map(processes::descriptors)
            .sum()
    }

    /// Sends a signal to the master.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// Replaces the configuration file; the server does not know of it yet.
    pub fn rewrite(&mut self, settings: Settings) {
        self.house.settings = settings;
        self.house.write(&self.house.settings);
    }

    /// Waits until the master has ended by itself.
    pub fn ended(&mut self) -> ExitStatus {
        let child = self.child.as_mut().expect("the server was stopped");
        let status = eventually("the server ends", || child.try_wait().unwrap());
        self.child = None;
        status
    }

    /// Stops the server as an operator does and holds it to what it promises: status 0 and nothing left.
    pub fn stop(&mut self) {
        let children = processes::children(self.pid());
        self.signal(Signal::SIGTERM);
        let status = self.ended();
        assert!(status.success(), "the server ended with {status}");
        eventually("no child outlives the server", || {
            children
                .iter()
                .all(|pid| !processes::alive(*pid))
                .then_some(())
        });
        self.assert_nothing_left();
    }

    /// Kills the master with SIGKILL and gives back its house, to start again in it.
    pub fn kill(mut self) -> House {
        let children = processes::children(self.pid());
        self.signal(Signal::SIGKILL);
        self.ended();
        eventually("no child outlives the master", || {
            children
                .iter()
                .all(|pid| !processes::alive(*pid))
                .then_some(())
        });
        let settings = self.house.settings.clone();
        std::mem::replace(
            &mut self.house,
            House {
                folder: Folder::new("nobody"),
                settings,
                environment: Vec::new(),
            },
        )
    }

    /// Fails if the segment, the pid file, a socket or anything else but a log is still there.
    pub fn assert_nothing_left(&self) {
        for segment in &self.segments {
            assert!(!segment.exists(), "{} was left behind", segment.display());
        }
        let mut left: Vec<_> = fs::read_dir(self.house.path().join("run"))
            .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
            .unwrap_or_default();
        // A daemon's log is there to be read afterwards.
        left.retain(|path: &PathBuf| path.extension().is_none_or(|extension| extension != "log"));
        assert!(left.is_empty(), "left behind: {left:?}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "---- the server's log\n{}---- end of the server's log",
                self.house.log()
            );
        } else if self.child.is_some() {
            self.stop();
            return;
        }
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
            self.segments
                .iter()
                .for_each(|segment| drop(fs::remove_file(segment)));
        }
    }
}

/// The executable: the environment's `STEADFAST_BIN`, or `master` beside or above the running test, or in the release folder there.
pub fn executable() -> PathBuf {
    if let Some(path) = std::env::var_os("STEADFAST_BIN") {
        return path.into();
    }
    let test = std::env::current_exe().unwrap();
    let places = test
        .ancestors()
        .skip(1)
        .take(4)
        .flat_map(|folder| [folder.join("master"), folder.join("release/master")]);
    let found = places.into_iter().find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!(
            "no `master` near {}: build it first, or name it in STEADFAST_BIN",
            test.display()
        )
    })
}
