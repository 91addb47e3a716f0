//! The master: one thread, one loop. Events become facts; once a turn, everything that follows from the facts and from the time is done.
//!
//! It never blocks, never reads a byte that a client sent, and sleeps when there is nothing to do. Each subject has its own file, in
//! which the master's methods for it stand.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use config::Config;
use shm_table::{Hands, Seats, Table};
use sys::packet;

use crate::control_socket::ControlSocket;
use crate::image::Image;
use crate::kept_config::KeptConfig;
use crate::listeners::Listeners;
use crate::pid_file::PidFile;
use crate::poller::{Poller, Token};
use crate::post::Post;
use crate::refusals::Refusals;
use crate::reload::Reload;
use crate::segment::Segment;
use crate::shares::Shares;
use crate::shortage::Shortage;
use crate::signals::{Signals, Wish};
use crate::source::Source;
use crate::standstill::Standstill;
use crate::stop::Phase;
use crate::upgrade::Upgrade;
use crate::vault::Vault;

/// When to try again where too many descriptors were on their way, which nothing announces.
const CROWDED_PAUSE: Duration = Duration::from_millis(5);

/// Everything the master knows. What concerns a session stands in the table; the rest can be made anew from the configuration.
pub struct Master<'t> {
    pub config: Config,
    pub source: Source,
    /// Where the server is not root any more.
    pub kept_config: Option<KeptConfig>,
    /// Where the executable lies, for a reload.
    pub executable: PathBuf,
    /// The executable that last proved good, from which processes are replaced that die.
    pub image: Rc<Image>,
    pub table: &'t Table,
    /// What is handed down to everybody.
    pub segment: &'t Segment,
    pub pid_file: &'t PidFile,
    /// The master's own control block.
    pub hands: Hands<'t>,
    pub seats: Seats<'t>,
    pub vault: Vault,
    pub doorbells: Vec<OwnedFd>,
    pub posts: Vec<Post>,
    pub standstill: Option<Standstill>,
    /// When the last standstill ended, or this process began.
    pub went_on: Instant,
    pub reload: Option<Reload>,
    pub upgrade: Option<Upgrade>,
    /// A reload was asked for by signal while another one or an upgrade was under way.
    pub reload_again: bool,
    pub phase: Phase,
    pub watch_at: Instant,
    pub started: Instant,
    pub poller: Poller,
    pub signals: Signals,
    pub listeners: Listeners,
    pub refusals: Refusals,
    pub shares: Shares,
    pub control: ControlSocket,
    pub shortage: Shortage,
    /// When the log is handed round again, where there was no descriptor for it.
    pub logs_again_at: Option<Instant>,
    pub packet: packet::Buffer,
}

impl Master<'_> {
    /// Works until the server has stopped. `when_ready` is called once, when every role is at work.
    ///
    /// # Errors
    /// A sentence: why the server did not become ready, or cannot go on.
    pub fn run(&mut self, when_ready: impl FnOnce(&Self)) -> Result<(), String> {
        let cannot_wait = |e: io::Error| format!("the master cannot wait for events: {e}");
        self.hands.ready();
        let mut when_ready = Some(when_ready);
        loop {
            let now = Instant::now();
            self.settle(now);
            match &self.phase {
                Phase::Over(result) => return result.clone(),
                Phase::Running => {
                    if let Some(tell) = when_ready.take() {
                        tell(self);
                    }
                }
                _ => {}
            }
            let timeout = self.next_wake().map(|at| at.saturating_duration_since(now));
            for ready in self.poller.wait(timeout).map_err(cannot_wait)? {
                self.handle(ready);
            }
        }
    }

    fn handle(&mut self, ready: Token) {
        match ready {
            Token::Signals => self.hear_signals(),
            Token::Listener(number) => self.welcome(number),
            Token::Control => self.welcome_to_control(),
            Token::ControlClient(number) => self.serve_control_client(number),
            Token::Role(pid) => self.hear_role(pid),
            Token::Refusal(number) => self.refusals.closed(&self.poller, number),
        }
    }

    fn hear_signals(&mut self) {
        loop {
            match self.signals.next() {
                Ok(None) => return,
                Ok(Some(Wish::Stop)) => self.stop("signal"),
                Ok(Some(Wish::Reload)) => self.reload_by_signal(),
                Ok(Some(Wish::ReopenLogs)) => self.reopen_logs(),
                Ok(Some(Wish::Reap)) => self.reap(),
                Ok(Some(Wish::Upgrade)) => self.upgrade(None),
                Err(error) => {
                    tracing::error!(%error, "signals cannot be read");
                    return;
                }
            }
        }
    }

    /// Does what follows from the facts and the time. Doing it twice changes nothing.
    fn settle(&mut self, now: Instant) {
        self.watch(now);
        self.settle_standstill(now);
        self.settle_shortage(now);
        self.fill_posts(now);
        self.settle_stranded(now);
        self.settle_reload(now);
        self.settle_phase(now);
        self.refusals.time(&self.poller, now);
        self.control.time(&self.poller, now);
        self.settle_listeners(now);
        self.flush_channels();
        self.settle_upgrade(now);
    }

    /// When something is to be done although nothing happens.
    fn next_wake(&self) -> Option<Instant> {
        [
            self.next_recruit(),
            self.next_rescue(),
            self.is_crowded().then(|| Instant::now() + CROWDED_PAUSE),
            Some(self.watch_at),
            self.standstill.as_ref().map(Standstill::until),
            self.reload.as_ref().and_then(Reload::until),
            self.upgrade.as_ref().and_then(Upgrade::until),
            self.phase.until(),
            self.refusals.next_end(),
            self.listeners.again_at(),
            self.control.next_end(),
            self.shortage.next_look(),
            self.logs_again_at,
        ]
        .into_iter()
        .flatten()
        .min()
    }
}

/// How often the master looks after its processes: often enough to notice soon who keeps others waiting for a lock.
pub fn watch_interval(config: &Config) -> Duration {
    held_up_after(config).min(Duration::from_millis(250))
}

/// When the master itself comes to that so much later than it should, its processes may have had no time either.
pub fn held_up_after(config: &Config) -> Duration {
    Duration::from_millis(u64::from(config.server.watchdog_ms / 4)).min(Duration::from_secs(1))
}
