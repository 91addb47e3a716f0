//! From a configuration to a running server, and back to nothing: each thing is made in the order in which others rely on it, and what
//! was made is gone afterwards, whether the server stopped or never became ready.

use std::io;
use std::os::fd::OwnedFd;
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
use crate::kept_config::KeptConfig;
use crate::listeners::Listeners;
use crate::master::{Master, watch_interval};
use crate::pid_file::PidFile;
use crate::poller::{Poller, Token};
use crate::post::Post;
use crate::refusals::Refusals;
use crate::segment::Segment;
use crate::shares::Shares;
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
    let account = target.as_ref().map(|target| target.account);
    let pid_file = PidFile::lock(&config.server.pid_file, account).map_err(|e| e.to_string())?;
    config.server.pid_file = pid_file.path().to_owned();
    let log = Some(&config.server.log_file).filter(|path| !path.as_os_str().is_empty());
    let log = log
        .map(|path| logging::open(path, account, false))
        .transpose();
    let log = log.map_err(|e| e.to_string())?.map(Into::into);
    logging::init(&config.server, "master", log).map_err(|e| e.to_string())?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), config = ?source.file(), "starting");
    limits::raise_descriptors(&config)?;
    let listeners = Listeners::bind(&config.server)?;
    let control = ControlSocket::bind(&socket_path(pid_file.path()), account)?;
    // What was made until here is that user's already; the configuration may be root's.
    let mut kept_config = None;
    if let Some(target) = target {
        let kept = source.file().map(KeptConfig::open).transpose();
        kept_config = kept.map_err(|e| format!("the configuration cannot be held: {e}"))?;
        target.become_it()?;
    }
    let segment = segment::create(&segment::capacity(&config))?;
    if config.diagnostics.near_wrap {
        segment.table.begin_near_wrap();
    }
    let cannot = |e: io::Error| format!("the master cannot be set up: {e}");
    let parts = Parts {
        image: Rc::new(Image::own(&executable).map_err(cannot)?),
        doorbells: (0..segment.table.slots())
            .map(|_| role::doorbell())
            .collect::<io::Result<_>>()
            .map_err(cannot)?,
        poller: Poller::new().map_err(cannot)?,
        executable,
        source,
        kept_config,
        config,
        signals,
        listeners,
        control,
    };
    let mut master = assemble(parts, &pid_file, &segment);
    master.register().map_err(cannot)?;
    let result = master.run(when_ready);
    master.end();
    result
}

/// What a master is made of, besides what must not be left behind.
pub struct Parts {
    pub executable: PathBuf,
    pub source: Source,
    pub kept_config: Option<KeptConfig>,
    pub config: Config,
    pub signals: Signals,
    pub listeners: Listeners,
    pub control: ControlSocket,
    pub image: Rc<Image>,
    pub doorbells: Vec<OwnedFd>,
    pub poller: Poller,
}

/// A master with empty posts, which hears nothing before [`Master::register`]. Nothing in here can fail.
pub fn assemble<'t>(parts: Parts, pid_file: &'t PidFile, segment: &'t Segment) -> Master<'t> {
    let table = &segment.table;
    let now = Instant::now();
    let me = table.start_process(MASTER, Role::Master);
    table.set_pid(me, std::process::id().cast_signed());
    let config = parts.config;
    // The master holds no lock and so never waits for one: nothing needs to happen at its pause point.
    let hands = table.hands(
        me,
        HandsSettings {
            outbox_bytes: config.limits.outbox_bytes,
        },
        Box::new(|| {}),
    );
    // Before any worker has a session: from here on they tell the link of every login.
    table.set_linked(config.cluster.enabled);
    Master {
        vault: Vault::new(config.table.sessions),
        seats: Seats::new(table),
        watch_at: now + watch_interval(&config),
        posts: Post::all(&config, table.slots(), now),
        poller: parts.poller,
        segment,
        standstill: None,
        went_on: Instant::now(),
        reload: None,
        upgrade: None,
        reload_again: false,
        phase: Phase::Starting,
        refusals: Refusals::default(),
        shares: Shares::default(),
        shortage: Shortage::default(),
        logs_again_at: None,
        packet: packet::Buffer::default(),
        started: now,
        config,
        source: parts.source,
        kept_config: parts.kept_config,
        executable: parts.executable,
        image: parts.image,
        table,
        hands,
        doorbells: parts.doorbells,
        pid_file,
        signals: parts.signals,
        listeners: parts.listeners,
        control: parts.control,
    }
}

impl Master<'_> {
    /// Begins to wait for everything that it has; may be done again where it failed.
    ///
    /// # Errors
    /// What the system says, out of memory among it.
    pub fn register(&mut self) -> io::Result<()> {
        self.poller
            .add(&self.signals, Token::Signals, EpollFlags::EPOLLIN)?;
        self.listeners.register(&self.poller)?;
        self.control.register(&self.poller)?;
        for occupant in self.posts.iter_mut().filter_map(|p| p.occupant.as_mut()) {
            let token = Token::Role(occupant.pid());
            self.poller.add(&*occupant, token, EpollFlags::EPOLLIN)?;
            occupant.registered = true;
        }
        Ok(())
    }
}
