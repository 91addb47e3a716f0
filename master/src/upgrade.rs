//! Upgrade: the master executes the executable that lies on disk now, in its own place: same process, listeners, connections, children.
//!
//! - It waits until nothing is half done: no reload, no recovery, nobody being started, nothing queued for a process.
//! - The executable is tried first (`upgrade_trial`); a no, or anything but a yes, ends the upgrade and nothing has changed.
//! - What the table does not say is handed over in a file in memory, and the descriptors go through the execution (`upgrade_handover`). Where the
//!   execution itself fails the master goes on; where the new one finds that it cannot take over after all, it executes this one again
//!   (`upgrade_takeover`), which it can until it has all that it needs.
//! - The descriptors that the new one needs for itself are had before, and given up in the execution.

use std::convert::Infallible;
use std::ffi::{CString, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::unistd::execv;
use role::logging;
use sys::inherit;

use crate::control::Reply;
use crate::image::Image;
use crate::master::Master;
use crate::member::Member;
use crate::stop::Phase;
use crate::upgrade_handover::{self as handover, Handover};
use crate::upgrade_trial::{TRIAL_TIMEOUT, Trial};

/// How long it waits each time until nothing is half done. A reload of a few processes takes less.
const QUIET_TIMEOUT: Duration = Duration::from_secs(20);

/// The hidden argument before the number of the descriptor with the state.
const TAKEOVER: &str = "--takeover";

/// Descriptors that are kept free for the new master, besides those that the old one gives up itself: more than it needs.
const ROOM: usize = 4;

/// An upgrade in progress.
pub struct Upgrade {
    image: Image,
    /// Who waits for the outcome on the control socket.
    client: Option<u32>,
    stage: Stage,
}

enum Stage {
    /// Until nothing is half done, until then.
    BeforeTrial(Instant),
    Trial(Trial),
    /// The same once more.
    BeforeExecution(Instant),
}

impl Upgrade {
    /// When it goes on although nothing happens.
    pub fn until(&self) -> Option<Instant> {
        match &self.stage {
            Stage::BeforeTrial(until) | Stage::BeforeExecution(until) => Some(*until),
            Stage::Trial(trial) => trial.until(),
        }
    }
}

impl Master<'_> {
    /// Begins an upgrade. Its outcome goes to the log, and to `client` of the control socket; so does the reason when it cannot begin.
    pub fn upgrade(&mut self, client: Option<u32>) {
        match self.try_upgrade(client) {
            Ok(upgrade) => {
                tracing::info!(executable = %upgrade.image.path().display(), "upgrade: the executable is tried first");
                self.upgrade = Some(upgrade);
                self.tell_the_time(client, 2 * QUIET_TIMEOUT + TRIAL_TIMEOUT);
            }
            Err(why) => self.tell_upgrade(
                client,
                Err(format!(
                    "upgrade refused, everything stays as it was: {why}"
                )),
            ),
        }
    }

    fn try_upgrade(&self, client: Option<u32>) -> Result<Upgrade, String> {
        if self.upgrade.is_some() {
            return Err("an upgrade is under way".into());
        }
        match self.phase {
            Phase::Running => {}
            Phase::Starting => return Err("the server is starting".into()),
            _ => return Err("the server is stopping".into()),
        }
        let image = Image::open(&self.executable)
            .map_err(|e| format!("{} cannot be opened: {e}", self.executable.display()))?;
        Ok(Upgrade {
            image,
            client,
            stage: Stage::BeforeTrial(Instant::now() + QUIET_TIMEOUT),
        })
    }

    /// Goes on with an upgrade. To be called when the channels have been flushed.
    pub fn settle_upgrade(&mut self, now: Instant) {
        let Some(mut upgrade) = self.upgrade.take() else {
            return;
        };
        let Some(why) = self.go_on_upgrading(&mut upgrade, now) else {
            self.upgrade = Some(upgrade);
            return;
        };
        self.tell_upgrade(
            upgrade.client,
            Err(format!(
                "upgrade failed, the master of before goes on: {why}"
            )),
        );
        if std::mem::take(&mut self.reload_again) && matches!(self.phase, Phase::Running) {
            self.reload(None);
        }
    }

    /// Does what can be done now. What comes back is why the upgrade failed: one that succeeds does not come back.
    fn go_on_upgrading(&mut self, upgrade: &mut Upgrade, now: Instant) -> Option<String> {
        if self.phase.is_stopping() {
            return Some("the server is stopping".into());
        }
        let of_it = |why: String| format!("{}: {why}", upgrade.image.path().display());
        match &mut upgrade.stage {
            Stage::BeforeTrial(until) => match self.half_done() {
                Some(what) => return (now >= *until).then_some(what),
                None => match self.try_out(&upgrade.image, upgrade.client) {
                    Ok(trial) => upgrade.stage = Stage::Trial(trial),
                    Err(why) => return Some(why),
                },
            },
            Stage::Trial(trial) => match trial.outcome(now)? {
                Err(why) => return Some(of_it(why)),
                Ok(version) => {
                    tracing::info!(version, "upgrade: the executable can take over");
                    upgrade.stage = Stage::BeforeExecution(now + QUIET_TIMEOUT);
                    return self.go_on_upgrading(upgrade, now);
                }
            },
            Stage::BeforeExecution(until) => match self.half_done() {
                Some(what) => return (now >= *until).then_some(what),
                None => {
                    let Err(why) = self.become_it(&upgrade.image, upgrade.client);
                    return Some(why);
                }
            },
        }
        None
    }

    /// What has to be over before anything can be handed over.
    fn half_done(&self) -> Option<String> {
        if self.reload.is_some() {
            return Some("a reload is under way".into());
        }
        if self.standstill.is_some() {
            return Some("the table is being put in order or looked at".into());
        }
        self.posts.iter().find_map(|post| {
            let waits =
                |member: &Member| member.channel.waits_for_room() || member.channel.is_crowded();
            let what = match (&post.occupant, &post.candidate) {
                (_, Some(_)) => "is being replaced",
                (Some(occupant), _) if !occupant.stays() => "is being replaced",
                (Some(occupant), _) if waits(occupant) => "does not take what waits for it",
                _ => return None,
            };
            Some(format!("{} {what}", post.name()))
        })
    }

    fn try_out(&self, image: &Image, client: Option<u32>) -> Result<Trial, String> {
        let previous = Image::own(&self.executable).map_err(cannot_hand_over)?;
        let mut memory = handover::memory().map_err(cannot_hand_over)?;
        let log = logging::duplicate().map_err(cannot_hand_over)?;
        let state = Handover::of(self, client, &previous, &memory, log.as_ref()).state;
        handover::write(&state, &mut memory).map_err(cannot_hand_over)?;
        Trial::begin(image, &memory, self.segment).map_err(|e| image.cannot_be_executed(&e))
    }

    /// Hands over and executes.
    fn become_it(&self, image: &Image, client: Option<u32>) -> Result<Infallible, String> {
        let previous = Image::own(&self.executable).map_err(cannot_hand_over)?;
        let mut memory = handover::memory().map_err(cannot_hand_over)?;
        let written = memory.try_clone().map_err(cannot_hand_over)?;
        let log = logging::duplicate().map_err(cannot_hand_over)?;
        let Handover { state, descriptors } =
            Handover::of(self, client, &previous, &written, log.as_ref());
        handover::write(&state, &mut memory).map_err(cannot_hand_over)?;
        let _room: Vec<File> = (0..ROOM)
            .map(|_| File::open("/dev/null"))
            .collect::<io::Result<_>>()
            .map_err(|e| {
                format!(
                    "the new master needs {ROOM} descriptors for a moment, and there are fewer: {e}"
                )
            })?;
        let _passing = inherit::pass_on(descriptors).map_err(cannot_hand_over)?;
        execute(image.as_raw_fd(), image.path(), state.memory)
            .map_err(|e| image.cannot_be_executed(&e))
    }

    /// Tells everyone concerned how an upgrade went.
    pub fn tell_upgrade(&mut self, client: Option<u32>, outcome: Result<String, String>) {
        match &outcome {
            Ok(text) => tracing::info!("upgrade: {text}"),
            Err(text) => tracing::error!("{text}"),
        }
        if let Some(client) = client {
            self.answer_later(client, &Reply::of(outcome));
        }
    }
}

fn cannot_hand_over(error: io::Error) -> String {
    format!("what the master has cannot be handed over: {error}")
}

/// Executes an opened file under the name `path`, with the arguments of this process, and the state in the descriptor `memory`.
///
/// # Errors
/// What the system says; otherwise this does not come back.
pub fn execute(image: RawFd, path: &Path, memory: RawFd) -> io::Result<Infallible> {
    let mut arguments = vec![path.as_os_str().to_owned()];
    let mut own = std::env::args_os().skip(1);
    while let Some(argument) = own.next() {
        if argument == TAKEOVER {
            own.next();
        } else {
            arguments.push(argument);
        }
    }
    arguments.extend([TAKEOVER.into(), OsString::from(memory.to_string())]);
    let arguments = arguments
        .into_iter()
        .map(|argument| CString::new(argument.into_vec()))
        .collect::<Result<Vec<_>, _>>()?;
    let file = CString::new(
        Path::new(&format!("/proc/self/fd/{image}"))
            .as_os_str()
            .as_bytes(),
    )?;
    Ok(execv(&file, &arguments)?)
}
