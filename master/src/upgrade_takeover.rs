//! Taking over: what this process was before it executed this executable has left its state and its descriptors, and it goes on from there.
//!
//! Everything is verified, and all that could not be had is had, before anything is taken. If something does not fit then, or is not to be
//! had at any later step, this process executes again what it was before, with the reason: nothing has changed for anybody. After the last
//! step there is nothing more that could fail.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs;
use std::io::{self, Seek, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::sys::prctl;
use nix::sys::socket::{SockaddrStorage, getsockname};
use role::{MasterEnd, Seat, logging};
use serde_json::Value;
use shm_table::{Claim, ProcessId, Table};
use sys::inherit;

use crate::control_socket::ControlSocket;
use crate::image::Image;
use crate::kept_config::KeptConfig;
use crate::launch::{Parts, assemble};
use crate::listeners::Listeners;
use crate::master::Master;
use crate::member::Member;
use crate::pid_file::PidFile;
use crate::poller::Poller;
use crate::post::Post;
use crate::process::Process;
use crate::refusals::Refusals;
use crate::segment::Segment;
use crate::signals::Signals;
use crate::stop::Phase;
use crate::upgrade::execute;
use crate::upgrade_state::{self as state, State, monotonic_us};
use crate::upgrade_trial::{opened, verify};

/// How long it tries where it can neither go on nor back, and the pause between two attempts: whoever is connected is served meanwhile.
const PERSEVERANCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(100);

/// Runs the server on from the state in the descriptor `memory`, until it has stopped.
///
/// # Errors
/// A sentence: it cannot go on.
pub fn run(memory: RawFd) -> Result<(), String> {
    let prepared = or_back(memory, &[], || prepare(memory))?;
    go_on(memory, prepared)
}

/// Everything that could not be had, and what was handed over.
struct Prepared {
    state: State,
    table: Table,
    signals: Signals,
    poller: Poller,
    addresses: Vec<SocketAddr>,
    descriptors: Descriptors,
}

fn prepare(memory: RawFd) -> Result<Prepared, String> {
    let text = fs::read(opened(memory)).map_err(|e| format!("nothing was handed over: {e}"))?;
    let (state, table) = verify(&text)?;
    // The signals that came meanwhile still wait: they are blocked through the execution.
    let signals = Signals::new().map_err(|e| format!("signals cannot be collected: {e}"))?;
    let poller = Poller::new().map_err(|e| format!("events cannot be waited for: {e}"))?;
    let addresses = state
        .listeners
        .iter()
        .map(|listener| address_of(listener.fd))
        .collect::<Result<_, _>>()?;
    // At last, and all or none: until here the way back takes along what has come, as it is.
    let taken = inherit::take_all(&state.descriptors).map_err(|e| e.to_string())?;
    Ok(Prepared {
        state,
        table,
        signals,
        poller,
        addresses,
        descriptors: Descriptors::of(taken),
    })
}

fn address_of(listener: RawFd) -> Result<SocketAddr, String> {
    let no_address = |why: &str| format!("the inherited listener {listener} has no address: {why}");
    let address: SockaddrStorage = getsockname(listener).map_err(|e| no_address(e.desc()))?;
    let v4 = address
        .as_sockaddr_in()
        .map(|&v4| SocketAddr::V4(v4.into()));
    let v6 = address
        .as_sockaddr_in6()
        .map(|&v6| SocketAddr::V6(v6.into()));
    v4.or(v6)
        .ok_or_else(|| no_address("it is not of the internet"))
}

/// Does what may fail for want of descriptors or memory, and changes nothing where it does. Then this process executes again what it was
/// before, with everything that came, and of that what was taken under `numbers`. Where that cannot be either, or this is the way back, both are
/// tried again for a while.
fn or_back<T>(
    memory: RawFd,
    numbers: &[RawFd],
    mut step: impl FnMut() -> Result<T, String>,
) -> Result<T, String> {
    let end = Instant::now() + PERSEVERANCE;
    loop {
        let why = match step() {
            Ok(done) => return Ok(done),
            Err(why) => why,
        };
        let Err(worse) = go_back(memory, numbers, &why);
        if Instant::now() > end {
            return Err(format!(
                "{why}; and the executable of before cannot be executed again: {worse}"
            ));
        }
        std::thread::sleep(PAUSE);
    }
}

/// Executes again what this process was before. Everything goes along, under the numbers that it came under.
fn go_back(memory: RawFd, numbers: &[RawFd], why: &str) -> io::Result<Infallible> {
    let text = fs::read(opened(memory))?;
    let mut state: Value = serde_json::from_slice(&text)?;
    if !state["refused"].is_null() {
        return Err(io::Error::other("this was the way back"));
    }
    let number = |value: &Value| value.as_i64().and_then(|n| RawFd::try_from(n).ok());
    let missing = || io::Error::other("it was not handed over");
    let previous = number(&state["previous"]).ok_or_else(missing)?;
    let path = PathBuf::from(state["executable"].as_str().ok_or_else(missing)?);
    state["refused"] = why.into();
    // Not emptied first: if there is no room for the reason, what was there is written once more where it was.
    let mut file = fs::File::options().write(true).open(opened(memory))?;
    let told = state.to_string();
    let written = file
        .write_all(told.as_bytes())
        .and_then(|()| file.set_len(told.len() as u64))
        .and_then(|()| inherit::pass_back(numbers));
    let executed = written.and_then(|()| execute(previous, &path, memory));
    file.rewind()?;
    file.write_all(&text)?;
    file.set_len(text.len() as u64)?;
    executed
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

fn go_on(memory: RawFd, prepared: Prepared) -> Result<(), String> {
    let Prepared {
        mut state,
        table,
        signals,
        poller,
        addresses,
        mut descriptors,
    } = prepared;
    let numbers = state.descriptors.clone();
    // Called where the reason is found: what is dropped on the way to anywhere else could not go back any more.
    let back = |why: String| -> String {
        let Err(why) = or_back(memory, &numbers, || Err::<Infallible, _>(why.clone()));
        why
    };
    let log = state.log.map(|log| descriptors.take(log));
    let log = log.transpose().map_err(&back)?;
    if let Err(error) = logging::init(&state.config.server, "master", log) {
        // Only a master that hands over no log leaves it to be opened. A server without a log is better than none.
        logging::print(io::stderr().as_fd(), &format!("master: {error}"));
    }
    take_name(&state.executable);
    let lock = descriptors.take(state.pid_file.fd).map_err(&back)?;
    let pid_file =
        PidFile::inherited(lock, state.pid_file.path.clone()).map_err(|e| back(e.to_string()))?;
    // After the pid file, so that its name is removed before.
    let lock = state.table.as_ref().map_or(-1, |table| table.lock);
    let lock = descriptors.take(lock).map_err(&back)?;
    let claim = Claim::inherited(state.segment.clone(), lock).map_err(|e| {
        back(format!(
            "the lock of the segment {} was lost: {e}",
            state.segment
        ))
    })?;
    let segment = Segment { table, claim };
    let mut listeners = Vec::new();
    for (listener, address) in state.listeners.iter().zip(addresses) {
        let socket = descriptors.take(listener.fd).map_err(&back)?;
        listeners.push((listener.speaks.into(), socket, address));
    }
    let control = descriptors.take(state.control.fd).map_err(&back)?;
    let mut control = ControlSocket::inherited(control, state.control.path.clone());
    let mut asker = None;
    for client in std::mem::take(&mut state.clients) {
        let stream = descriptors.take(client.fd).map_err(&back)?;
        let number = control.resume(stream, client.conversation);
        if client.asked_for_this {
            asker = Some(number);
        }
    }
    let image = descriptors.take(state.image.fd).map_err(&back)?;
    let mut doorbells = Vec::new();
    for &number in &state.doorbells {
        doorbells.push(descriptors.take(number).map_err(&back)?);
    }
    let kept_config = match &state.kept_config {
        Some(kept) => {
            let file = descriptors.take(kept.fd).map_err(&back)?;
            Some(KeptConfig::inherited(file, kept.path.clone()))
        }
        None => None,
    };
    let parts = Parts {
        executable: state.executable.clone(),
        source: state.source.clone(),
        kept_config,
        config: state.config.clone(),
        signals,
        listeners: Listeners::inherited(listeners),
        control,
        image: Rc::new(Image::inherited(image, state.image.path.clone())),
        doorbells,
        poller,
    };
    let mut master = assemble(parts, &pid_file, &segment);
    fill(&mut master, &state, &mut descriptors).map_err(&back)?;
    or_back(memory, &numbers, || {
        let result = master.register();
        result.map_err(|e| format!("events cannot be waited for: {e}"))
    })?;
    // The last step is done. What is left served the way back.
    drop(descriptors);
    begin(&mut master, &state, asker);
    let result = master.run(|_| {});
    master.end();
    result
}

/// Gives a new master what the one before had.
fn fill(master: &mut Master<'_>, state: &State, from: &mut Descriptors) -> Result<(), String> {
    let now = Instant::now();
    // One by one into the master: what a failure left elsewhere would be closed.
    master.posts.clear();
    for post in &state.posts {
        master.posts.push(Post::new(post.role, post.slot, now));
        if let Some(filled) = master.posts.last_mut() {
            fill_post(filled, post, &master.image, from, now)?;
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

fn fill_post(
    filled: &mut Post,
    post: &state::Post,
    image: &Rc<Image>,
    from: &mut Descriptors,
    now: Instant,
) -> Result<(), String> {
    let mut member = |member: &state::Member| -> Result<Member, String> {
        let id = ProcessId {
            slot: post.slot,
            incarnation: member.incarnation,
        };
        let channel = MasterEnd::new(from.take(member.channel)?);
        let process = Process::inherited(member.pid);
        let mut member_now = Member::new(id, channel, Rc::clone(image), process);
        member_now.ready = true;
        member_now.aged(Duration::from_millis(member.age_ms));
        Ok(member_now)
    };
    if let Some(occupant) = &post.occupant {
        filled.occupant = Some(member(occupant)?);
    }
    for leaver in &post.leavers {
        filled.leavers.push(member(leaver)?);
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
    Ok(())
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
