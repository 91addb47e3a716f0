//! How far the directory's clock is ahead of the host's, by which the logins of all hosts are compared.
//!
//! A row keeps its login by a clock of the host that nobody sets. What the directory's clock is ahead of that is measured again and again, and
//! changes for two reasons that cannot be told apart by looking at it, and need not be:
//!
//! - It grows where this host stood still without knowing (a virtual machine that was paused), or the directory's clock was set forward.
//!   Logins from before keep what was right for them, and come before all later ones either way.
//! - It shrinks where the directory's clock was set back, or another Redis with another clock took over. A login must not lie in the future, or
//!   it would beat each newer one; so all are told anew. The other hosts measure the same and do the same.
//!
//! So a login is told with the least that was measured since it, and the logins of one host are never told in another order than that in
//! which they took place.

use directory::Reading;
use shm_table::{CLOCK_MARKS_MAX, ClockMark};

/// Clocks that differ by less have not changed: they run a little differently, and are read in the middle of other work.
const TOLERANCE_MS: i64 = 20;

/// What was measured, as far as it still counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    /// Both values rise from one to the next. The first counts for all that was before it, too.
    marks: Vec<ClockMark>,
}

/// What a measurement has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// What is told of logins from now on.
    Later,
    /// What was told of earlier ones, too.
    Earlier,
}

impl Clock {
    /// Goes on with what another link has measured.
    pub fn of(marks: Vec<ClockMark>) -> Self {
        Clock { marks }
    }

    /// To be kept for the next link.
    pub fn marks(&self) -> &[ClockMark] {
        &self.marks
    }

    /// False before the first measurement.
    pub fn is_known(&self) -> bool {
        !self.marks.is_empty()
    }

    /// The directory's time of a moment of the host's, in Unix milliseconds.
    pub fn told(&self, host_ms: u64) -> Option<u64> {
        let after = self.marks.partition_point(|mark| mark.from_ms <= host_ms);
        let mark = self.marks.get(after.saturating_sub(1))?;
        Some(host_ms.saturating_add_signed(mark.ahead_ms))
    }

    /// Takes a measurement over.
    pub fn measured(&mut self, reading: Reading) -> Change {
        let (least, most) = (reading.least_ahead_ms, reading.most_ahead_ms);
        let Some(last) = self.marks.last() else {
            self.marks.push(ClockMark {
                from_ms: 0,
                ahead_ms: reading.ahead_ms(),
            });
            return Change::Earlier;
        };
        if (least - TOLERANCE_MS..=most + TOLERANCE_MS).contains(&last.ahead_ms) {
            return Change::None;
        }
        let mut mark = ClockMark {
            from_ms: reading.at_ms,
            ahead_ms: reading.ahead_ms(),
        };
        let mut change = Change::Later;
        while let Some(former) = self.marks.pop_if(|former| former.ahead_ms >= mark.ahead_ms) {
            mark.from_ms = former.from_ms;
            change = Change::Earlier;
        }
        self.marks.push(mark);
        self.forget_one();
        change
    }

    /// Where there are too many, gives up the one that differs least from that before it, and never the newest, which counts for what comes.
    fn forget_one(&mut self) {
        if self.marks.len() <= CLOCK_MARKS_MAX {
            return;
        }
        let steps = self.marks.windows(2).enumerate().take(CLOCK_MARKS_MAX - 1);
        let steps = steps.map(|(at, pair)| (pair[1].ahead_ms - pair[0].ahead_ms, at + 1));
        if let Some((_, least)) = steps.min() {
            self.marks.remove(least);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a host measures whose clock is `host_ms` while the directory's is `directory_ms`, over a connection of some milliseconds.
    fn reading(host_ms: u64, directory_ms: u64) -> Reading {
        let ahead = directory_ms as i64 - host_ms as i64;
        Reading {
            at_ms: host_ms,
            least_ahead_ms: ahead - 3,
            most_ahead_ms: ahead + 3,
        }
    }

    const DAY: u64 = 86_400_000;
    const HOUR: u64 = 3_600_000;

    fn known() -> Clock {
        let mut clock = Clock::default();
        assert_eq!(clock.told(5), None);
        assert_eq!(clock.measured(reading(1_000, DAY)), Change::Earlier);
        clock
    }

    #[test]
    fn a_login_before_the_first_measurement_has_a_time_after_it() {
        let clock = known();
        assert_eq!(clock.told(400), Some(DAY - 600));
        assert_eq!(clock.told(2_000), Some(DAY + 1_000));
    }

    #[test]
    fn what_can_be_the_way_there_changes_nothing() {
        let mut clock = known();
        let slow = Reading {
            at_ms: 2_000,
            least_ahead_ms: (DAY - 1_000) as i64 - 400,
            most_ahead_ms: (DAY - 1_000) as i64 + 1,
        };
        assert_eq!(clock.measured(slow), Change::None);
        assert_eq!(clock.measured(reading(3_000, DAY + 2_015)), Change::None);
        assert_eq!(clock, known());
    }

    #[test]
    fn a_host_that_stood_still_tells_later_logins_and_leaves_earlier_ones_as_they_were() {
        let mut clock = known();
        let before = clock.told(5_000);
        // A minute passed elsewhere that this host does not know of.
        assert_eq!(clock.measured(reading(6_000, DAY + 65_000)), Change::Later);
        assert_eq!(clock.told(5_000), before);
        // A login elsewhere in that minute is newer than that, and older than the next one here.
        let elsewhere = Some(DAY + 30_000);
        assert!(before < elsewhere && elsewhere < clock.told(6_000));
    }

    #[test]
    fn a_directory_whose_clock_goes_back_or_forth_has_newer_logins_newer_on_all_hosts() {
        for step in [-(HOUR as i64), HOUR as i64] {
            let mut one = known();
            let mut two = Clock::default();
            two.measured(reading(700_000, DAY));
            let set = |ms: u64| (DAY + ms).saturating_add_signed(step);
            one.measured(reading(11_000, set(10_000)));
            two.measured(reading(710_100, set(10_100)));
            let newest = one.told(11_500).unwrap();
            for earlier in [one.told(2_000), two.told(701_500), two.told(709_000)] {
                assert!(earlier.unwrap() < newest, "after a step of {step} ms");
            }
            // And in the order in which they were, across the hosts.
            assert!(two.told(701_500).unwrap() < one.told(2_900).unwrap());
            assert!(one.told(2_000).unwrap() < two.told(701_500).unwrap());
        }
    }

    #[test]
    fn logins_of_one_host_keep_their_order_whatever_is_measured() {
        let mut clock = Clock::default();
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        for n in 1..2_000_u64 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            clock.measured(reading(n * 500, DAY + random % DAY));
            assert!(clock.marks().len() <= CLOCK_MARKS_MAX);
            assert_eq!(Clock::of(clock.marks().to_vec()), clock);
            let told: Vec<_> = (0..n * 5).map(|at| clock.told(at * 100)).collect();
            assert!(told.is_sorted_by(|a, b| a < b), "after {n} measurements");
            if n > 200 {
                return;
            }
        }
    }

    #[test]
    fn a_clock_that_drifts_for_ten_years_is_followed() {
        let mut clock = known();
        let (mut host, mut directory) = (1_000_u64, DAY);
        // Fifty in a million, looked at once an hour.
        for _ in 0..10 * 365 * 24 {
            host += HOUR;
            directory += HOUR + HOUR / 20_000;
            clock.measured(reading(host, directory));
            let off = clock.told(host).unwrap().abs_diff(directory);
            assert!(off <= 30, "{off}");
        }
    }
}
