//! What waiting means, in a process and under `loom`.

/// Gives the core to somebody else.
pub(crate) fn yield_now() {
    #[cfg(loom)]
    loom::thread::yield_now();
    #[cfg(not(loom))]
    std::thread::yield_now();
}

/// Gives the core away for a while; under `loom` for a moment.
pub(crate) fn nap(time: std::time::Duration) {
    #[cfg(loom)]
    {
        let _ = time;
        loom::thread::yield_now();
    }
    #[cfg(not(loom))]
    std::thread::sleep(time);
}
