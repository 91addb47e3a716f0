//! Whether neighbours were served while somebody attacked.
//!
//! - A latency begins when a message was *due*, not when it could at last be written, so a server that stands still is not asked less.
//! - *Quiet* is what the same neighbours have at the same moment of another server, which nobody attacks, on the same machine: all that the machine
//!   adds (other work, late clocks, the processor time that the attacked server takes) is in it, and nothing that an attack does to a server. It
//!   counts as at least [`FLOOR`], below which clock ticks and the kernel's slices are measured and not the server, and as at most
//!   [`CEILING`], so that a machine which is never quiet does not excuse everything.
//! - A cell passes if nothing was refused, lost, doubled, reordered, changed or closed, and the p99 of every kind of request is within [`TIMES`]
//!   times its quiet p99.
//! - A machine makes a latency longer, never shorter. So a cell that fails by time alone is tried again, twice at most, and its best run counts.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// So many times the quiet p99 may the p99 be.
pub const TIMES: u32 = 10;

/// The least that counts as quiet p99.
pub const FLOOR: Duration = Duration::from_millis(2);

/// The most that counts as quiet p99.
pub const CEILING: Duration = Duration::from_millis(50);

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
    /// Of all that came.
    pub fn of(samples: &[Sample]) -> Latencies {
        let mut all = Latencies::default();
        for sample in samples {
            let took = sample.came - sample.due;
            all.0.entry(sample.kind).or_default().push(took);
        }
        all.0.values_mut().for_each(|sorted| sorted.sort_unstable());
        all
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

/// What a p99 of this kind may be.
pub fn bound(quiet: &Latencies, kind: Kind) -> Duration {
    TIMES * quiet.p99(kind).clamp(FLOOR, CEILING)
}

/// What part of its bound the slowest kind takes; above 1 is too slow.
pub fn part_of_bound(quiet: &Latencies, attacked: &Latencies) -> f64 {
    let part = |kind| attacked.p99(kind).as_secs_f64() / bound(quiet, kind).as_secs_f64();
    attacked.kinds().map(part).fold(0.0, f64::max)
}

/// The kinds that were too slow, each with its p99 and its bound.
pub fn too_slow(quiet: &Latencies, attacked: &Latencies) -> Vec<(Kind, Duration, Duration)> {
    let judged = attacked
        .kinds()
        .map(|kind| (kind, attacked.p99(kind), bound(quiet, kind)));
    judged.filter(|(_, p99, bound)| p99 > bound).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn latencies(all: impl IntoIterator<Item = u32>) -> Latencies {
        let due = Instant::now();
        let sample = |ms| Sample {
            kind: Kind::Message,
            due,
            came: due + ms * MS,
        };
        Latencies::of(&all.into_iter().map(sample).collect::<Vec<_>>())
    }

    #[test]
    fn one_in_a_hundred_may_be_late_and_no_more() {
        let quiet = latencies([1; 600]);
        let attacked = |late| latencies((0..600).map(|n| if n < late { 900 } else { 3 }));
        assert!(too_slow(&quiet, &attacked(6)).is_empty());
        let slow = too_slow(&quiet, &attacked(7));
        assert_eq!(slow, [(Kind::Message, 900 * MS, 20 * MS)]);
        assert_eq!(part_of_bound(&quiet, &attacked(7)), 45.0);
    }

    #[test]
    fn the_bound_follows_the_quiet_between_floor_and_ceiling() {
        let bound_of = |ms| bound(&latencies([ms; 600]), Kind::Message);
        assert_eq!(bound_of(0), 20 * MS);
        assert_eq!(bound_of(5), 50 * MS);
        assert_eq!(bound_of(400), 500 * MS);
    }

    #[test]
    fn of_few_the_two_longest_are_chance() {
        assert_eq!(latencies([1, 9, 2, 8, 3]).p99(Kind::Message), 3 * MS);
        assert_eq!(latencies([]).p99(Kind::Message), Duration::ZERO);
    }
}
