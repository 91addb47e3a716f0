//! How long to wait before the next attempt to connect.

use std::time::Duration;

const FIRST_MS: u64 = 20;
const MOST_MS: u64 = 400;

/// Pauses that double from 20 to 400 ms, each a little off, so that hosts that lost the same server do not all come back at once.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// It worked: the next failure begins anew.
    pub(crate) fn reset(&mut self) {
        self.attempts = 0;
    }

    pub(crate) async fn pause(&mut self) {
        let ms = (FIRST_MS << self.attempts.min(5)).min(MOST_MS);
        self.attempts = self.attempts.saturating_add(1);
        tokio::time::sleep(Duration::from_millis(
            ms + u64::from(crate::wire::random::<1>().map_or(0, |[byte]| byte)) * ms / 1024,
        ))
        .await;
    }
}
