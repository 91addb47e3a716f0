//! From a configuration to a running server, and back to nothing: each thing is made in the order in which others rely on it, and what
//! was made is gone afterwards, whether the server stopped or never became ready.

use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Instant;

use config::Config;
use nix::sys::epoll::EpollFlags;
use role::logging;
use shm_table::{HandsSettings, MASTER, Role, Seats};
use sys::packet;

use crate::control::socket_path;
use crate::control_socket::ControlSocket;
use crate::image::Image;
use crate::listeners::Listeners;
use crate::master::{Master, watch_interval};
use crate::pid_file::PidFile;
use crate::poller::{Poller, Token};
use crate::post::Post;
use crate::refusals::Refusals;
use crate::segment::Segment;
use crate::shortage::Shortage;
use crate::signals::Signals;
use crate::source::Source;
use crate::stop::Phase;
use crate::vault::Vault;
use crate::{limits, segment, user};

/// Runs a server until it has stopped. `when_ready` is called once, when it is ready.
///
/// # Errors
/// A sentence or several lines: why it is not ready, or cannot go on. Nothing is left behind then either.
pub fn serve(
    executable: PathBuf,
    source: Source,
    when_ready: impl FnOnce(&Master<'_>),
) -> Result<(), String> {
    let mut config = source.load().map_err(|problems| problems.to_string())?;
    let target = user::Target::find(&config.server.user)?;
    // From here on a signal waits until the loop answers it: there is always something to clean up.
    let signals = Signals::new().map_err(|e| format!("signals cannot be collected: {e}"))?;
    // Whoever holds the lock may replace what lies around: it is a killed server's.
    let pid_file = PidFile::lock(&config.server.pid_file).map_err(|e| e.to_string())?;
    config.server.pid_file = pid_file.path().to_owned();
    logging::init(&config.server, "master", None).map_err(|e| e.to_string())?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), config = ?source.file(), "starting");
    limits::raise_descriptors(&config)?;
    let listeners = Listeners::bind(&config.server)?;
    let control = ControlSocket::bind(&socket_path(pid_file.path()))?;
    if let Some(target) = target {
        drop_to(&target, &config, &pid_file, &control)?;
    }
    let segment = segment::create(&segment::capacity(&config))?;
    if config.diagnostics.near_wrap {
        segment.table.begin_near_wrap();
    }
    let mut master = assemble(
        executable, source, config, signals, listeners, control, &pid_file, &segment,
    )?;
    let result = master.run(when_ready);
    master.end();
    result
}

/// Becomes the configured user, to whom the files belong from then on.
fn drop_to(
    target: &user::Target,
    config: &Config,
    pid_file: &PidFile,
    control: &ControlSocket,
) -> Result<(), String> {
    target.give(pid_file.path())?;
    target.give(control.path())?;
    if let Some(folder) = pid_file.made_folder() {
        target.give(folder)?;
    }
    if !config.server.log_file.as_os_str().is_empty() {
        target.give(&config.server.log_file)?;
    }
    target.become_it()
}

/// A master that has nothing yet but what must not be left behind.
///
/// # Errors
/// A sentence.
#[allow(clippy::too_many_arguments)] // each is a thing of its own, made in an order that matters
pub fn assemble<'t>(
    executable: PathBuf,
    source: Source,
    config: Config,
    signals: Signals,
    listeners: Listeners,
    control: ControlSocket,
    pid_file: &'t PidFile,
    segment: &'t Segment,
) -> Result<Master<'t>, String> {
    let cannot = |e: io::Error| format!("the master cannot be set up: {e}");
    let image = Image::own(&executable).map_err(cannot)?;
    let image = Rc::new(image);
    let table = &segment.table;
    let now = Instant::now();
    let me = table.start_process(MASTER, Role::Master);
    table.set_pid(me, std::process::id().cast_signed());
    // The master holds no lock and so never waits for one: nothing needs to happen at its pause point.
    let hands = table.hands(
        me,
        HandsSettings {
            outbox_bytes: config.limits.outbox_bytes,
        },
        Box::new(|| {}),
    );
    let doorbells = (0..table.slots())
        .map(|_| role::doorbell())
        .collect::<io::Result<Vec<_>>>()
        .map_err(cannot)?;
    let poller = Poller::new().map_err(cannot)?;
    poller
        .add(&signals, Token::Signals, EpollFlags::EPOLLIN)
        .map_err(cannot)?;
    listeners.register(&poller).map_err(cannot)?;
    control.register(&poller).map_err(cannot)?;
    // Before any worker has a session: from here on they tell the link of every login.
    table.set_linked(config.cluster.enabled);
    Ok(Master {
        vault: Vault::new(config.table.sessions),
        seats: Seats::new(table),
        watch_at: now + watch_interval(&config),
        posts: Post::all(&config, table.slots(), now),
        poller,
        segment,
        standstill: None,
        went_on: Instant::now(),
        reload: None,
        upgrade: None,
        reload_again: false,
        phase: Phase::Starting,
        refusals: Refusals::default(),
        shortage: Shortage::default(),
        logs_again_at: None,
        packet: packet::Buffer::default(),
        started: now,
        config,
        source,
        executable,
        image,
        table,
        hands,
        doorbells,
        pid_file,
        signals,
        listeners,
        control,
    })
}
