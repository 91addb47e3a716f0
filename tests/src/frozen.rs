//! Workers that are replaced at a place of the test's choice in the middle of a burst, which luck alone does to one reload in some hundred.
//!
//! All workers are stopped, a volley goes out into their sockets, and each works on it for a part of the processor time that all of it would
//! take. There it stands until its successor is ready and it has been told to leave, and that is the next thing that it sees. Nobody
//! writes anything behind the volley.

use std::process::Output;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

use crate::loops::Loops;
use crate::posts;
use crate::processes;
use crate::random::Random;
use crate::server::Server;

/// The longest that a worker is kept stopped, waiting for its successor: well below the watchdog's time in any test.
const STOPPED_MAX: Duration = Duration::from_millis(800);

/// From a successor's last preparation to the master's word to its predecessor, amply. If it takes longer, the test shows less.
const WORD: Duration = Duration::from_millis(25);

/// What becomes of the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// They go on.
    None,
    /// One of them is killed.
    Killed,
    /// The command of this name replaces them.
    Command(&'static str),
}

/// Strikes the workers of one server.
pub struct Striker<'a> {
    server: &'a Server,
    loops: &'a Loops,
    /// What a whole volley takes of one worker's time.
    cost: Duration,
}

impl<'a> Striker<'a> {
    /// Of this server, whose loops are silent; measures what a volley costs.
    pub fn new(server: &'a Server, loops: &'a Loops) -> Striker<'a> {
        let mut striker = Striker {
            server,
            loops,
            cost: Duration::ZERO,
        };
        // The first one costs more than all that follow.
        for _ in 0..3 {
            let workers = server.workers();
            let stopped = striker.volley_into_the_sockets();
            let before: Duration = workers.iter().map(|pid| time_of(*pid)).sum();
            go_on(&stopped);
            loops.fall_silent();
            let after: Duration = workers.iter().map(|pid| time_of(*pid)).sum();
            striker.cost = after.saturating_sub(before) / workers.len().max(1) as u32;
        }
        striker
    }

    /// Has a volley go out and that happen in the midst of it. What the command says is returned; nobody is waited for.
    pub fn strike(&self, fate: Fate, random: &mut Random) -> Option<Output> {
        let stopped = self.volley_into_the_sockets();
        for pid in &stopped {
            advance(*pid, self.cost * (10 + random.below(85)) as u32 / 100);
        }
        match fate {
            Fate::None => {}
            Fate::Killed => {
                self.loops.waits().killed(Duration::from_millis(100));
                posts::signal(stopped[random.below(stopped.len())], Signal::SIGKILL);
            }
            Fate::Command(command) => return Some(self.replace(stopped, command)),
        }
        go_on(&stopped);
        None
    }

    /// Stops all workers and has a volley go out; the workers stand still.
    fn volley_into_the_sockets(&self) -> Vec<i32> {
        self.loops.waits().frozen(2 * STOPPED_MAX);
        let mut stopped = self.server.workers();
        stopped.retain(|pid| posts::signal(*pid, Signal::SIGSTOP));
        self.loops.volley();
        stopped
    }

    /// Runs the command, and has each of the stopped go on as soon as it has been told to leave.
    fn replace(&self, mut stopped: Vec<i32>, command: &str) -> Output {
        let server = self.server;
        std::thread::scope(|scope| {
            let running = scope.spawn(|| server.house().run(&[command]));
            let begin = Instant::now();
            while !stopped.is_empty() && begin.elapsed() < STOPPED_MAX && !running.is_finished() {
                let mut others = server.workers();
                others.retain(|pid| !stopped.contains(pid) && processes::has_epoll(*pid));
                let ready: Vec<String> = others.into_iter().map(processes::slot).collect();
                let (told, rest): (Vec<i32>, Vec<i32>) = stopped
                    .iter()
                    .partition(|pid| ready.contains(&processes::slot(**pid)));
                if !told.is_empty() {
                    std::thread::sleep(WORD);
                    go_on(&told);
                }
                stopped = rest;
                std::thread::sleep(Duration::from_millis(1));
            }
            go_on(&stopped);
            running.join().expect("it ends with the server's answer")
        })
    }
}

/// Lets a stopped process work for so much of its own time, and stops it again.
fn advance(pid: i32, by: Duration) {
    const LONGEST: Duration = Duration::from_millis(100);
    let (begin, before) = (Instant::now(), time_of(pid));
    posts::signal(pid, Signal::SIGCONT);
    while time_of(pid) < before + by && begin.elapsed() < LONGEST {
        std::hint::spin_loop();
    }
    posts::signal(pid, Signal::SIGSTOP);
}

/// The processor time that a process has used so far, to the nanosecond; nothing of one that is gone.
fn time_of(pid: i32) -> Duration {
    let clock = clock_getcpuclockid(Pid::from_raw(pid));
    let time = clock.and_then(clock_gettime);
    time.map_or(Duration::ZERO, Duration::from)
}

fn go_on(pids: &[i32]) {
    for pid in pids {
        posts::signal(*pid, Signal::SIGCONT);
    }
}
