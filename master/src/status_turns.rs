//! How long a worker's turns take, as `status` tells it: nobody waits for a worker longer than for a turn or two.

use std::fmt;

use serde::{Deserialize, Serialize};
use shm_table::TurnTimes;

/// Turns by how long they took, from waking to sleeping.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Turns {
    pub longest_us: u64,
    /// Those that took less than a bound, and not less than the one before it.
    pub times: Vec<Times>,
}

/// One bar of the histogram.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Times {
    /// In microseconds; none for the last bar.
    pub below_us: Option<u64>,
    pub count: u64,
}

impl Turns {
    /// What the table has counted; `None` where nothing has turned.
    pub fn of(counted: &TurnTimes) -> Option<Turns> {
        let last = counted.below_us.len().checked_sub(1)?;
        let bars = counted.below_us.iter().enumerate();
        let times: Vec<Times> = bars
            .map(|(at, &(below_us, count))| Times {
                below_us: (at < last).then_some(below_us),
                count,
            })
            .collect();
        times.iter().any(|bar| bar.count > 0).then_some(Turns {
            longest_us: counted.longest_us,
            times,
        })
    }

    /// The least bound below which that part of the turns is; none if it is the last bar's.
    fn quantile_below_us(&self, part: f64) -> Option<u64> {
        let total: u64 = self.times.iter().map(|bar| bar.count).sum();
        let wanted = (total as f64 * part).ceil() as u64;
        let mut seen = 0;
        let bar = self.times.iter().find(|bar| {
            seen += bar.count;
            seen >= wanted
        });
        bar.and_then(|bar| bar.below_us)
    }
}

impl fmt::Display for Turns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, part) in [("half", 0.5), ("99 %", 0.99), ("99.99 %", 0.9999)] {
            match self.quantile_below_us(part) {
                Some(us) => write!(f, "{name} below {us} us, ")?,
                None => write!(f, "not {name} below any bound, ")?,
            }
        }
        write!(f, "longest {} us", self.longest_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_are_told_by_their_bounds() {
        let counted = TurnTimes {
            below_us: vec![(16, 90), (32, 9), (64, 0), (128, 1)],
            longest_us: 5_000,
        };
        let turns = Turns::of(&counted).unwrap();
        assert_eq!(
            turns.to_string(),
            "half below 16 us, 99 % below 32 us, not 99.99 % below any bound, longest 5000 us"
        );
        assert_eq!(turns.times[3].below_us, None);
        let never = TurnTimes {
            below_us: vec![(16, 0), (32, 0)],
            longest_us: 0,
        };
        assert!(Turns::of(&never).is_none());
    }
}
