//! Kills processes of a server at random instants, and reloads, upgrades and audits it in between.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::Mutex;
use std::thread::{Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::Crowd;
use super::plan::{Audits, Plan};
use crate::frozen::{Fate, Striker};
use crate::loops::Pace;
use crate::posts;
use crate::processes;
use crate::random::Random;
use crate::server::Server;
use crate::wait::eventually;

/// A role that lived so long is replaced at once when it dies; a younger one after a pause.
const GROWN_UP: Duration = Duration::from_millis(1_100);

/// Who succeeds so many that died young is left alone until it has certainly lived long enough: the pauses double each time, and a client
/// that must wait for one of ten seconds shows nothing but that.
const YOUNG_IN_A_ROW: u32 = 3;
const CERTAINLY_GROWN_UP: Duration = Duration::from_millis(2_500);

/// Reloads in the midst of a volley at the beginning of each phase in which only closed loops talk.
const STRIKES: usize = 2;

/// The server waits so long before it replaces one that died young, and twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// How long after its beginning processes are at work on a storm, about.
const STORM: Duration = Duration::from_millis(8);

/// What was done to the server, and when.
#[derive(Default)]
pub struct Journal {
    acts: Mutex<Vec<(Duration, String)>>,
    counts: Mutex<BTreeMap<&'static str, u32>>,
    failures: Mutex<Vec<String>>,
}

impl Journal {
    fn note(&self, since: Instant, kind: &'static str, what: String) {
        *self.counts.lock().unwrap().entry(kind).or_default() += 1;
        self.acts.lock().unwrap().push((since.elapsed(), what));
    }

    fn fail(&self, what: String) {
        self.failures.lock().unwrap().push(what);
    }

    /// What the server refused or found that it must not.
    pub fn failures(&self) -> Vec<String> {
        self.failures.lock().unwrap().clone()
    }

    /// How often each kind of act.
    pub fn counts(&self) -> BTreeMap<&'static str, u32> {
        self.counts.lock().unwrap().clone()
    }
}

impl fmt::Display for Journal {
    /// The last acts, one a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let acts = self.acts.lock().unwrap();
        for (at, what) in &acts[acts.len().saturating_sub(40)..] {
            writeln!(f, "{at:10.3?} {what}")?;
        }
        Ok(())
    }
}

/// One killer at work.
pub struct Killer<'a> {
    server: &'a Server,
    crowd: &'a Crowd,
    journal: &'a Journal,
    random: Random,
    pace: Duration,
    watchdog: Duration,
    audits: Audits,
    phase: u32,
    /// Only closed loops are talking.
    alone: bool,
    start: Instant,
    first_seen: HashMap<i32, Instant>,
    /// Who was killed or stopped and may still be there.
    dead: HashSet<i32>,
    /// How many were killed young in a row, by what stands on their command line about their slot.
    young: HashMap<String, u32>,
    kills: u32,
}

impl<'a> Killer<'a> {
    /// Of this server, among that crowd, by that plan.
    pub fn new(
        server: &'a Server,
        crowd: &'a Crowd,
        plan: &Plan,
        journal: &'a Journal,
    ) -> Killer<'a> {
        Killer {
            server,
            crowd,
            journal,
            random: plan.random("killer", 0),
            pace: Duration::from_secs_f64(1.0 / plan.pace),
            watchdog: plan.watchdog,
            audits: plan.audits,
            phase: plan.phase.max(1),
            alone: false,
            start: Instant::now(),
            first_seen: HashMap::new(),
            dead: HashSet::new(),
            young: HashMap::new(),
            kills: 0,
        }
    }

    /// Kills until so many are dead or the crowd is not well, and returns how many it were. What it starts beside itself ends with `scope`.
    pub fn rage<'s>(mut self, scope: &'s Scope<'s, 'a>, kills: u32) -> u32 {
        let mut next = (9, 17, 31);
        let mut phase_ends = 8;
        let mut under_way = None;
        while self.kills < kills && self.crowd.well() && self.journal.failures().is_empty() {
            if self.kills >= phase_ends {
                phase_ends += self.phase / 2 + 1 + self.random.below(self.phase as usize) as u32;
                finish(under_way.take());
                self.change_phase();
            }
            self.sleep(2 * self.pace);
            if !self.random.one_in(4) {
                self.storm();
            }
            let before = self.kills;
            match self.random.below(60) {
                0 => self.wedge(),
                1..6 => {
                    self.kill();
                    self.kill();
                }
                _ => self.kill(),
            }
            if self.kills > before {
                self.after_an_act();
            } else {
                self.crowd.loops().hurry(false);
            }
            if self.kills >= next.0 {
                next.0 += 12 + self.random.below(12) as u32;
                finish(under_way.take());
                under_way = self.replace("reload", scope);
            }
            if self.kills >= next.1 {
                next.1 += 20 + self.random.below(20) as u32;
                finish(under_way.take());
                under_way = self.replace("upgrade", scope);
            }
            if self.kills >= next.2 {
                next.2 += 40;
                finish(under_way.take());
                self.wait_for_calm();
                self.audit();
            }
        }
        finish(under_way);
        self.wait_for_calm();
        self.crowd.judge();
        self.crowd.talk();
        self.kills
    }

    /// From everybody talking to only the closed loops, or back.
    fn change_phase(&mut self) {
        self.alone = !self.alone;
        self.crowd.loops().pace(match self.random.below(3) {
            0 => Pace::Each,
            _ if self.alone => Pace::Volleys,
            _ => Pace::Each,
        });
        let what = if self.alone {
            self.crowd.hush();
            "the crowd hushes"
        } else {
            self.crowd.talk();
            "the crowd talks"
        };
        self.journal.note(self.start, "phases", what.into());
        for _ in 0..STRIKES {
            if self.alone && self.crowd.well() {
                self.wait_for_calm();
                self.strike("reload", "reloads");
            }
        }
    }

    /// Has a lot to do for whom the next act strikes.
    fn storm(&mut self) {
        if self.alone {
            self.crowd.loops().hurry(true);
        } else {
            self.crowd.storm();
        }
        self.sleep(STORM);
    }

    /// Waits are judged; alone, silence follows half of the acts, and all that was under way must arrive.
    fn after_an_act(&mut self) {
        let loops = self.crowd.loops();
        if self.alone && self.random.one_in(2) {
            loops.fall_silent();
            loops.go_on();
        }
        loops.hurry(false);
        if self.audits == Audits::Every || self.audits == Audits::Alone && self.alone {
            self.audit();
        }
        self.crowd.judge();
    }

    /// Waits until the last victim is gone, those that hang included, and every post is filled.
    fn wait_for_calm(&self) {
        eventually("whoever was killed or stopped is gone", || {
            let children = processes::children(self.server.pid());
            (!children.iter().any(|pid| self.dead.contains(pid))).then_some(())
        });
        posts::filled(self.server);
    }

    /// Any time up to `longest`.
    fn sleep(&mut self, longest: Duration) {
        let time = self.random.below(longest.as_micros() as usize + 1);
        std::thread::sleep(Duration::from_micros(time as u64));
    }

    /// Somebody to kill: mostly one that will be replaced at once.
    /// With what the server will wait before it replaces it.
    fn victim(&mut self) -> Option<(i32, &'static str, Duration)> {
        let now = Instant::now();
        // Process ids come again.
        let children = processes::children(self.server.pid());
        self.dead.retain(|pid| children.contains(pid));
        self.first_seen.retain(|pid, _| children.contains(pid));
        let mut victims = Vec::new();
        for role in ["worker", "timer"] {
            for pid in self.server.processes(role) {
                let seen = *self.first_seen.entry(pid).or_insert(now);
                let age = now - seen;
                let spared = self.young.get(&processes::slot(pid)) >= Some(&YOUNG_IN_A_ROW);
                let due = if spared {
                    age > CERTAINLY_GROWN_UP
                } else {
                    age > GROWN_UP || self.random.one_in(5)
                };
                if due && !self.dead.contains(&pid) {
                    victims.push((pid, role, age));
                }
            }
        }
        if victims.is_empty() {
            return None;
        }
        let (pid, role, age) = victims[self.random.below(victims.len())];
        let young = self.young.entry(processes::slot(pid)).or_default();
        *young = if age > CERTAINLY_GROWN_UP {
            0
        } else {
            *young + 1
        };
        let pause = match *young {
            often @ 1.. if age < GROWN_UP => FIRST_PAUSE * (1 << (often - 1).min(6)),
            _ => Duration::ZERO,
        };
        Some((pid, role, pause))
    }

    fn kill(&mut self) {
        let Some((pid, role, pause)) = self.victim() else {
            return;
        };
        self.crowd.waits().killed(pause);
        if posts::signal(pid, Signal::SIGKILL) {
            self.dead.insert(pid);
            self.kills += 1;
            let kind = if role == "worker" {
                "workers killed"
            } else {
                "timers killed"
            };
            self.journal
                .note(self.start, kind, format!("kill {role} {pid}"));
        }
    }

    /// Stops a process; the server must notice by itself, and kills it.
    fn wedge(&mut self) {
        let Some((pid, role, _)) = self.victim() else {
            return;
        };
        self.crowd.waits().stopped(self.watchdog);
        if posts::signal(pid, Signal::SIGSTOP) {
            self.dead.insert(pid);
            self.kills += 1;
            self.journal
                .note(self.start, "wedged", format!("stop {role} {pid}"));
        }
    }

    /// A reload or an upgrade in the midst of a volley, with silence behind it.
    fn strike(&mut self, how: &'static str, kind: &'static str) {
        let loops = self.crowd.loops();
        loops.fall_silent();
        let output = Striker::new(self.server, loops).strike(Fate::Command(how), &mut self.random);
        loops.fall_silent();
        if let Some(output) = output.filter(|output| !output.status.success()) {
            self.journal
                .fail(format!("{how} in the midst of a volley: {output:?}"));
        }
        let what = format!("{how} in the midst of a volley");
        self.journal.note(self.start, kind, what);
        self.crowd.judge();
        self.wait_for_calm();
        self.audit();
        self.crowd.loops().pace(Pace::Volleys);
        self.crowd.loops().go_on();
    }

    /// A reload or an upgrade: in a quiet moment, when it must succeed, or while the killing goes on.
    fn replace<'s>(
        &mut self,
        how: &'static str,
        scope: &'s Scope<'s, 'a>,
    ) -> Option<ScopedJoinHandle<'s, ()>> {
        let (server, journal, start) = (self.server, self.journal, self.start);
        let kind = if how == "reload" {
            "reloads"
        } else {
            "upgrades"
        };
        let calm = self.random.one_in(2);
        if calm {
            self.wait_for_calm();
        }
        if calm && self.alone {
            self.strike(how, kind);
            return None;
        }
        let run = move || {
            let output = server.house().run(&[how]);
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            let what = format!("{how} (calm: {calm}): {}; {said}", output.status);
            if output.status.success() {
                journal.note(start, kind, what);
            } else if calm {
                journal.fail(what);
            } else {
                journal.note(start, "reloads and upgrades that a kill stopped", what);
            }
        };
        self.journal
            .note(self.start, "begun", format!("{how} begins (calm: {calm})"));
        if calm {
            self.storm();
            run();
            self.after_an_act();
            return None;
        }
        Some(scope.spawn(run))
    }

    fn audit(&mut self) {
        if let Err(found) = posts::audit(self.server) {
            self.journal.fail(found);
        }
        self.journal.note(self.start, "audits", "audit".into());
    }
}

/// Only one thing is asked of the server at a time.
fn finish(under_way: Option<ScopedJoinHandle<'_, ()>>) {
    if let Some(thread) = under_way {
        thread.join().expect("it ends with the server's answer");
    }
}
