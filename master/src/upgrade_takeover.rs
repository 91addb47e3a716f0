//! Taking over: what this process was before it executed this executable has left its state and its descriptors, and it goes on from there.
//!
//! Everything is verified before anything is taken. If something does not fit then, this process executes again what it was before, with
//! the reason: nothing has changed for anybody.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::sys::epoll::EpollFlags;
use nix::sys::prctl;
use role::{MasterEnd, Seat, logging};
use serde_json::Value;
use shm_table::{Claim, ProcessId, Slot, Table};
use sys::inherit;

use crate::control_socket::ControlSocket;
use crate::image::Image;
use crate::launch::assemble;
use crate::listeners::Listeners;
use crate::master::Master;
use crate::member::Member;
use crate::pid_file::PidFile;
use crate::poller::Token;
use crate::post::Post;
use crate::process::Process;
use crate::refusals::Refusals;
use crate::segment::Segment;
use crate::signals::Signals;
use crate::stop::Phase;
use crate::upgrade::execute;
use crate::upgrade_state::{self as state, State, monotonic_us};
use crate::upgrade_trial::{opened, verify};

/// Runs the server on from the state in the descriptor `memory`, until it has stopped.
///
/// # Errors
/// A sentence: it cannot go on.
pub fn run(memory: RawFd) -> Result<(), String> {
    // The signals that came meanwhile still wait: they are blocked through the execution.
    let signals = Signals::new().map_err(|e| format!("signals cannot be collected: {e}"))?;
    match prepare(memory) {
        Ok((state, table, descriptors)) => go_on(state, table, descriptors, signals),
        Err(why) => {
            let Err(worse) = go_back(memory, &why);
            Err(format!(
                "{why}; and the executable of before cannot be executed again: {worse}"
            ))
        }
    }
}

fn prepare(memory: RawFd) -> Result<(State, Table, Descriptors), String> {
    let text = fs::read(opened(memory)).map_err(|e| format!("nothing was handed over: {e}"))?;
    let (state, table) = verify(&text)?;
    let taken = inherit::take_all(&state.descriptors).map_err(|e| e.to_string())?;
    Ok((state, table, Descriptors::of(taken)))
}

/// Executes again what this process was before. Nothing has been taken yet, so that everything goes along.
fn go_back(memory: RawFd, why: &str) -> io::Result<Infallible> {
    let mut state: Value = serde_json::from_slice(&fs::read(opened(memory))?)?;
    if !state["refused"].is_null() {
        return Err(io::Error::other("this was the way back"));
    }
    let number = |value: &Value| value.as_i64().and_then(|n| RawFd::try_from(n).ok());
    let missing = || io::Error::other("it was not handed over");
    let previous = number(&state["previous"]).ok_or_else(missing)?;
    let path = PathBuf::from(state["executable"].as_str().ok_or_else(missing)?);
    state["refused"] = why.into();
    fs::write(opened(memory), state.to_string())?;
    execute(previous, &path, memory)
}

/// What has come along, in the order of the numbers; nothing where something was taken.
struct Descriptors(Vec<(RawFd, Option<OwnedFd>)>);

impl Descriptors {
    fn of(taken: Vec<OwnedFd>) -> Self {
        let mut by_number: Vec<_> = taken
            .into_iter()
            .map(|fd| (fd.as_raw_fd(), Some(fd)))
            .collect();
        by_number.sort_unstable_by_key(|(number, _)| *number);
        Self(by_number)
    }

    fn take(&mut self, number: RawFd) -> Result<OwnedFd, String> {
        // Verified: each number is there; that none stands in two places is the handing over's care.
        let lacks = || format!("descriptor {number} was handed over for two things");
        let place = self.0.binary_search_by_key(&number, |(number, _)| *number);
        let (_, descriptor) = place
            .ok()
            .and_then(|i| self.0.get_mut(i))
            .ok_or_else(lacks)?;
        descriptor.take().ok_or_else(lacks)
    }
}

fn go_on(
    mut state: State,
    table: Table,
    mut descriptors: Descriptors,
    signals: Signals,
) -> Result<(), String> {
    let log = state.log.map(|log| descriptors.take(log)).transpose()?;
    if let Err(error) = logging::init(&state.config.server, "master", log) {
        // Only a master that hands over no log leaves it to be opened. A server without a log is better than none.
        logging::print(io::stderr().as_fd(), &format!("master: {error}"));
    }
    take_name(&state.executable);
    let lock = descriptors.take(state.pid_file.fd)?;
    let pid_file = PidFile::inherited(lock, state.pid_file.path.clone(), state.made_folder)
        .map_err(|e| e.to_string())?;
    // After the pid file, so that its name is removed before.
    let lock = state.table.as_ref().map_or(-1, |table| table.lock);
    let claim = Claim::inherited(state.segment.clone(), descriptors.take(lock)?)
        .map_err(|e| format!("the lock of the segment {} was lost: {e}", state.segment))?;
    let segment = Segment { table, claim };
    let listeners = state
        .listeners
        .iter()
        .map(|l| Ok((l.speaks.into(), descriptors.take(l.fd)?)))
        .collect::<Result<Vec<_>, String>>()?;
    let listeners = Listeners::inherited(listeners)?;
    let control = descriptors.take(state.control.fd)?;
    let mut control = ControlSocket::inherited(control, state.control.path.clone());
    let mut asker = None;
    for client in std::mem::take(&mut state.clients) {
        let number = control.resume(descriptors.take(client.fd)?, client.conversation);
        if client.asked_for_this {
            asker = Some(number);
        }
    }
    let mut master = assemble(
        state.executable.clone(),
        state.source.clone(),
        state.config.clone(),
        signals,
        listeners,
        control,
        &pid_file,
        &segment,
    )?;
    fill(&mut master, &state, &mut descriptors)?;
    // What is left served the way back.
    drop(descriptors);
    begin(&mut master, &state, asker);
    let result = master.run(|_| {});
    master.end();
    result
}

/// Gives a new master what the one before had.
fn fill(master: &mut Master<'_>, state: &State, from: &mut Descriptors) -> Result<(), String> {
    let now = Instant::now();
    master.image = Rc::new(Image::inherited(
        from.take(state.image.fd)?,
        state.image.path.clone(),
    ));
    master.doorbells = state
        .doorbells
        .iter()
        .map(|&number| from.take(number))
        .collect::<Result<_, _>>()?;
    master.posts = state
        .posts
        .iter()
        .map(|post| post_of(post, &master.image, from, now))
        .collect::<Result<_, _>>()?;
    for post in &mut master.posts {
        for member in post.occupant.iter_mut() {
            let token = Token::Role(member.pid());
            match master.poller.add(&*member, token, EpollFlags::EPOLLIN) {
                Ok(()) => member.registered = true,
                Err(error) => member.condemn(&format!("its channel cannot be waited for: {error}")),
            }
        }
    }
    for &(row, generation, number, network, worker) in &state.vault {
        let seat = Seat { row, generation };
        let connection = from.take(number)?.into();
        master.vault.keep(seat, connection, network, worker);
    }
    master.refusals = Refusals::after(state.refusals);
    let uptime = Duration::from_millis(state.uptime_ms);
    master.started = now.checked_sub(uptime).unwrap_or(now);
    master.phase = Phase::Running;
    Ok(())
}

fn post_of(
    post: &state::Post,
    image: &Rc<Image>,
    from: &mut Descriptors,
    now: Instant,
) -> Result<Post, String> {
    let mut member = |slot: Slot, member: &state::Member| -> Result<Member, String> {
        let id = ProcessId {
            slot,
            incarnation: member.incarnation,
        };
        let channel = MasterEnd::new(from.take(member.channel)?);
        let process = Process::inherited(member.pid);
        let mut member_now = Member::new(id, channel, Rc::clone(image), process);
        member_now.ready = true;
        member_now.aged(Duration::from_millis(member.age_ms));
        Ok(member_now)
    };
    let mut filled = Post::new(post.role, post.slot, now);
    filled.occupant = match &post.occupant {
        Some(occupant) => Some(member(post.slot, occupant)?),
        None => None,
    };
    for leaver in &post.leavers {
        filled.leavers.push(member(post.slot, leaver)?);
    }
    // What the one before could not start, this one may be able to: it tries at once.
    filled.again_at = post.again_in_ms.map(|_| now);
    filled.vacant_since = filled.occupant.is_none().then(|| {
        let vacant = Duration::from_millis(post.vacant_ms.unwrap_or(0));
        now.checked_sub(vacant).unwrap_or(now)
    });
    filled.failures = post.failures;
    filled.delay = Duration::from_millis(post.delay_ms);
    filled.deaths = post.deaths;
    Ok(filled)
}

/// The first things that the new master does.
fn begin(master: &mut Master<'_>, state: &State, asker: Option<u32>) {
    // Who ended meanwhile may have been announced to the one before.
    master.reap();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        version_before = state.version,
        connections = state.vault.len(),
        took_us = monotonic_us().saturating_sub(state.began_us),
        "this process has executed another executable and goes on"
    );
    let outcome = match &state.refused {
        None => Ok(format!(
            "the master now runs {} (version {}); `master reload` replaces the other processes",
            state.executable.display(),
            env!("CARGO_PKG_VERSION"),
        )),
        Some(why) => Err(format!(
            "upgrade failed, the master of before goes on: {why}"
        )),
    };
    master.tell_upgrade(asker, outcome);
    if state.reload_again {
        master.reload(None);
    }
}

/// For `ps` and `top`, which would show the number of a descriptor.
fn take_name(executable: &Path) {
    let name = executable.file_name().unwrap_or_default();
    if let Ok(name) = CString::new(name.as_encoded_bytes()) {
        // A process that cannot have a name works as well.
        let _ = prctl::set_name(&name);
    }
}
