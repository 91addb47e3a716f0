//! One server under test: the real executable, its processes, and its end.
//!
//! [`Server::start`] returns when the server takes sessions. Dropping it stops it with SIGTERM and fails the test unless it
//! ended with 0 and left nothing behind. When the test has failed already, the server's log is printed instead.

use std::fs::File;
use std::io::PipeWriter;
use std::net::SocketAddr;
use std::process::{Child, ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::house::House;
use crate::settings::Settings;
use crate::wait::eventually;
use crate::{http, processes};

/// A running server.
pub struct Server {
    child: Option<Child>,
    house: House,
}

impl Server {
    /// Starts a server with these settings.
    pub fn start(settings: Settings) -> Server {
        Server::start_in(House::new(settings))
    }

    /// Starts a small server with the settings every test starts from.
    pub fn standard() -> Server {
        Server::start(Settings::new())
    }

    pub(crate) fn start_in(house: House) -> Server {
        let mut server = Server { child: None, house };
        server.start_again();
        server
    }

    /// Starts a server that says what it has to say there, and not into a file.
    pub fn start_telling(house: House, there: &PipeWriter) -> Server {
        let mut server = Server { child: None, house };
        let there = [(); 2].map(|()| Stdio::from(there.try_clone().unwrap()));
        server.start_with(there);
        server
    }

    /// The same as the user with this number; the house must be theirs.
    pub fn start_telling_as(house: House, there: &PipeWriter, user: &str) -> Server {
        let house = house.user(user);
        Server::start_telling(house, there)
    }

    /// Starts it again in its house, after it ended or was killed.
    pub fn start_again(&mut self) {
        let log = File::create(self.house.path().join("log")).unwrap();
        self.start_with([log.try_clone().unwrap().into(), log.into()]);
    }

    fn start_with(&mut self, [output, errors]: [Stdio; 2]) {
        let mut command = self.house.mortal_command();
        command.stdout(output).stderr(errors);
        self.child = Some(
            command
                .spawn()
                .unwrap_or_else(|error| panic!("starting {command:?}: {error}")),
        );
        let websocket = self.websocket();
        eventually("the server takes sessions", || {
            if let Some(status) = self.child.as_mut()?.try_wait().unwrap() {
                self.child = None;
                panic!("the server ended at its start with {status}");
            }
            http::try_get(websocket, "/healthz")
                .ok()
                .filter(|answer| answer.status == 200)
        });
        self.house.note_segments(self.pid());
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
        self.house.rewrite(settings);
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
        let log = self.house.log();
        assert!(!log.contains("panicked at"), "a process panicked:\n{log}");
        eventually("no child outlives the server", || {
            children
                .iter()
                .all(|pid| !processes::alive(*pid))
                .then_some(())
        });
        self.assert_nothing_left();
    }

    /// Kills the master with SIGKILL and waits until all its processes are gone.
    pub fn kill(&mut self) {
        let children = processes::children(self.pid());
        self.signal(Signal::SIGKILL);
        self.ended();
        eventually("no child outlives the master", || {
            children
                .iter()
                .all(|pid| !processes::alive(*pid))
                .then_some(())
        });
    }

    /// Fails if the segment, the pid file, a socket or anything else but a log is still there.
    pub fn assert_nothing_left(&self) {
        self.house.assert_nothing_left();
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
        }
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
