//! How a chaos goes: everything that is random in it follows from the seed.

use std::fmt;
use std::time::Duration;

use crate::loops::{LoopsPlan, Pace};
use crate::random::Random;

/// After which acts there is an audit. In any case there is one now and then, when all is calm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audits {
    /// `every`: after each.
    Every,
    /// `alone`: after each while only closed loops talk.
    Alone,
    /// `some`: only now and then.
    Some,
}

/// The numbers of one run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// `CHAOS_SEED`, or from the clock.
    pub seed: u64,
    /// Kills until it is over: `CHAOS_KILLS`.
    pub kills: u32,
    /// Kills that are tried a second, on average; some find nobody old enough: `CHAOS_PACE`.
    pub pace: f64,
    /// Workers: `CHAOS_WORKERS`. The more there are, the more can die a second without one dying young.
    pub workers: u32,
    /// Members, half of them on each transport: `CHAOS_SESSIONS`.
    pub sessions: usize,
    /// Letters a second that all members together write: `CHAOS_LETTERS`. Each arrives two to three times.
    pub letters: f64,
    /// Members who write a bundle of letters at once shortly before each kill, so that it strikes processes at work.
    pub storm: usize,
    /// Members of a group; all begin to write when the last one has joined.
    pub circle: usize,
    /// So many circles come while processes die already.
    pub late_circles: usize,
    /// After so long the server kills a process that shows no life.
    pub watchdog: Duration,
    /// Connections that come and go all the while, at one time.
    pub passers: usize,
    /// Pairs in closed loops, who write only when something has come: `CHAOS_LOOPS`.
    pub loops: usize,
    /// Kills, about, until the crowd hushes so that only closed loops talk, or talks again; each hush begins with two reloads in the midst of
    /// a volley: `CHAOS_PHASE`.
    pub phase: u32,
    /// After which acts there is an audit: `CHAOS_AUDIT`.
    pub audits: Audits,
}

impl Plan {
    /// The environment's, or with `kills` what is good for a test suite.
    pub fn of_environment(kills: u32) -> Plan {
        let clock = || Random::of_the_clock().bits() % 1_000_000_000;
        Plan {
            seed: number("CHAOS_SEED").unwrap_or_else(clock),
            kills: number("CHAOS_KILLS").unwrap_or(kills),
            pace: number("CHAOS_PACE").unwrap_or(8.0),
            workers: number("CHAOS_WORKERS").unwrap_or(3),
            sessions: number("CHAOS_SESSIONS").unwrap_or(520),
            letters: number("CHAOS_LETTERS").unwrap_or(800.0),
            storm: 20,
            circle: 20,
            late_circles: 5,
            watchdog: Duration::from_millis(1_000),
            passers: 6,
            loops: number("CHAOS_LOOPS").unwrap_or(150),
            phase: number("CHAOS_PHASE").unwrap_or(10),
            audits: match std::env::var("CHAOS_AUDIT").as_deref() {
                Ok("every") => Audits::Every,
                Ok("some") => Audits::Some,
                Ok("alone") => Audits::Alone,
                // An audit of a small table takes some 30 ms.
                Err(_) if number("CHAOS_KILLS").is_none_or(|many: u32| many <= kills) => {
                    Audits::Every
                }
                Err(_) => Audits::Alone,
                Ok(other) => panic!("CHAOS_AUDIT={other} is neither every nor alone nor some"),
            },
        }
    }

    /// A generator of its own for each part.
    pub fn random(&self, part: &str, number: usize) -> Random {
        let mut seed = Random::new(self.seed);
        let salt = part.bytes().fold(number as u64, |salt, byte| {
            salt << 8 ^ salt >> 56 ^ u64::from(byte)
        });
        Random::new(seed.bits() ^ Random::new(salt).bits())
    }

    /// How long it takes, about.
    pub fn duration(&self) -> Duration {
        Duration::from_secs_f64(f64::from(self.kills) / self.pace)
    }

    /// Who is in closed loops with whom.
    pub(super) fn closed_loops(&self) -> LoopsPlan {
        const THINK: Duration = Duration::from_millis(1_000);
        let mut random = self.random("loops", 0);
        let plan = LoopsPlan::varied(self.loops, 16, Pace::Each, THINK, &mut random);
        LoopsPlan {
            choir: true,
            ..plan
        }
    }

    /// The mean pause between two things that one member says.
    pub(super) fn pause(&self) -> Duration {
        Duration::from_secs_f64(self.sessions as f64 / self.letters)
    }

    /// How many circles there are.
    pub(super) fn circles(&self) -> usize {
        self.sessions / self.circle
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan {
            seed,
            kills,
            sessions,
            ..
        } = self;
        write!(
            f,
            "CHAOS_SEED={seed} CHAOS_KILLS={kills} CHAOS_SESSIONS={sessions}"
        )
    }
}

fn number<T: std::str::FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{name}={text} is no number")))
}
