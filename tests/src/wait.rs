//! Waiting for what must happen, and no longer than a broken server deserves.

use std::time::{Duration, Instant};

/// The longest that any single wait of a test lasts. It is generous because the machine may be busy; nothing is measured with it.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Looks until `look` finds something, and fails the test after [`PATIENCE`].
///
/// For facts that no socket announces, such as the descriptors a process holds.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited {PATIENCE:?} in vain: {what}");
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// The middle value of several measurements: what a noisy machine does to one of them does not decide.
pub fn median(mut values: Vec<Duration>) -> Duration {
    values.sort_unstable();
    values[values.len() / 2]
}
