//! The first steps of a role, in the order that leaves no gap: tied to the master before anything else, then told who it is.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::poll::{PollFlags, PollTimeout};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};

use crate::channel::{Channel, ChannelError, Received};
use crate::luggage::Luggage;
use crate::message::{Hello, ToMaster, ToRole};
use crate::{EXIT_CANNOT_WORK, EXIT_FAILED, logging};

/// How long a role waits for its first message. The master sends it before the role runs, so this is for a master that is stuck.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// What a role has after its start.
pub struct Start {
    /// Its channel to the master. Counted, because the event loop and the table's pause point both hold it.
    pub channel: Rc<Channel>,
    /// Its process slot.
    pub slot: u8,
    /// Which process in that slot it is.
    pub incarnation: u16,
    /// The segment to attach.
    pub segment: OwnedFd,
    /// Its identity.
    pub identity: [u64; 2],
    /// The validated settings.
    pub settings: config::Config,
    /// Every process slot's doorbell, in slot order; its own is `doorbells[slot]`.
    pub doorbells: Vec<OwnedFd>,
}

/// Why a role could not start.
#[derive(Debug, thiserror::Error)]
pub enum RoleError {
    /// Nothing came on the channel, or the channel is not one.
    #[error("a role is started by its master, on a channel: {0}")]
    Channel(#[from] ChannelError),
    /// The first message did not come in time or was another.
    #[error("the master's first message {0}")]
    NoHello(&'static str),
    /// The system refused a preparation.
    #[error("{0}")]
    Os(#[from] io::Error),
    /// The configuration says so.
    #[error("diagnostics.fail_slot is the number of its slot")]
    ToldToFail,
}

impl RoleError {
    /// The exit status that tells the master whether to start the role again at once.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Channel(ChannelError::Gone | ChannelError::DescriptorsLost)
            | Self::NoHello(_) => EXIT_FAILED,
            Self::Channel(_) | Self::Os(_) | Self::ToldToFail => EXIT_CANNOT_WORK,
        }
    }
}

/// Takes the channel from standard input, learns from the master who this process is, and starts its log under the name `kind`.
/// To be called first, on the main thread, before any other thread exists.
///
/// # Errors
/// See [`RoleError`]; the process should end with [`RoleError::exit_status`].
pub fn start(kind: &str) -> Result<Start, RoleError> {
    // The kernel ends this process with its master even where it cannot look at its channel. A master that died before this line is
    // noticed by the channel's end.
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(io::Error::from)?;
    // Before it has any memory to speak of. Where it cannot be done the log says so, once there is one.
    let volunteered = crate::volunteer();
    ignore_group_signals().map_err(io::Error::from)?;
    let channel = Rc::new(Channel::new(take_standard_input()?));
    let start = introduce(kind, &channel).inspect_err(|error| {
        // Where the channel itself is the reason, its end says it.
        let _ = channel.send(&ToMaster::Failed(error.to_string()));
    })?;
    if let Err(error) = volunteered {
        tracing::warn!(%error, "where memory is short, the kernel may end the master before this process");
    }
    Ok(start)
}

/// Learns from the master who this process is, and starts its log.
fn introduce(kind: &str, channel: &Rc<Channel>) -> Result<Start, RoleError> {
    let Received {
        message,
        descriptors,
    } = first_message(channel)?;
    let ToRole::Hello(hello) = message else {
        return Err(RoleError::NoHello("was not Hello"));
    };
    let Hello {
        slot,
        incarnation,
        segment: _,
        identity,
        doorbells,
        settings,
    } = *hello;
    let luggage = Luggage::from_list(descriptors, usize::from(doorbells))
        .filter(|luggage| luggage.doorbells.len() > usize::from(slot))
        .ok_or(RoleError::NoHello(
            "lacks descriptors: it is of another version; stop and start the server",
        ))?;
    let name = format!("{kind} {slot}");
    // For `ps` and `top`, which show 15 bytes. A process that cannot have a name works as well.
    if let Ok(name) = CString::new(format!("sf {name}")) {
        let _ = prctl::set_name(&name);
    }
    logging::init_inherited(&settings.server, &name);
    // The first one of a slot works: the server is to start.
    if settings.diagnostics.fail_slot == slot && slot != 0 && incarnation > 1 {
        return Err(RoleError::ToldToFail);
    }
    Ok(Start {
        channel: Rc::clone(channel),
        slot,
        incarnation,
        segment: luggage.segment,
        identity,
        settings,
        doorbells: luggage.doorbells,
    })
}

/// A terminal's Ctrl-C and an init system's stop reach every process of a group. The master answers them and asks its roles on their
/// channels; a role that obeyed as well would drop its connections.
fn ignore_group_signals() -> nix::Result<()> {
    let mut signals = SigSet::empty();
    for signal in [
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        // A line to a terminal with `stty tostop` would stop whoever is in its background.
        Signal::SIGTTOU,
    ] {
        signals.add(signal);
    }
    signals.thread_block()
}

/// Moves the channel away from descriptor 0, where a stray read would find it.
fn take_standard_input() -> io::Result<OwnedFd> {
    let channel = io::stdin().as_fd().try_clone_to_owned()?;
    nix::unistd::dup2_stdin(File::open("/dev/null")?)?;
    Ok(channel)
}

fn first_message(channel: &Channel) -> Result<Received<ToRole>, RoleError> {
    let until = Instant::now() + HELLO_TIMEOUT;
    loop {
        if let Some(received) = channel.receive()? {
            return Ok(received);
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(RoleError::NoHello("did not come in time"));
        }
        channel.poll(
            PollFlags::POLLIN,
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX),
        )?;
    }
}
