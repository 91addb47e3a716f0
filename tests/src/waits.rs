//! How long anybody may wait, and the judgement of every wait that was longer.
//!
//! A wait begins when a message goes out and ends when it, or its answer, has come. The bounds are the server's promise; a test machine adds
//! what it adds. So time in which the server's processes stood in the kernel's queue for a processor, and time by which this process's own
//! clock tasks were late, is measured ([`crate::delays`]) and taken off. Neither grows while everybody sleeps: a message that stays
//! until the next event or tick is never excused.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::delays::Delays;

/// Whatever is done to the server in order (a reload, an upgrade, an audit, nothing at all): no wait is longer.
pub const ORDERLY: Duration = Duration::from_millis(250);

/// The same after a process was killed.
pub const AFTER_A_KILL: Duration = Duration::from_millis(1_000);

/// Of a wait, the kernel's queue excuses so much at most: four times its bound is too long on any machine.
const EXCUSED_PARTS: (u32, u32) = (3, 4);

/// So many waits are told one by one.
const TOLD_MAX: usize = 10;

/// Something after which a wait may be longer.
#[derive(Clone, Copy)]
struct Act {
    at: Instant,
    /// When everything it delayed must have arrived.
    due: Instant,
    /// A process died young: the server is known to let its post wait, and it may happen again before anything was done there.
    young: bool,
}

/// One wait that was longer than [`ORDERLY`].
struct Wait {
    from: Instant,
    to: Instant,
    what: String,
}

/// All waits of one server's clients.
pub struct Waits {
    delays: Delays,
    acts: Mutex<Vec<Act>>,
    long: Mutex<Vec<Wait>>,
    longest_us: AtomicU64,
    longest_net_us: AtomicU64,
    excused: AtomicU64,
}

impl Waits {
    /// With these delays to be taken off.
    pub fn new(delays: Delays) -> Waits {
        Waits {
            delays,
            acts: Mutex::default(),
            long: Mutex::default(),
            longest_us: AtomicU64::new(0),
            longest_net_us: AtomicU64::new(0),
            excused: AtomicU64::new(0),
        }
    }

    /// A process was killed now; `pause` is what the server waits before it starts a successor.
    pub fn killed(&self, pause: Duration) {
        self.act(AFTER_A_KILL + pause, pause > Duration::ZERO);
    }

    /// A process was stopped now: the server finds out by its watchdog.
    pub fn stopped(&self, watchdog: Duration) {
        self.act(watchdog + AFTER_A_KILL, false);
    }

    /// Processes were stopped that will go on, or be killed, within that time.
    pub fn frozen(&self, longest: Duration) {
        self.act(longest + ORDERLY, false);
    }

    fn act(&self, bound: Duration, young: bool) {
        let at = Instant::now();
        let due = at + bound;
        self.acts.lock().unwrap().push(Act { at, due, young });
    }

    /// What went out at `from` has come now.
    pub fn ended(&self, from: Instant, what: impl FnOnce() -> String) {
        let to = Instant::now();
        let took = to - from;
        self.longest_us.fetch_max(took.as_micros() as u64, SeqCst);
        if took <= ORDERLY {
            self.longest_net_us
                .fetch_max(took.as_micros() as u64, SeqCst);
            return;
        }
        let what = what();
        self.long.lock().unwrap().push(Wait { from, to, what });
    }

    /// When what went out at `from` must have come, on a machine with nothing else to do.
    fn due(&self, from: Instant) -> Instant {
        let orderly = from + ORDERLY;
        let acts = self.acts.lock().unwrap();
        // What an act delays was sent before it was made up for, and was not overdue already.
        let delaying = acts.iter().filter(|act| act.due > from);
        delaying.fold(orderly, |due, act| {
            let limit = if act.young { due } else { orderly };
            if act.at < limit {
                due.max(act.due)
            } else {
                due
            }
        })
    }

    /// What of this time the machine is to blame for.
    fn excuse(&self, from: Instant, to: Instant) -> Duration {
        let (queued, late) = self.delays.between(from, to);
        let (part, whole) = EXCUSED_PARTS;
        late + queued.min((to - from) * part / whole)
    }

    /// Why it is too long that what went out at `from` has not come before `to`.
    pub fn overdue(&self, from: Instant, to: Instant) -> Option<String> {
        let due = self.due(from);
        if to <= due {
            return None;
        }
        let excuse = self.excuse(from, to);
        (to > due + excuse).then(|| {
            let (took, bound) = (to - from, due - from);
            format!("waited {took:.0?} of {bound:.0?}, {excuse:.0?} of it for a processor")
        })
    }

    /// Judges every wait that has ended since the last time: those that were too long.
    pub fn judge(&self) -> Vec<String> {
        let long = std::mem::take(&mut *self.long.lock().unwrap());
        let mut faults = Vec::new();
        for wait in &long {
            if let Some(why) = self.overdue(wait.from, wait.to) {
                faults.push(format!("{} {why}", wait.what));
                continue;
            }
            let took = wait.to - wait.from;
            let net = took.saturating_sub(self.excuse(wait.from, wait.to));
            self.longest_net_us
                .fetch_max(net.as_micros() as u64, SeqCst);
            if wait.to > self.due(wait.from) {
                self.excused.fetch_add(1, SeqCst);
            }
        }
        let untold = faults.len().saturating_sub(TOLD_MAX);
        faults.truncate(TOLD_MAX);
        if untold > 0 {
            faults.push(format!("and {untold} more waited too long"));
        }
        faults
    }

    /// The longest wait, as it was and less what the machine is to blame for.
    pub fn longest(&self) -> (Duration, Duration) {
        let read = |number: &AtomicU64| Duration::from_micros(number.load(SeqCst));
        (read(&self.longest_us), read(&self.longest_net_us))
    }

    /// How many waits were over their bound by no more than the machine is to blame for.
    pub fn excused(&self) -> u64 {
        self.excused.load(SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn waits() -> Waits {
        Waits::new(Delays::none())
    }

    #[test]
    fn without_an_act_or_an_excuse_the_orderly_bound_holds() {
        let waits = waits();
        let now = Instant::now();
        assert_eq!(waits.overdue(now, now + 250 * MS), None);
        assert!(waits.overdue(now, now + 251 * MS).is_some());
    }

    #[test]
    fn a_kill_delays_what_was_under_way_or_sent_soon_after() {
        let waits = waits();
        let before = Instant::now();
        waits.killed(100 * MS);
        let kill = waits.acts.lock().unwrap()[0].at;
        assert_eq!(waits.overdue(before, kill + 1_100 * MS), None);
        assert!(waits.overdue(before, kill + 1_101 * MS).is_some());
        // When the kill has been made up for, nothing excuses any more.
        let later = kill + 1_000 * MS;
        assert!(waits.overdue(later, later + 251 * MS).is_some());
        // What should have come before the kill is overdue whatever the kill does.
        assert!(waits.overdue(kill - 300 * MS, kill + MS).is_some());
    }

    #[test]
    fn the_queue_for_a_processor_excuses_a_part_and_a_late_clock_all() {
        let now = Instant::now();
        let starved = Waits::new(Delays::fixed(Duration::from_secs(60), Duration::ZERO));
        assert_eq!(starved.overdue(now, now + 999 * MS), None);
        assert!(starved.overdue(now, now + 1_001 * MS).is_some());
        let frozen = Waits::new(Delays::fixed(Duration::ZERO, Duration::from_secs(2)));
        assert_eq!(frozen.overdue(now, now + 2_249 * MS), None);
        assert!(frozen.overdue(now, now + 2_251 * MS).is_some());
    }

    #[test]
    fn a_long_wait_is_judged_once() {
        let waits = waits();
        waits.ended(Instant::now() - 300 * MS, || "a message".into());
        waits.ended(Instant::now() - 100 * MS, || "another".into());
        let faults = waits.judge();
        assert!(
            faults.len() == 1 && faults[0].starts_with("a message"),
            "{faults:?}"
        );
        assert!(waits.judge().is_empty());
    }
}
