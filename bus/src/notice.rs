//! Events that may come in floods: counted, and logged at most once a minute.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

const PAUSE: Duration = Duration::from_secs(60);

/// One kind of event.
#[derive(Debug, Default)]
pub(crate) struct Notice(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    told: Option<Instant>,
    untold: u64,
}

impl Notice {
    /// It happened; `what` is logged if the last line is a minute old.
    pub(crate) fn tell(&self, what: impl fmt::Display) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.untold += 1;
        if counts.told.is_some_and(|told| told.elapsed() < PAUSE) {
            return;
        }
        tracing::warn!(
            "{what} ({} since the last time this was logged)",
            counts.untold
        );
        *counts = Counts {
            told: Some(Instant::now()),
            untold: 0,
        };
    }
}
