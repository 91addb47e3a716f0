//! What waiting means, in a process and under `loom`.

/// Gives the core to somebody else.
pub(crate) fn yield_now() {
    #[cfg(loom)]
    loom::thread::yield_now();
    #[cfg(not(loom))]
    std::thread::yield_now();
}

/// Gives the core away for a while.
#[cfg(not(loom))]
pub(crate) fn nap(time: std::time::Duration) {
    std::thread::sleep(time);
}
