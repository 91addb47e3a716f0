//! The rate limit: a token bucket that fits the one word a row has for it.
//!
//! All input costs something, at an exchange rate in eighths of a message ([`message`], [`PART`]): who sends nothing but pings, pongs, empty
//! lines or empty fragments is limited as well as who sends messages, only later.
//!
//! The bucket is kept as the time at which it will be full again (the generic cell rate algorithm):
//! input moves that time on by what it costs, and is refused while it lies further ahead than the
//! burst allows. Beside it the word counts refusals, until a second passes without one.

/// Where the limit stands for all sessions; from the configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    /// Microseconds from one message to the next; 0 = no limit.
    interval: u64,
    /// How far ahead the bucket's time may lie for a message to be taken.
    tolerance: u64,
    /// The furthest that it ever lies ahead.
    ahead_max: u64,
}

impl Limit {
    /// The limit of a session, from `limits.messages_per_second`, `message_burst` and `message_bytes`.
    pub fn of(limits: &config::Limits) -> Self {
        let per_second = u64::from(limits.messages_per_second);
        if per_second == 0 {
            return Limit {
                interval: 0,
                tolerance: 0,
                ahead_max: 0,
            };
        }
        let interval = (1_000_000 / per_second).max(1);
        let burst = match limits.message_burst {
            0 => per_second,
            burst => u64::from(burst),
        };
        let tolerance = (interval * (burst - 1)).min(TOLERANCE_US_MAX);
        // The largest message, and a control frame that was let pass with the bucket empty.
        let dearest = u64::from(message(limits.message_bytes as usize) / WHOLE) + 2;
        let ahead_max = (tolerance + interval * dearest).min(2 * TOLERANCE_US_MAX);
        Limit {
            interval,
            tolerance,
            ahead_max,
        }
    }
}

/// What is to be done with what came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Handle it.
    Accepted,
    /// Refuse it; so many were refused without a calm second between them, this one included.
    Refused {
        /// In messages, rounded down: eight control frames are one. At most [`STRIKES_MAX`].
        strikes: u32,
    },
}

/// What a message costs that is short: the unit of all costs is an eighth of that.
pub(crate) const WHOLE: u32 = 8;

/// What everything else costs that is a frame, a line, or a read which brought neither: a control frame, an empty line, a piece of a message.
pub(crate) const PART: u32 = 1;

/// A login that is refused costs as much as so many messages: it has locked an index for nothing.
pub(crate) const REFUSED_LOGIN: u32 = 10 * WHOLE;

/// What a message of so many bytes costs: one, and one more for each full 16 KiB.
#[inline]
pub(crate) fn message(bytes: usize) -> u32 {
    WHOLE + (bytes >> 11) as u32
}

// The word: when the bucket is full (microseconds, wrapping after 19 hours), the quarter second of
// the last refusal (wrapping after 17 minutes), the refusals in eighths. 0 = nothing has happened yet.
const FULL_BITS: u32 = 36;
const QUARTER_BITS: u32 = 12;
const FULL_MASK: u64 = (1 << FULL_BITS) - 1;
const QUARTER_MASK: u64 = (1 << QUARTER_BITS) - 1;
const EIGHTHS_MAX: u64 = (1 << (64 - FULL_BITS - QUARTER_BITS)) - 1;

/// More strikes than these are not counted.
pub(crate) const STRIKES_MAX: u32 = EIGHTHS_MAX as u32 / WHOLE;

/// A full minute of burst is far below the wrap, so "ahead" and "long past" are never mistaken.
const TOLERANCE_US_MAX: u64 = FULL_MASK / 4;

/// Judges what came at `now_ms` and costs that much, and updates the session's word.
///
/// What is cheaper than a message may come while there is not quite one message left: the answer to a ping is not to fail because of the
/// messages before it.
#[inline]
pub(crate) fn check(word: &mut u64, limit: &Limit, now_ms: u64, cost: u32) -> Verdict {
    if limit.interval == 0 {
        return Verdict::Accepted;
    }
    let slack = if cost < WHOLE { limit.interval } else { 0 };
    if ahead(*word, limit, now_ms) <= limit.tolerance + slack {
        charge(word, limit, now_ms, cost);
        return Verdict::Accepted;
    }
    refuse(word, now_ms, cost)
}

/// Counts something that has been done already.
#[inline]
pub(crate) fn charge(word: &mut u64, limit: &Limit, now_ms: u64, cost: u32) {
    if limit.interval == 0 {
        return;
    }
    let price = (limit.interval * u64::from(cost) / u64::from(WHOLE)).max(1);
    let ahead = (ahead(*word, limit, now_ms) + price).min(limit.ahead_max);
    *word = *word & !FULL_MASK | (now_us(now_ms) + ahead) & FULL_MASK;
}

fn now_us(now_ms: u64) -> u64 {
    now_ms.wrapping_mul(1000) & FULL_MASK
}

/// How far ahead the bucket's time lies.
#[inline]
fn ahead(word: u64, limit: &Limit, now_ms: u64) -> u64 {
    let ahead = (word & FULL_MASK).wrapping_sub(now_us(now_ms)) & FULL_MASK;
    match word == 0 || ahead > limit.ahead_max {
        // Long past: the bucket is full.
        true => 0,
        false => ahead,
    }
}

#[cold]
fn refuse(word: &mut u64, now_ms: u64, cost: u32) -> Verdict {
    let quarter = (now_ms / 250) & QUARTER_MASK;
    let before = *word >> FULL_BITS & QUARTER_MASK;
    let calm = quarter.wrapping_sub(before) & QUARTER_MASK > 4;
    let before = match calm {
        true => 0,
        false => *word >> (FULL_BITS + QUARTER_BITS),
    };
    let eighths = (before + u64::from(cost.min(WHOLE))).min(EIGHTHS_MAX);
    *word = eighths << (FULL_BITS + QUARTER_BITS) | quarter << FULL_BITS | *word & FULL_MASK;
    Verdict::Refused {
        strikes: eighths as u32 / WHOLE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(per_second: u32, burst: u32) -> Limit {
        Limit::of(&config::Limits {
            messages_per_second: per_second,
            message_burst: burst,
            ..config::Limits::default()
        })
    }

    fn ten() -> Limit {
        limit(10, 5)
    }

    fn accepted(word: &mut u64, limit: Limit, now_ms: u64, messages: u32) -> u32 {
        of_cost(word, limit, now_ms, messages, WHOLE)
    }

    fn of_cost(word: &mut u64, limit: Limit, now_ms: u64, number: u32, cost: u32) -> u32 {
        (0..number)
            .filter(|_| check(word, &limit, now_ms, cost) == Verdict::Accepted)
            .count() as u32
    }

    #[test]
    fn no_limit_accepts_everything_and_writes_nothing() {
        let mut word = 0;
        assert_eq!(accepted(&mut word, limit(0, 0), 1, 1000), 1000);
        assert_eq!(word, 0);
    }

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        for start_ms in [0, 1, 123_456_789, (FULL_MASK / 1000) - 1, u64::MAX / 2000] {
            let mut word = 0;
            assert_eq!(accepted(&mut word, ten(), start_ms, 50), 5, "at {start_ms}");
            let later: u32 = (1..=100)
                .map(|step| accepted(&mut word, ten(), start_ms + step * 100, 3))
                .sum();
            assert_eq!(later, 100, "one each 100 ms, from {start_ms}");
        }
    }

    #[test]
    fn a_pause_fills_the_bucket_but_not_more() {
        let mut word = 0;
        assert_eq!(accepted(&mut word, ten(), 1_000, 9), 5);
        assert_eq!(accepted(&mut word, ten(), 61_000, 9), 5);
        // At the wrap itself the bucket would look as it was left: 19 hours of silence to the very
        // half second, in which nobody may stay silent anyway.
        let past_the_wrap = 61_000 + FULL_MASK / 1000 + 60_000;
        assert_eq!(accepted(&mut word, ten(), past_the_wrap, 9), 5);
    }

    #[test]
    fn the_burst_defaults_to_a_second_of_messages() {
        let mut word = 0;
        assert_eq!(accepted(&mut word, limit(7, 0), 5, 20), 7);
    }

    #[test]
    fn strikes_add_up_until_a_calm_second() {
        let mut word = 0;
        accepted(&mut word, ten(), 10_000, 5);
        for strike in 1..=4 {
            assert_eq!(
                check(&mut word, &ten(), 10_000, WHOLE),
                Verdict::Refused { strikes: strike }
            );
        }
        assert_eq!(accepted(&mut word, ten(), 10_600, 5), 5);
        assert_eq!(
            check(&mut word, &ten(), 10_600, WHOLE),
            Verdict::Refused { strikes: 5 }
        );
        assert_eq!(accepted(&mut word, ten(), 12_600, 5), 5);
        assert_eq!(
            check(&mut word, &ten(), 12_600, WHOLE),
            Verdict::Refused { strikes: 1 }
        );
    }

    #[test]
    fn strikes_stay_within_their_bits() {
        let mut word = 0;
        accepted(&mut word, ten(), 0, 5);
        for _ in 0..9_000 {
            assert!(matches!(
                check(&mut word, &ten(), 0, WHOLE),
                Verdict::Refused { .. }
            ));
        }
        assert_eq!(
            check(&mut word, &ten(), 0, WHOLE),
            Verdict::Refused {
                strikes: STRIKES_MAX
            }
        );
    }

    #[test]
    fn extreme_limits_do_not_overflow() {
        for limit in [
            limit(u32::MAX, u32::MAX),
            limit(1, u32::MAX),
            limit(u32::MAX, 1),
        ] {
            let mut word = 0;
            for now_ms in [0, 1, u64::MAX / 3000, u64::MAX] {
                check(&mut word, &limit, now_ms, WHOLE);
            }
        }
    }

    #[test]
    fn everything_costs_something() {
        let most = limit(10, 20);
        for (cost, passed) in [(WHOLE, 20), (PART, 8 * 20 + 1), (message(65_536), 4)] {
            let mut word = 0;
            let now = of_cost(&mut word, most, 7_000, 10_000, cost);
            assert_eq!(now, passed, "of cost {cost}");
            let later: u32 = (1..=1_000)
                .map(|step| of_cost(&mut word, most, 7_000 + step * 10, 100, cost))
                .sum();
            let lasting = 10 * 10 * WHOLE / cost;
            assert!(
                later.abs_diff(lasting) <= 1 + lasting / 50,
                "{later} of cost {cost} in ten seconds"
            );
        }
        assert_eq!((message(0), message(2_047), message(65_536)), (8, 8, 40));
    }

    #[test]
    fn a_control_frame_passes_while_messages_come_as_fast_as_they_may() {
        let mut word = 0;
        for step in 0..1_000 {
            let now_ms = 5_000 + step * 20;
            while check(&mut word, &ten(), now_ms, WHOLE) == Verdict::Accepted {}
            if step % 50 == 0 {
                assert_eq!(check(&mut word, &ten(), now_ms, PART), Verdict::Accepted);
            }
        }
    }

    #[test]
    fn parts_are_parts_of_a_strike() {
        let mut word = 0;
        of_cost(&mut word, ten(), 1_000, 1_000, PART);
        let before = match check(&mut word, &ten(), 1_000, PART) {
            Verdict::Refused { strikes } => strikes,
            Verdict::Accepted => panic!("it was past the limit"),
        };
        for _ in 0..8 {
            check(&mut word, &ten(), 1_000, PART);
        }
        let after = check(&mut word, &ten(), 1_000, PART);
        assert_eq!(
            after,
            Verdict::Refused {
                strikes: before + 1
            }
        );
    }

    #[test]
    fn what_was_done_already_is_owed_but_not_for_ever() {
        let mut word = 0;
        for _ in 0..100 {
            charge(&mut word, &ten(), 9_000, REFUSED_LOGIN);
        }
        assert_eq!(accepted(&mut word, ten(), 9_000, 1), 0);
        // The burst of five and the largest message, at 100 ms each.
        assert_eq!(accepted(&mut word, ten(), 10_700, 1), 1);
    }
}
