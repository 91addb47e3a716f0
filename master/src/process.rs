//! A process that the master has started, known by its pid alone: a master that takes over from another one knows no more of its children.
//!
//! A pid names this process, and nobody else, until `waitpid` has said that it ended; from then on nothing is sent to it. What is no child
//! (any more) is never sent anything.

use std::fmt;
use std::io;
use std::process::Command;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

/// A child of this process.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    ending: Option<Ending>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// By itself, with this status.
    Exited(i32),
    /// By a signal.
    Killed(Signal),
    /// By a signal without a name, or somebody else has waited for it.
    Unknown,
}

impl Process {
    /// Starts one.
    ///
    /// # Errors
    /// What the system says.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        // Nothing is lost with the `Child`: it would neither end nor wait for the process.
        let pid = command.spawn()?.id().cast_signed();
        Ok(Self {
            pid: Pid::from_raw(pid),
            ending: None,
        })
    }

    /// A child that this process started before it executed what it is now.
    pub fn inherited(pid: i32) -> Self {
        Self {
            pid: Pid::from_raw(pid),
            ending: None,
        }
    }

    /// For the table, the log and people.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Kills it. Its end comes as a signal like any other.
    ///
    /// # Errors
    /// What the system says.
    pub fn kill(&self) -> io::Result<()> {
        // Between this look and the signal nobody else can get the pid: only this thread waits for children.
        if self.ending.is_none() && self.is_child() {
            kill(self.pid, Signal::SIGKILL)?;
        }
        Ok(())
    }

    /// Whether the pid is a child's that has not been waited for; it may have ended.
    fn is_child(&self) -> bool {
        let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        !matches!(waitid(Id::Pid(self.pid), look), Err(Errno::ECHILD))
    }

    /// How it has ended, once it has.
    pub fn ended(&mut self) -> Option<Ending> {
        self.wait_for(WaitPidFlag::WNOHANG)
    }

    /// Whether a signal has stopped it, and none has let it go on.
    pub fn is_stopped(&self) -> bool {
        let flags = WaitPidFlag::WSTOPPED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        self.ending.is_none()
            && matches!(
                waitid(Id::Pid(self.pid), flags),
                Ok(WaitStatus::Stopped(..))
            )
    }

    /// The processor time it has had; `None` where the system does not say.
    pub fn cpu_time(&self) -> Option<Duration> {
        let clock = clock_getcpuclockid(self.pid).ok()?;
        clock_gettime(clock).ok().map(Duration::from)
    }

    /// Whether it sleeps: it wants no processor time, and it is not the disk that it waits for.
    pub fn is_asleep(&self) -> bool {
        // proc(5): the state follows the name, which may contain anything.
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        matches!(stat.rsplit_once(") "), Some((_, rest)) if rest.starts_with('S'))
    }

    /// Kills it and waits until it is gone.
    pub fn end_now(&mut self) {
        // It may be gone by itself.
        let _ = self.kill();
        self.wait_for(WaitPidFlag::empty());
    }

    fn wait_for(&mut self, flags: WaitPidFlag) -> Option<Ending> {
        while self.ending.is_none() {
            self.ending = match waitpid(self.pid, Some(flags)) {
                Ok(WaitStatus::StillAlive) => return None,
                Ok(WaitStatus::Exited(_, status)) => Some(Ending::Exited(status)),
                Ok(WaitStatus::Signaled(_, signal, _)) => Some(Ending::Killed(signal)),
                Ok(_) | Err(Errno::EINTR) => None,
                // `EINVAL`: ended by a real-time signal, for which `Signal` has no name. `ECHILD`: it is not there any more.
                Err(_) => Some(Ending::Unknown),
            };
        }
        self.ending
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(status) => write!(f, "exit status {status}"),
            Self::Killed(signal) => write!(f, "killed by {signal}"),
            Self::Unknown => write!(f, "ended in an unknown way"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Process {
        Process::start(Command::new("sh").args(["-c", script])).unwrap()
    }

    fn ending_of(mut process: Process) -> Ending {
        process.wait_for(WaitPidFlag::empty()).unwrap()
    }

    #[test]
    fn each_way_to_end_is_told_apart() {
        assert_eq!(ending_of(shell("exit 2")), Ending::Exited(2));
        assert_eq!(
            ending_of(shell("kill -TERM $$")),
            Ending::Killed(Signal::SIGTERM)
        );
        assert_eq!(ending_of(shell("kill -34 $$")), Ending::Unknown);
    }

    #[test]
    fn one_that_lives_has_not_ended_until_it_is_killed() {
        let mut process = shell("exec sleep 600");
        assert_eq!(process.ended(), None);
        process.end_now();
        assert_eq!(process.ended(), Some(Ending::Killed(Signal::SIGKILL)));
        // The pid may be anybody's now.
        process.kill().unwrap();
    }

    #[test]
    fn a_number_that_is_no_childs_is_sent_nothing() {
        // A grandchild: whoever runs this test may kill it, and must not.
        let mut child = Command::new("sh")
            .args(["-c", "sleep 600 >/dev/null & echo $!; read _; kill $!"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut said = std::io::BufReader::new(child.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut said, &mut line).unwrap();
        let grandchild: i32 = line.trim().parse().unwrap();
        let mut process = Process::inherited(grandchild);
        process.kill().unwrap();
        process.end_now();
        assert_eq!(process.ended(), Some(Ending::Unknown));
        let status = std::fs::read_to_string(format!("/proc/{grandchild}/stat")).unwrap();
        assert!(!status.contains(") Z "), "it was killed");
        drop(child.stdin.take());
        child.wait().unwrap();
    }

    #[test]
    fn stopped_busy_and_asleep_are_told_apart() {
        fn soon(what: &str, look: impl Fn() -> bool) {
            let end = std::time::Instant::now() + Duration::from_secs(20);
            while !look() {
                assert!(std::time::Instant::now() < end, "in vain: {what}");
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        let mut sleeper = shell("exec sleep 600");
        soon("it sleeps", || sleeper.is_asleep());
        assert!(!sleeper.is_stopped());
        kill(sleeper.pid, Signal::SIGSTOP).unwrap();
        soon("it is stopped", || sleeper.is_stopped());
        // Asked twice, it is the same.
        assert!(sleeper.is_stopped() && !sleeper.is_asleep());
        kill(sleeper.pid, Signal::SIGCONT).unwrap();
        soon("it goes on", || {
            !sleeper.is_stopped() && sleeper.is_asleep()
        });
        sleeper.end_now();
        assert!(!sleeper.is_stopped());
        let mut busy = shell("while :; do :; done");
        let before = busy.cpu_time().unwrap();
        soon("it runs", || busy.cpu_time() > Some(before));
        assert!(!busy.is_asleep());
        busy.end_now();
        assert_eq!(busy.cpu_time(), None);
    }

    #[test]
    fn one_that_somebody_else_waited_for_has_ended() {
        let process = shell("exit 0");
        waitpid(process.pid, None).unwrap();
        assert_eq!(ending_of(process), Ending::Unknown);
    }
}
