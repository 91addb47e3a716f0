//! The children of this process are its own to wait for.

use std::io;

use nix::sys::signal::{SigHandler, Signal, signal};

/// Has every child that ends stay known under its pid until this process has waited for it, and its end announced by `SIGCHLD`.
///
/// A process may be started with that signal ignored. The kernel then takes dead children away by itself, tells nobody, and gives their
/// pids to others: what is sent to such a pid reaches a stranger. To be called before the first child is started.
///
/// # Errors
/// What the system says.
pub fn keep_until_waited_for() -> io::Result<()> {
    // SAFETY: the default disposition runs no code of ours, and the handler that it replaces is one of the kernel's two or, in this
    // program, none: it installs no handler for this signal.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) }?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    // The only test of this crate that starts children, which share the disposition.
    #[test]
    fn a_child_is_there_until_it_was_waited_for_though_its_end_was_to_be_ignored() {
        // SAFETY: as above.
        unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) }.unwrap();
        let ended = || {
            let mut child = Command::new("true").spawn().unwrap();
            child.wait().map(|status| status.success())
        };
        assert!(ended().is_err(), "nobody can wait for it");
        keep_until_waited_for().unwrap();
        assert!(ended().unwrap());
    }
}
