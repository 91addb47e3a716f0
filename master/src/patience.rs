//! How long all others wait for one process: for what takes a moment, and for which everybody stands still or stands in a queue.
//!
//! To kill a worker costs its clients some milliseconds; to wait for it costs everybody the wait. So one that cannot be merely short of
//! processor time is waited for only briefly (`server.pause_ms`): one that is stopped, one that sleeps, and one that had that much processor
//! time for it. One that wants to run and is not let, or waits for the disk, has until `server.watchdog_ms`: on a machine that is overloaded,
//! killing makes more work, and its successor would get no more of the processor.

use std::time::{Duration, Instant};

use crate::process::Process;

/// How long is waited.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For one that is stopped.
    pub stopped: Duration,
    /// For one that sleeps, and the processor time that one that runs may take.
    pub short: Duration,
    /// For everybody.
    pub long: Duration,
}

impl Patience {
    /// As configured. `pressing`: everybody's work stands still, so that one that is stopped is not waited for at all.
    pub fn of(server: &config::Server, pressing: bool) -> Self {
        let ms = |ms: u32| Duration::from_millis(ms.into());
        let short = ms(server.pause_ms);
        Self {
            stopped: if pressing { Duration::ZERO } else { short },
            short,
            long: ms(server.watchdog_ms).max(short),
        }
    }

    /// How long until a process is looked at again.
    pub fn interval(&self) -> Duration {
        self.short / 4
    }
}

/// A process that others wait for.
#[derive(Clone, Copy, Debug)]
pub struct Waited {
    since: Instant,
    cpu_before: Option<Duration>,
    /// It slept at the last look, having had this processor time by then.
    slept: Option<Duration>,
}

impl Waited {
    /// From now on.
    pub fn from(now: Instant, process: &Process) -> Self {
        Self {
            since: now,
            cpu_before: process.cpu_time(),
            slept: None,
        }
    }

    /// Why it is not waited for any longer, if it is not.
    pub fn is_over(
        &mut self,
        now: Instant,
        process: &Process,
        patience: &Patience,
    ) -> Option<String> {
        let waited = now.saturating_duration_since(self.since);
        if waited >= patience.long {
            return Some(format!("{} ms were enough", waited.as_millis()));
        }
        if waited >= patience.stopped && process.is_stopped() {
            return Some("a signal has stopped it".into());
        }
        let cpu = process.cpu_time()?;
        let ran = cpu.saturating_sub(self.cpu_before?);
        if ran >= patience.short {
            return Some(format!("it ran for {} ms meanwhile", ran.as_millis()));
        }
        // At two looks running, and did nothing in between: it is not about to do what it is waited for.
        let slept = self.slept.take();
        if process.is_asleep() {
            if slept == Some(cpu) && waited >= patience.short {
                return Some(format!("it slept for {} ms meanwhile", waited.as_millis()));
            }
            self.slept = Some(cpu);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    /// A step of the test's own clock.
    const STEP: Duration = Duration::from_millis(50);

    fn patience() -> Patience {
        let server = config::Server::default();
        Patience {
            stopped: STEP,
            ..Patience::of(&server, true)
        }
    }

    fn shell(script: &str) -> Process {
        Process::start(Command::new("sh").args(["-c", script])).unwrap()
    }

    fn soon(what: &str, mut look: impl FnMut() -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        while !look() {
            assert!(Instant::now() < end, "in vain: {what}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// After how long by the test's clock the process is not waited for any longer, and why; it is left alone between two looks.
    fn given_up(process: &Process) -> (Duration, String) {
        let (begin, patience) = (Instant::now(), patience());
        let mut waited = Waited::from(begin, process);
        let mut now = begin;
        loop {
            if let Some(why) = waited.is_over(now, process, &patience) {
                return (now - begin, why);
            }
            now += STEP;
        }
    }

    #[test]
    fn who_is_stopped_or_sleeps_is_waited_for_briefly() {
        let mut process = shell("exec sleep 600");
        soon("it sleeps", || process.is_asleep());
        let (after, why) = given_up(&process);
        assert_eq!(after, patience().short);
        assert!(why.contains("slept"), "{why}");
        kill(Pid::from_raw(process.pid()), Signal::SIGSTOP).unwrap();
        soon("it is stopped", || process.is_stopped());
        let (after, why) = given_up(&process);
        assert_eq!(after, patience().stopped);
        assert!(why.contains("stopped"), "{why}");
        process.end_now();
    }

    #[test]
    fn who_runs_has_so_much_processor_time_and_who_wants_to_run_has_more_time() {
        let mut process = shell("while :; do :; done");
        let patience = patience();
        let begin = Instant::now();
        let mut waited = Waited::from(begin, &process);
        // Time passes, by the test's clock, and it is not let run: that is no fault of its.
        let late = begin + patience.long - STEP;
        let ran = process.cpu_time().unwrap() - waited.cpu_before.unwrap();
        assert!(ran > patience.short || waited.is_over(late, &process, &patience).is_none());
        assert!(waited.is_over(late + STEP, &process, &patience).is_some());
        // It has had what it may have, by the processor's clock.
        soon("it runs", || {
            let why = waited.is_over(begin, &process, &patience);
            why.is_some_and(|why| why.contains("it ran for"))
        });
        process.end_now();
    }
}
