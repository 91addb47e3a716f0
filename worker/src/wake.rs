//! What a worker sleeps on: its sockets, the master's channel, its doorbell, and a tick.
//!
//! These four are all the runtime knows of. The client sockets are in an epoll instance of their own
//! and cost the runtime nothing, however many there are.

use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use role::Channel;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::poller::Poller;

/// The longest sleep: the heartbeat in the table must move at least this often.
const TICK: Duration = Duration::from_millis(250);

/// How long a sender waits who fills outboxes faster than they are written: the runtime's shortest sleep.
const NAP: Duration = Duration::from_millis(1);

/// Everything that can wake the worker.
pub(crate) struct Wake {
    sockets: AsyncFd<Rc<Poller>>,
    channel: AsyncFd<Rc<Channel>>,
    doorbell: AsyncFd<OwnedFd>,
    tick: Interval,
}

/// What did wake it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Woken {
    pub sockets: bool,
    pub channel: bool,
    pub doorbell: bool,
    pub tick: bool,
}

impl Wake {
    /// Within the runtime.
    pub fn new(poller: Rc<Poller>, channel: Rc<Channel>, doorbell: OwnedFd) -> io::Result<Self> {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Wake {
            sockets: watch(poller)?,
            channel: watch(channel)?,
            doorbell: watch(doorbell)?,
            tick,
        })
    }

    /// Sleeps until there is something to do.
    pub async fn sleep(&mut self) -> io::Result<Woken> {
        poll_fn(|context| match self.look(context) {
            Ok(woken) if woken == Woken::default() => Poll::Pending,
            looked => Poll::Ready(looked),
        })
        .await
    }

    /// Sleeps until there is something to do, or others had time for a turn.
    pub async fn nap(&mut self) -> io::Result<Woken> {
        tokio::time::timeout(NAP, self.sleep())
            .await
            .unwrap_or_else(|_| Ok(Woken::default()))
    }

    /// What there is to do now, without sleeping.
    pub async fn glance(&mut self) -> io::Result<Woken> {
        // The runtime looks at its descriptors only when its task gives way.
        tokio::task::yield_now().await;
        poll_fn(|context| Poll::Ready(self.look(context))).await
    }

    fn look(&mut self, context: &mut Context<'_>) -> io::Result<Woken> {
        let woken = Woken {
            sockets: is_ready(&self.sockets, context)?,
            channel: is_ready(&self.channel, context)?,
            doorbell: is_ready(&self.doorbell, context)?,
            tick: self.tick.poll_tick(context).is_ready(),
        };
        if woken.doorbell {
            role::silence(self.doorbell.get_ref());
        }
        Ok(woken)
    }
}

/// Registers a source with the runtime.
///
/// The replacement that tokio offers is `unsafe`, which this crate forbids; its condition is that the
/// descriptor stays open and the same while it is registered, and every source here owns its
/// descriptor and never lets it go.
#[allow(
    deprecated,
    reason = "the condition of the unsafe replacement holds, see above"
)]
fn watch<T: AsRawFd + AsFd>(source: T) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(source, Interest::READABLE)
}

/// Looks at a source and takes its readiness. The caller drains the source afterwards; what comes in
/// between makes it ready once more, so nothing is missed.
fn is_ready<T: AsRawFd>(source: &AsyncFd<T>, context: &mut Context<'_>) -> io::Result<bool> {
    match source.poll_read_ready(context) {
        Poll::Ready(guard) => {
            guard?.clear_ready();
            Ok(true)
        }
        Poll::Pending => Ok(false),
    }
}
