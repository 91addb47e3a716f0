//! The time, read once per turn.

use std::time::{SystemTime, UNIX_EPOCH};

use protocol::reply::Moment;

/// Both clocks of a turn. Whatever happens within one turn happens at one time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clock {
    /// Milliseconds of the table's own clock, which all processes share; deadlines are in it.
    pub table_ms: u64,
    /// Milliseconds since 1970, as clients see it.
    pub unix_ms: u64,
    /// The same as messages tell it.
    pub moment: Moment,
}

impl Clock {
    /// The present, given the table's clock. What was written out before is used again within its millisecond.
    pub fn now(table_ms: u64, before: &Clock) -> Self {
        let since_1970 = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let unix_ms = u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX);
        Clock {
            table_ms,
            unix_ms,
            moment: match before.moment.ms() == unix_ms {
                true => before.moment,
                false => Moment::new(unix_ms),
            },
        }
    }

    /// The table's time `delay_ms` from now; never 0, which means "no deadline".
    pub fn after(&self, delay_ms: u32) -> u64 {
        (self.table_ms + u64::from(delay_ms)).max(1)
    }
}
