//! The rate limit: a token bucket that fits the one word a row has for it.
//!
//! The bucket is kept as the time at which it will be full again (the generic cell rate algorithm):
//! a message moves that time on by one interval, and is refused while it lies further ahead than the
//! burst allows. Beside it the word counts refusals, until a second passes without one.

/// Where the limit stands for all sessions; from the configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    /// Messages a second, lasting; 0 = no limit.
    pub per_second: u32,
    /// Messages at once; 0 = as many as `per_second`.
    pub burst: u32,
}

/// What is to be done with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Handle it.
    Accepted,
    /// Refuse it; so many were refused without a calm second between them, this one included.
    Refused {
        /// At most 65535.
        strikes: u32,
    },
}

// The word: when the bucket is full (microseconds, wrapping after 19 hours), the quarter second of
// the last refusal (wrapping after 17 minutes), the refusals. 0 = nothing has happened yet.
const FULL_BITS: u32 = 36;
const QUARTER_BITS: u32 = 12;
const FULL_MASK: u64 = (1 << FULL_BITS) - 1;
const QUARTER_MASK: u64 = (1 << QUARTER_BITS) - 1;
const STRIKES_MAX: u64 = (1 << (64 - FULL_BITS - QUARTER_BITS)) - 1;

/// A full minute of burst is far below the wrap, so "ahead" and "long past" are never mistaken.
const TOLERANCE_US_MAX: u64 = FULL_MASK / 4;

/// Judges one message at `now_ms` and updates the session's word.
pub(crate) fn check(word: &mut u64, limit: Limit, now_ms: u64) -> Verdict {
    if limit.per_second == 0 {
        return Verdict::Accepted;
    }
    let interval = (1_000_000 / u64::from(limit.per_second)).max(1);
    let burst = if limit.burst == 0 {
        limit.per_second
    } else {
        limit.burst
    };
    let tolerance = (interval * u64::from(burst - 1)).min(TOLERANCE_US_MAX);

    let now = now_ms.wrapping_mul(1000) & FULL_MASK;
    let mut ahead = (*word & FULL_MASK).wrapping_sub(now) & FULL_MASK;
    if *word == 0 || ahead > tolerance + interval {
        ahead = 0; // long past: the bucket is full
    }
    if ahead <= tolerance {
        *word = *word & !FULL_MASK | (now + ahead + interval) & FULL_MASK;
        return Verdict::Accepted;
    }

    let quarter = (now_ms / 250) & QUARTER_MASK;
    let before = *word >> FULL_BITS & QUARTER_MASK;
    let calm = quarter.wrapping_sub(before) & QUARTER_MASK > 4;
    let strikes = if calm {
        1
    } else {
        (*word >> (FULL_BITS + QUARTER_BITS)) + 1
    }
    .min(STRIKES_MAX);
    *word = strikes << (FULL_BITS + QUARTER_BITS) | quarter << FULL_BITS | *word & FULL_MASK;
    Verdict::Refused {
        strikes: strikes as u32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN: Limit = Limit {
        per_second: 10,
        burst: 5,
    };

    fn accepted(word: &mut u64, limit: Limit, now_ms: u64, messages: u32) -> u32 {
        (0..messages)
            .filter(|_| check(word, limit, now_ms) == Verdict::Accepted)
            .count() as u32
    }

    #[test]
    fn no_limit_accepts_everything_and_writes_nothing() {
        let mut word = 0;
        assert_eq!(
            accepted(
                &mut word,
                Limit {
                    per_second: 0,
                    burst: 0
                },
                1,
                1000
            ),
            1000
        );
        assert_eq!(word, 0);
    }

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        for start_ms in [0, 1, 123_456_789, (FULL_MASK / 1000) - 1, u64::MAX / 2000] {
            let mut word = 0;
            assert_eq!(accepted(&mut word, TEN, start_ms, 50), 5, "at {start_ms}");
            let later: u32 = (1..=100)
                .map(|step| accepted(&mut word, TEN, start_ms + step * 100, 3))
                .sum();
            assert_eq!(later, 100, "one each 100 ms, from {start_ms}");
        }
    }

    #[test]
    fn a_pause_fills_the_bucket_but_not_more() {
        let mut word = 0;
        assert_eq!(accepted(&mut word, TEN, 1_000, 9), 5);
        assert_eq!(accepted(&mut word, TEN, 61_000, 9), 5);
        // At the wrap itself the bucket would look as it was left: 19 hours of silence to the very
        // half second, in which nobody may stay silent anyway.
        let past_the_wrap = 61_000 + FULL_MASK / 1000 + 60_000;
        assert_eq!(accepted(&mut word, TEN, past_the_wrap, 9), 5);
    }

    #[test]
    fn the_burst_defaults_to_a_second_of_messages() {
        let mut word = 0;
        assert_eq!(
            accepted(
                &mut word,
                Limit {
                    per_second: 7,
                    burst: 0
                },
                5,
                20
            ),
            7
        );
    }

    #[test]
    fn strikes_add_up_until_a_calm_second() {
        let mut word = 0;
        accepted(&mut word, TEN, 10_000, 5);
        for strike in 1..=4 {
            assert_eq!(
                check(&mut word, TEN, 10_000),
                Verdict::Refused { strikes: strike }
            );
        }
        assert_eq!(accepted(&mut word, TEN, 10_600, 5), 5);
        assert_eq!(
            check(&mut word, TEN, 10_600),
            Verdict::Refused { strikes: 5 }
        );
        assert_eq!(accepted(&mut word, TEN, 12_600, 5), 5);
        assert_eq!(
            check(&mut word, TEN, 12_600),
            Verdict::Refused { strikes: 1 }
        );
    }

    #[test]
    fn strikes_stay_within_their_bits() {
        let mut word = 0;
        accepted(&mut word, TEN, 0, 5);
        for _ in 0..70_000 {
            assert!(matches!(check(&mut word, TEN, 0), Verdict::Refused { .. }));
        }
        assert_eq!(
            check(&mut word, TEN, 0),
            Verdict::Refused { strikes: 65_535 }
        );
    }

    #[test]
    fn extreme_limits_do_not_overflow() {
        for limit in [
            Limit {
                per_second: u32::MAX,
                burst: u32::MAX,
            },
            Limit {
                per_second: 1,
                burst: u32::MAX,
            },
            Limit {
                per_second: u32::MAX,
                burst: 1,
            },
        ] {
            let mut word = 0;
            for now_ms in [0, 1, u64::MAX / 3000, u64::MAX] {
                check(&mut word, limit, now_ms);
            }
        }
    }
}
