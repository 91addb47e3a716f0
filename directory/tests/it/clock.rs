//! The directory's clock, as it is measured against a clock of the host.

use std::sync::atomic::{AtomicI64, Ordering};

use directory::Settings;

use crate::redis::Redis;
use crate::{member_with, settings};

/// How long the host stood still without knowing.
static PAUSED_MS: AtomicI64 = AtomicI64::new(0);

fn clock_ms() -> u64 {
    crate::clock_ms().saturating_add_signed(10_000_000 - PAUSED_MS.load(Ordering::Relaxed))
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_measured_again_and_again_while_the_directory_is_there() {
    let redis = Redis::start();
    let member = member_with(Settings {
        clock: clock_ms,
        ..settings(&redis.address(), "n1", 1)
    });
    let mut readings = member.directory.readings();
    let mut next = async |wanted: &dyn Fn(i64) -> bool| {
        let wait = readings.wait_for(|reading| reading.is_some_and(|r| wanted(r.ahead_ms())));
        let waited = tokio::time::timeout(std::time::Duration::from_secs(10), wait).await;
        waited.expect("it is not measured").unwrap().unwrap()
    };
    let first = next(&|_| true).await;
    assert!(first.least_ahead_ms <= first.ahead_ms() && first.ahead_ms() <= first.most_ahead_ms);
    // Redis says when it is; this host's clock began at ten thousand seconds.
    assert!(first.ahead_ms() > 1_700_000_000_000 && first.at_ms < 10_060_000);
    let hour = 3_600_000;
    PAUSED_MS.store(hour, Ordering::Relaxed);
    let second = next(&|ahead| ahead > first.ahead_ms() + hour / 2).await;
    let off = second.ahead_ms() - hour - first.ahead_ms();
    let doubt =
        second.most_ahead_ms - second.least_ahead_ms + first.most_ahead_ms - first.least_ahead_ms;
    assert!(off.abs() <= doubt, "{off} ms, where {doubt} are in doubt");
    assert!(
        member.directory.state().borrow().is_up(),
        "nothing else has changed"
    );
}
