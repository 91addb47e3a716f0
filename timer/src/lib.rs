//! The timer: finds the sessions that are past a deadline and orders their end through the table.
//!
//! - A deadline that has passed is noticed within [`LOOKS_APART_MS`], whatever the workers are doing; one that was set later than
//!   [`SLEEP_MS_MAX`] before, within that.
//! - Where memory is short it finds out who holds the most of it (`memory.rs`); a worker that sees it first rings.
//! - It never touches a socket, and it keeps nothing: the deadlines are a dense array in the table, and what to do about a session
//!   that is late is its worker's knowledge. So it may be killed at any time, and the next one goes on from the same array.
#![forbid(unsafe_code)]

mod memory;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use role::{Channel, ChannelError, Start, ToMaster, ToRole, logging};
use shm_table::{Counter, Hands, HandsSettings, Identity, ProcessId, Table};
use tracing::{info, warn};

use crate::memory::Memory;

/// Milliseconds between two looks at the deadlines, at least: those that pass meanwhile are noticed together.
pub const LOOKS_APART_MS: u8 = 50;

/// The longest sleep, in milliseconds, however far ahead the next deadline lies: an earlier one may be set meanwhile, and the heartbeat must
/// move.
pub const SLEEP_MS_MAX: u8 = 200;

/// Why the timer cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The segment is not the master's or not of this version.
    #[error(transparent)]
    Attach(#[from] shm_table::AttachError),
    /// The master is gone or cannot be understood.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// The system refused to wait.
    #[error("the timer cannot wait: {0}")]
    Wait(io::Error),
}

impl Error {
    /// Whether another timer would fail in the same way at once.
    pub fn cannot_work(&self) -> bool {
        matches!(self, Self::Attach(_))
    }
}

/// Waits for its turn at the post, and works until the master asks it to end or to leave.
///
/// # Errors
/// See [`Error`]; the process should end then.
pub fn run(start: Start) -> Result<(), Error> {
    let Start {
        channel,
        slot,
        incarnation,
        segment,
        identity,
        settings,
        doorbells,
    } = start;
    let table = Table::attach(segment, Identity(identity))?;
    let me = ProcessId { slot, incarnation };
    let limits = HandsSettings {
        outbox_bytes: settings.limits.outbox_bytes,
    };
    let pause = Rc::clone(&channel);
    let mut hands = table.hands(me, limits, Box::new(move || pause.pause_point()));
    let doorbell = doorbells
        .get(usize::from(slot))
        .ok_or_else(|| Error::Wait(io::Error::other("the master sent no doorbell")))?;
    let mut memory = Memory::default();
    channel.send(&ToMaster::Ready)?;
    channel.await_begin()?;
    hands.ready();
    info!("at work");
    loop {
        if asked_to_end(&channel)? {
            return Ok(());
        }
        hands.heartbeat();
        logging::account(|lost| hands.count(Counter::LinesLost, lost));
        let next_ms = expire(&mut hands);
        let look_ms = memory.look(&mut hands);
        ring(&mut hands, &doorbells);
        let most_ms = look_ms.unwrap_or_else(|| sleep_ms(next_ms));
        // Short in the meantime: no sleep.
        let most_ms = match look_ms.is_some() || hands.about_to_sleep() {
            true => most_ms,
            false => 0,
        };
        wait(&channel, doorbell, most_ms)?;
        hands.awake();
    }
}

fn asked_to_end(channel: &Channel) -> Result<bool, Error> {
    while let Some(received) = channel.receive()? {
        match received.message {
            ToRole::Drain => return Ok(true),
            // It holds nothing that it could give back.
            ToRole::Leave => {
                channel.send(&ToMaster::Left)?;
                return Ok(true);
            }
            ToRole::ReopenLog => received.descriptors.iter().for_each(logging::take_over),
            ToRole::Settings(settings) => logging::set_level(settings.server.log_level),
            // Served inside `receive`.
            ToRole::Pause | ToRole::Resume => {}
            ToRole::Hello(_) | ToRole::Begin | ToRole::Seats(_) => {
                warn!("the master sent what a timer has no use for")
            }
        }
    }
    Ok(false)
}

/// Looks at the deadlines; milliseconds until the next one passes.
fn expire(hands: &mut Hands<'_>) -> Option<u64> {
    hands.expire_deadlines(hands.now_ms()).next_ms
}

/// Wakes whoever sleeps and was given an order.
fn ring(hands: &mut Hands<'_>, doorbells: &[OwnedFd]) {
    let bells = hands.doorbells_to_ring();
    for (slot, bell) in doorbells.iter().enumerate() {
        if bells & (1 << slot) != 0 {
            role::ring(bell);
        }
    }
}

/// Until the next look is due, the master says something, or a worker finds that memory is short.
fn wait(channel: &Channel, doorbell: &OwnedFd, most_ms: u8) -> Result<(), Error> {
    let mut both = [
        PollFd::new(channel.as_fd(), PollFlags::POLLIN),
        PollFd::new(doorbell.as_fd(), PollFlags::POLLIN),
    ];
    match poll(&mut both, PollTimeout::from(most_ms)) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(e) => return Err(Error::Wait(e.into())),
    }
    if both[1].any() == Some(true) {
        role::silence(doorbell);
    }
    Ok(())
}

/// How long to sleep where the next deadline passes in so many milliseconds; `None`: there is none.
fn sleep_ms(next_ms: Option<u64>) -> u8 {
    let next_ms = next_ms.and_then(|ms| u8::try_from(ms).ok());
    next_ms.map_or(SLEEP_MS_MAX, |ms| ms.clamp(LOOKS_APART_MS, SLEEP_MS_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_sleeps_until_the_next_deadline_and_never_for_too_short_or_too_long() {
        for (next_ms, sleep) in [
            (Some(0), LOOKS_APART_MS),
            (Some(49), LOOKS_APART_MS),
            (Some(112), 112),
            (Some(208), SLEEP_MS_MAX),
            (Some(60_000), SLEEP_MS_MAX),
            (None, SLEEP_MS_MAX),
        ] {
            assert_eq!(sleep_ms(next_ms), sleep, "{next_ms:?}");
        }
    }
}
