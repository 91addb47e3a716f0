//! Where a server under test lives: its folder, its configuration, and what is started there.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::folder::Folder;
use crate::processes;
use crate::server::Server;
use crate::settings::Settings;

/// Where a server lives: what remains when its process does not.
pub struct House {
    folder: Folder,
    settings: Settings,
    environment: Vec<(String, String)>,
    executable: Option<PathBuf>,
    /// The number of the user that the server runs as, if it is another one than ours.
    user: Option<String>,
    /// The shared memory that servers here were seen to map.
    segments: Vec<PathBuf>,
}

impl House {
    /// A folder with the configuration in it; nothing is started.
    pub fn new(settings: Settings) -> House {
        let folder = Folder::new("steadfast");
        let house = House {
            folder,
            settings: settings.clone(),
            environment: Vec::new(),
            executable: None,
            user: None,
            segments: Vec::new(),
        };
        house.write(&settings);
        house
    }

    /// The same with an environment variable for everything started here.
    pub fn environment(mut self, name: &str, value: &str) -> House {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same with a server of this executable; the commands of [`House::run`] stay [`executable`]'s.
    pub fn executable(mut self, path: &Path) -> House {
        self.executable = Some(path.to_owned());
        self
    }

    /// The same with a server that another user runs.
    pub(crate) fn user(mut self, number: &str) -> House {
        self.user = Some(number.to_owned());
        self
    }

    fn write(&self, settings: &Settings) {
        fs::write(self.config(), settings.text(self.path())).unwrap();
    }

    /// Replaces the configuration file.
    pub fn rewrite(&mut self, settings: Settings) {
        self.write(&settings);
        self.settings = settings;
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
        self.prepared(Command::new(executable()), arguments)
    }

    /// The same as a command that dies with the thread that starts it, so that a test run that is killed leaves no server.
    pub(crate) fn mortal_command(&self) -> Command {
        let mut command = Command::new("setpriv");
        if let Some(user) = &self.user {
            command.args(["--reuid", user, "--clear-groups"]);
        }
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(self.executable.clone().unwrap_or_else(executable));
        self.prepared(command, &[])
    }

    fn prepared(&self, mut command: Command, arguments: &[&str]) -> Command {
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
        Server::start_in(self)
    }

    /// Notes the shared memory of a server that runs here.
    pub(crate) fn note_segments(&mut self, pid: i32) {
        self.segments = processes::segments(pid);
    }

    /// Fails if the segment, the pid file, a socket or anything else but a log is still there.
    pub fn assert_nothing_left(&self) {
        for segment in &self.segments {
            assert!(!segment.exists(), "{} was left behind", segment.display());
        }
        let mut left: Vec<PathBuf> = fs::read_dir(self.path().join("run"))
            .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
            .unwrap_or_default();
        // A daemon's log is there to be read afterwards.
        left.retain(|path| path.extension().is_none_or(|extension| extension != "log"));
        assert!(left.is_empty(), "left behind: {left:?}");
    }
}

impl Drop for House {
    /// What a test killed or failed to stop does not outlive it.
    fn drop(&mut self) {
        let pid = fs::read_to_string(self.pid_file())
            .ok()
            .and_then(|text| text.trim().parse().ok());
        // The number may be somebody else's by now; a server of this house names its configuration.
        let config = self.config().display().to_string();
        if let Some(pid) = pid.filter(|pid| processes::arguments(*pid).contains(&config)) {
            self.note_segments(pid);
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        for segment in &self.segments {
            let _ = fs::remove_file(segment);
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
