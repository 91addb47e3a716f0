//! Nobody waits for ever: closed loops, in which nothing but what has come makes anybody write, around reloads, upgrades and deaths.
//!
//! A message that is left lying stays there until something else happens, and here nothing does. `tests/closed-loop` runs it for long.

use std::fmt;
use std::process::Output;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tests::delays::Delays;
use tests::frozen::{Fate, Striker};
use tests::loops::{Loops, LoopsPlan, Pace};
use tests::random::Random;
use tests::waits::Waits;
use tests::wire::Addresses;
use tests::{Server, Settings, posts};

/// The rhythm of a run: so many acts, about a second from one to the next.
const ACTS: usize = 5;
const BETWEEN: Duration = Duration::from_millis(100);

/// Nobody thinks for so long from an act's beginning: processes are replaced within that time. A reload then waits for one to grow up.
const HURRY: Duration = Duration::from_millis(300);

/// The longest that a member thinks while nothing is done to the server, so that six seconds cost little of a processor's time.
const THINK: Duration = Duration::from_millis(150);

/// A process that lived so long is replaced at once when it dies.
const GROWN_UP: Duration = Duration::from_millis(1_100);

/// What is done to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Reload,
    Upgrade,
    KillWorker,
    KillTimer,
    /// All workers are stopped in the midst of a volley, and that becomes of them.
    Strike(Fate),
}

/// One run, from its seed.
struct Run {
    seed: u64,
    loops: LoopsPlan,
    acts: Vec<Act>,
    random: Random,
}

/// What came of one or several.
#[derive(Default)]
struct Outcome {
    acts: usize,
    messages: u64,
    twice: u64,
    longest: Duration,
    longest_net: Duration,
    excused: u64,
    faults: Vec<String>,
}

impl Run {
    /// 100 pairs with 8 messages under way each way, and five reloads.
    fn plain(seed: u64) -> Run {
        let mut random = Random::new(seed);
        let pace = pace(&mut random);
        Run {
            seed,
            loops: LoopsPlan::even(100, 8, pace, THINK),
            acts: vec![Act::Reload; ACTS],
            random,
        }
    }

    /// Windows of 1 to 16, members that only answer or only read, any act; many of them with 1,000 connections.
    fn varied(seed: u64) -> Run {
        let mut random = Random::new(seed);
        let pace = pace(&mut random);
        let pairs = match random.below(8) {
            0..3 => 500,
            3..6 => 100,
            few => 1 << (few - 6),
        };
        // So many that all of them together have about as much under way as a hundred pairs.
        let most = if pairs > 100 { 3 } else { 16 };
        let loops = LoopsPlan::varied(pairs, most, pace, THINK, &mut random);
        let act = |_| match random.below(8) {
            0..3 => Act::Reload,
            3..5 => Act::Upgrade,
            5..7 => Act::KillWorker,
            _ => Act::KillTimer,
        };
        let acts = (0..ACTS).map(act).collect();
        Run {
            seed,
            loops,
            acts,
            random,
        }
    }

    /// Workers that are replaced where they stand in the midst of a volley, most of them with orders.
    fn struck(seed: u64) -> Run {
        let mut random = Random::new(seed);
        let pairs = [100, 150, 500][random.below(3)];
        let window = if pairs > 150 {
            1
        } else {
            1 + random.below(8) as u32
        };
        let mut loops = LoopsPlan::even(pairs, window, Pace::Volleys, THINK);
        loops.choir = random.one_in(2);
        let act = |_| match random.below(8) {
            0 => Act::Strike(Fate::None),
            1 => Act::Strike(Fate::Killed),
            2 => Act::Strike(Fate::Command("upgrade")),
            _ => Act::Strike(Fate::Command("reload")),
        };
        let acts = (0..2 * ACTS).map(act).collect();
        Run {
            seed,
            loops,
            acts,
            random,
        }
    }

    fn go(mut self) -> Outcome {
        let server = Server::start(settings(&self.loops));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let delays = Delays::of(server.pid());
        runtime.spawn(delays.clock_task());
        let waits = Arc::new(Waits::new(delays));
        let addresses = Addresses::of(&server);
        let mut loops = Loops::gather(addresses, &self.loops, waits.clone(), runtime.handle());
        let mut outcome = Outcome::default();
        for act in self.acts.clone() {
            if !loops.well() {
                break;
            }
            outcome
                .faults
                .extend(self.act(act, &server, &loops, &waits));
            outcome.acts += 1;
        }
        loops.fall_silent();
        outcome.faults.extend(posts::audit(&server).err());
        outcome.faults.extend(loops.faults());
        loops.leave(runtime.handle());
        outcome.messages = loops.messages();
        outcome.twice = loops.came_twice();
        (outcome.longest, outcome.longest_net) = waits.longest();
        outcome.excused = waits.excused();
        for fault in &mut outcome.faults {
            *fault = format!(
                "seed {}, {:?}, {} pairs, after {:?}: {fault}",
                self.seed,
                self.loops.pace,
                self.loops.pairs.len(),
                &self.acts[..outcome.acts]
            );
        }
        outcome
    }

    /// One act, with a time before it in which nothing is done, and silence behind most of them.
    fn act(&mut self, act: Act, server: &Server, loops: &Loops, waits: &Waits) -> Vec<String> {
        if let Act::Strike(fate) = act {
            return self.strike(fate, server, loops);
        }
        loops.go_on();
        let pause = match act {
            Act::KillWorker | Act::KillTimer => GROWN_UP,
            _ => BETWEEN,
        };
        let before = self.random.below(100) as u64;
        std::thread::sleep(pause + Duration::from_millis(before));
        loops.hurry(true);
        std::thread::sleep(Duration::from_micros(self.random.below(20_000) as u64));
        // Silence begins before it, in it, behind it, or not at all.
        let silence = self.random.below(5);
        let within = Duration::from_micros(self.random.below(120_000) as u64);
        let victim = self.random.bits() as usize;
        if silence == 0 {
            loops.hold();
        }
        let mut faults = std::thread::scope(|scope| {
            let acting = scope.spawn(|| carry_out(act, server, victim, waits));
            if silence == 1 {
                std::thread::sleep(within);
                loops.hold();
            }
            std::thread::sleep(HURRY);
            loops.hurry(false);
            acting.join().expect("it ends with the server's answer")
        });
        if silence < 4 {
            loops.fall_silent();
            faults.extend(posts::audit(server).err());
        }
        loops.hurry(false);
        loops.judge();
        faults
    }
}

/// [`Run`] in the midst of volleys.
impl Run {
    fn strike(&mut self, fate: Fate, server: &Server, loops: &Loops) -> Vec<String> {
        if fate == Fate::Killed {
            std::thread::sleep(GROWN_UP);
        }
        loops.fall_silent();
        let output = Striker::new(server, loops).strike(fate, &mut self.random);
        loops.fall_silent();
        posts::filled(server);
        let mut faults = Vec::from_iter(posts::audit(server).err());
        if let Some(output) = output {
            faults.extend(failure("the command", &output));
        }
        loops.pace(self.loops.pace);
        faults
    }
}

/// Does it, and waits until it is done and every post is filled; tells what failed.
fn carry_out(act: Act, server: &Server, victim: usize, waits: &Waits) -> Vec<String> {
    let command = |what: &str| failure(what, &server.house().run(&[what]));
    let role = match act {
        Act::Reload => return command("reload"),
        Act::Upgrade => return command("upgrade"),
        Act::KillWorker => "worker",
        Act::KillTimer => "timer",
        Act::Strike(_) => return Vec::new(),
    };
    let victims = server.processes(role);
    waits.killed(Duration::ZERO);
    posts::signal(victims[victim % victims.len()], Signal::SIGKILL);
    posts::filled(server);
    Vec::new()
}

/// What a command complained of.
fn failure(what: &str, output: &Output) -> Vec<String> {
    let said = String::from_utf8_lossy(&output.stderr);
    let failed = (!output.status.success()).then(|| format!("{what} failed: {said}"));
    failed.into_iter().collect()
}

/// Members that answer each for itself show what is lost while others go on; volleys, what nobody else makes up for.
fn pace(random: &mut Random) -> Pace {
    match random.below(2) {
        0 => Pace::Each,
        _ => Pace::Volleys,
    }
}

fn settings(plan: &LoopsPlan) -> Settings {
    Settings::new()
        .with("server.workers", 2)
        .with("table.sessions", 2 * plan.pairs.len() as u64 + 100)
        .with("table.arena_mib", 64)
        .with("table.memberships", 2 * plan.pairs.len() as u64 + 100)
        .with("limits.heartbeat_timeout_ms", 600_000)
}

impl Outcome {
    fn add(&mut self, other: Outcome) {
        self.acts += other.acts;
        self.messages += other.messages;
        self.twice += other.twice;
        self.longest = self.longest.max(other.longest);
        self.longest_net = self.longest_net.max(other.longest_net);
        self.excused += other.excused;
        self.faults.extend(other.faults);
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome {
            acts,
            messages,
            twice,
            longest,
            longest_net,
            excused,
            ..
        } = self;
        write!(
            f,
            "{acts} acts, {messages} messages, {twice} came twice, longest wait {longest:.0?} ({longest_net:.0?} less what the machine \
             is to blame for), {excused} waits excused"
        )
    }
}

/// So many runs; the environment may say otherwise: `CLOSED_LOOP_RUNS`, and the first run's seed, `CLOSED_LOOP_SEED`.
fn runs(kind: &str, default: u64, run: fn(u64) -> Run) {
    let number = |name: &str| {
        let text = std::env::var(name).ok()?;
        let number: Result<u64, _> = text.parse();
        Some(number.unwrap_or_else(|_| panic!("{name}={text} is no number")))
    };
    let runs = number("CLOSED_LOOP_RUNS").unwrap_or(default);
    let clock = || Random::of_the_clock().bits() % 1_000_000_000;
    let first = number("CLOSED_LOOP_SEED").unwrap_or_else(clock);
    let begin = Instant::now();
    let mut all = Outcome::default();
    let mut failed = 0;
    println!("{kind}: CLOSED_LOOP_SEED={first} CLOSED_LOOP_RUNS={runs}");
    for seed in first..first + runs {
        let outcome = run(seed).go();
        let verdict = match outcome.faults.first() {
            None => "clean".to_owned(),
            Some(_) => outcome.faults.join("; "),
        };
        failed += u64::from(!outcome.faults.is_empty());
        println!("{kind} {seed}: {outcome}: {verdict}");
        all.add(outcome);
    }
    let took = begin.elapsed();
    println!("{kind}: CLOSED_LOOP_SEED={first}: {failed} of {runs} runs failed; {all}; {took:.0?}");
    assert!(
        all.faults.is_empty(),
        "{failed} of {runs} runs failed:\n{}",
        all.faults.join("\n")
    );
}

#[test]
fn plain() {
    runs("plain", 3, Run::plain);
}

#[test]
fn struck() {
    runs("struck", 3, Run::struck);
}

#[test]
fn varied() {
    runs("varied", 4, Run::varied);
}
