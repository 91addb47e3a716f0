//! Doorbells: an eventfd per process slot, by which one process wakes another that sleeps in its event loop.
//!
//! Every process holds all of them. Ringing twice is ringing once; a bell rung before its owner sleeps wakes it at once.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::unistd;

/// Makes a doorbell: non-blocking, closed on exec.
///
/// # Errors
/// What the system says, `EMFILE` among it.
pub fn doorbell() -> io::Result<OwnedFd> {
    Ok(EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?.into())
}

/// Rings. It cannot fail in a way that matters: a bell that takes no more rings is ringing.
pub fn ring(bell: &OwnedFd) {
    retry(|| unistd::write(bell, &1u64.to_ne_bytes()));
}

/// Silences the bell, so that it wakes its owner only when it is rung again. For the owner, before it looks for work.
pub fn silence(bell: &OwnedFd) {
    retry(|| unistd::read(bell.as_fd(), &mut [0; 8]));
}

fn retry(mut call: impl FnMut() -> nix::Result<usize>) {
    while call() == Err(Errno::EINTR) {}
}
