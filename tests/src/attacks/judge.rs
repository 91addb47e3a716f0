//! Whether neighbours were served while somebody attacked.
//!
//! - A latency begins when a message was *due*, not when it could at last be written, so a server that stands still is not asked less.
//! - What the machine adds is taken off, as everywhere ([`crate::waits`]): how late this process's own clock tasks were, and how long the
//!   server's processes stood in the kernel's queue for a processor, the latter for at most three quarters of a latency. Attackers have no
//!   share in that queue: they run only when nobody else wants to.
//! - *Quiet* is the same neighbours on the same server in the moment before the attack, in all cells of the run together. It counts as
//!   at least [`FLOOR`], below which clock ticks and the kernel's slices are measured and not the server, and as at most [`CEILING`],
//!   so that a machine which is never quiet excuses nothing.
//! - A cell passes if nothing was refused, lost, doubled, reordered or closed and the p99 of every kind of request is within [`TIMES`] times its quiet p99.
//! - A machine makes a latency longer, never shorter. So a cell that fails by time alone is tried again, twice at most, and its best run counts.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::delays::Delays;

/// So many times the quiet p99 may the p99 be.
pub const TIMES: u32 = 10;

/// The least that counts as quiet p99.
pub const FLOOR: Duration = Duration::from_millis(2);

/// The most that counts as quiet p99.
pub const CEILING: Duration = Duration::from_millis(10);

/// The same across hosts, where a message passes five processes and not one.
pub const CEILING_ACROSS: Duration = Duration::from_millis(20);

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A message from being due to its arrival, or to its acknowledgement.
    Message,
    /// A newcomer from being due to `welcome`.
    Login,
    /// `who` of two names.
    Who,
    /// `join`, and `leave`.
    Join,
}

impl Kind {
    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Message => "message",
            Kind::Login => "login",
            Kind::Who => "who",
            Kind::Join => "join",
        }
    }
}

/// One thing that was due and has come.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// What.
    pub kind: Kind,
    /// When it should have been asked for.
    pub due: Instant,
    /// When it had come.
    pub came: Instant,
}

/// Latencies by kind, in order of their length.
#[derive(Clone, Debug, Default)]
pub struct Latencies(BTreeMap<Kind, Vec<Duration>>);

impl Latencies {
    /// Less what the machine added.
    pub fn net(samples: &[Sample], delays: &[Delays]) -> Latencies {
        Latencies::of(samples, |sample| {
            let took = sample.came - sample.due;
            took.saturating_sub(excuse(sample, delays))
        })
    }

    /// As the neighbours had them.
    pub fn raw(samples: &[Sample]) -> Latencies {
        Latencies::of(samples, |sample| sample.came - sample.due)
    }

    fn of(samples: &[Sample], took: impl Fn(&Sample) -> Duration) -> Latencies {
        let mut all = Latencies::default();
        for sample in samples {
            all.0.entry(sample.kind).or_default().push(took(sample));
        }
        all.0.values_mut().for_each(|sorted| sorted.sort_unstable());
        all
    }

    /// These as well.
    pub fn add(&mut self, other: &Latencies) {
        for (kind, more) in &other.0 {
            let sorted = self.0.entry(*kind).or_default();
            sorted.extend(more);
            sorted.sort_unstable();
        }
    }

    /// The median.
    pub fn p50(&self, kind: Kind) -> Duration {
        let sorted = self.0.get(&kind).map_or(&[][..], Vec::as_slice);
        sorted.get(sorted.len() / 2).copied().unwrap_or_default()
    }

    /// What 99 % are within; of fewer than 200, all but the two longest: one of thirty is chance.
    pub fn p99(&self, kind: Kind) -> Duration {
        let sorted = self.0.get(&kind).map_or(&[][..], Vec::as_slice);
        let above = (sorted.len() / 100).max(2);
        let at = sorted.len().saturating_sub(above + 1);
        sorted.get(at).copied().unwrap_or_default()
    }

    /// Kinds of which there is something.
    pub fn kinds(&self) -> impl Iterator<Item = Kind> + '_ {
        self.0.keys().copied()
    }
}

/// What of a latency the machine is to blame for.
fn excuse(sample: &Sample, delays: &[Delays]) -> Duration {
    let took = sample.came - sample.due;
    let (mut queued, mut late) = (Duration::ZERO, Duration::ZERO);
    for delays in delays {
        let (of_this, clock) = delays.between(sample.due, sample.came);
        queued += of_this;
        // All look at the same clock.
        late = late.max(clock);
    }
    late + queued.min(took * 3 / 4)
}

/// What a p99 of this kind may be.
pub fn bound(quiet: &Latencies, kind: Kind, ceiling: Duration) -> Duration {
    TIMES * quiet.p99(kind).clamp(FLOOR, ceiling)
}

/// The kinds that were too slow, each with its p99 and its bound.
pub fn too_slow(
    quiet: &Latencies,
    attacked: &Latencies,
    ceiling: Duration,
) -> Vec<(Kind, Duration, Duration)> {
    let judged = attacked.kinds().map(|kind| {
        let bound = bound(quiet, kind, ceiling);
        (kind, attacked.p99(kind), bound)
    });
    judged.filter(|(_, p99, bound)| p99 > bound).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn samples(latencies: impl IntoIterator<Item = u32>) -> Vec<Sample> {
        let due = Instant::now();
        let sample = |ms| Sample {
            kind: Kind::Message,
            due,
            came: due + ms * MS,
        };
        latencies.into_iter().map(sample).collect()
    }

    fn latencies(all: impl IntoIterator<Item = u32>) -> Latencies {
        Latencies::raw(&samples(all))
    }

    #[test]
    fn one_in_a_hundred_may_be_late_and_no_more() {
        let quiet = latencies([1; 600]);
        let attacked = |late| latencies((0..600).map(|n| if n < late { 900 } else { 3 }));
        assert!(too_slow(&quiet, &attacked(6), CEILING).is_empty());
        let slow = too_slow(&quiet, &attacked(7), CEILING);
        assert_eq!(slow, [(Kind::Message, 900 * MS, 20 * MS)]);
    }

    #[test]
    fn the_bound_follows_the_quiet_between_floor_and_ceiling() {
        let bound_of = |ms| bound(&latencies([ms; 600]), Kind::Message, CEILING);
        assert_eq!(bound_of(0), 20 * MS);
        assert_eq!(bound_of(5), 50 * MS);
        assert_eq!(bound_of(400), 100 * MS);
    }

    #[test]
    fn of_few_the_two_longest_are_chance() {
        assert_eq!(latencies([1, 9, 2, 8, 3]).p99(Kind::Message), 3 * MS);
        assert_eq!(latencies([]).p99(Kind::Message), Duration::ZERO);
    }

    #[test]
    fn the_machine_excuses_three_quarters_by_its_queue_and_all_by_its_clock() {
        let long = Duration::from_secs(60);
        let starved = [Delays::fixed(long, Duration::ZERO)];
        let net = Latencies::net(&samples([400]), &starved);
        assert_eq!(net.0[&Kind::Message], [100 * MS]);
        let late = [
            Delays::fixed(Duration::ZERO, 300 * MS),
            Delays::fixed(Duration::ZERO, 300 * MS),
        ];
        let net = Latencies::net(&samples([400]), &late);
        assert_eq!(net.0[&Kind::Message], [100 * MS]);
    }
}
