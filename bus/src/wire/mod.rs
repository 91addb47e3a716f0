//! The connections of mesh and forwarder.

use ring::rand::{SecureRandom, SystemRandom};
use std::time::Duration;

/// How long a connection may be silent before it counts as broken: a third of the lease, at most 10 seconds. Both ends send something four times as often.
#[must_use]
pub fn silence(lease: Duration) -> Duration {
    (lease / 3).min(Duration::from_secs(10))
}

/// Bytes that nobody can guess; `None` where the system has none.
pub(crate) fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).ok().map(|()| bytes)
}
