//! The descriptors that wake the link: its doorbell, and the channel to the master.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::rc::Rc;

use role::Channel;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Both of them.
pub struct Wake {
    channel: AsyncFd<Rc<Channel>>,
    doorbell: AsyncFd<OwnedFd>,
}

impl Wake {
    /// Within the runtime.
    pub fn new(channel: Rc<Channel>, doorbell: OwnedFd) -> io::Result<Self> {
        Ok(Wake {
            channel: watch(channel)?,
            doorbell: watch(doorbell)?,
        })
    }

    /// Until the master says something.
    pub async fn channel(&self) -> io::Result<()> {
        self.channel.readable().await?.clear_ready();
        Ok(())
    }

    /// Until a worker rings.
    pub async fn doorbell(&self) -> io::Result<()> {
        self.doorbell.readable().await?.clear_ready();
        role::silence(self.doorbell.get_ref());
        Ok(())
    }
}

/// Registers a source with the runtime; the deprecated way, as the other one is `unsafe`. Its condition holds: every source here
/// owns its descriptor and never lets it go.
#[allow(
    deprecated,
    reason = "the condition of the unsafe replacement holds, see above"
)]
fn watch<T: AsRawFd + AsFd>(source: T) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(source, Interest::READABLE)
}
