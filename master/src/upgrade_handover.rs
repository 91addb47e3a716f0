//! Handing over: what this master has, as a [`State`], and the descriptors that it names.

use std::fs;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Instant;

use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::image::Image;
use crate::master::Master;
use crate::member::Member;
use crate::post::Post;
use crate::upgrade_state::{self as state, FORMAT, State, monotonic_us, ms};

/// What is handed over.
pub struct Handover<'m> {
    pub state: State,
    /// The descriptors that the state names, in the order of its list.
    pub descriptors: Vec<BorrowedFd<'m>>,
}

impl<'m> Handover<'m> {
    /// Of a master, now. `asker`: the client that waits for the outcome; `previous`: the master's own executable; `memory`: where the
    /// state will be written; `log`: the log file, where the log is one.
    pub fn of(
        master: &'m Master<'_>,
        asker: Option<u32>,
        previous: &'m Image,
        memory: &'m fs::File,
        log: Option<&'m OwnedFd>,
    ) -> Self {
        let now = Instant::now();
        let began_us = monotonic_us();
        let mut along = Along(Vec::new());
        let state = State {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").into(),
            config: master.config.clone(),
            source: master.source.clone(),
            executable: master.executable.clone(),
            segment: master.segment.claim.name().to_owned(),
            table: master.segment.table.file().map(|file| state::Table {
                fd: along.with(file),
                lock: along.with(master.segment.claim.as_fd()),
                identity: master.table.identity().0,
            }),
            memory: along.with(memory.as_fd()),
            previous: along.with(previous.as_fd()),
            image: state::File {
                fd: along.with(master.image.as_fd()),
                path: master.image.path().to_owned(),
            },
            listeners: master
                .listeners
                .sockets()
                .map(|(transport, socket)| state::Listener {
                    fd: along.with(socket),
                    speaks: transport.into(),
                })
                .collect(),
            pid_file: state::File {
                fd: along.with(master.pid_file.as_fd()),
                path: master.pid_file.path().to_owned(),
            },
            // Whoever it was made for has it already.
            made_folder: false,
            control: state::File {
                fd: along.with(master.control.as_fd()),
                path: master.control.path().to_owned(),
            },
            log: log.map(|log| along.with(log.as_fd())),
            kept_config: master.kept_config.as_ref().map(|kept| state::File {
                fd: along.with(kept.as_fd()),
                path: kept.name().to_owned(),
            }),
            clients: master
                .control
                .conversations()
                .map(|(number, stream, conversation)| state::Client {
                    fd: along.with(stream),
                    conversation,
                    asked_for_this: asker == Some(number),
                })
                .collect(),
            doorbells: master
                .doorbells
                .iter()
                .map(|bell| along.with(bell.as_fd()))
                .collect(),
            posts: master
                .posts
                .iter()
                .map(|post| post_of(post, &mut along, now))
                .collect(),
            vault: master
                .vault
                .entries()
                .map(|(seat, connection, network, worker)| {
                    let fd = along.with(connection);
                    (seat.row, seat.generation, fd, network, worker)
                })
                .collect(),
            refusals: master.refusals.total(),
            uptime_ms: ms(now.saturating_duration_since(master.started)),
            reload_again: master.reload_again,
            began_us,
            refused: None,
            descriptors: Vec::new(),
        };
        let descriptors = along.0;
        Self {
            state: State {
                descriptors: descriptors.iter().map(AsRawFd::as_raw_fd).collect(),
                ..state
            },
            descriptors,
        }
    }
}

/// The descriptors that go along.
struct Along<'m>(Vec<BorrowedFd<'m>>);

impl<'m> Along<'m> {
    fn with(&mut self, descriptor: BorrowedFd<'m>) -> RawFd {
        self.0.push(descriptor);
        descriptor.as_raw_fd()
    }
}

fn post_of<'m>(post: &'m Post, along: &mut Along<'m>, now: Instant) -> state::Post {
    let mut member = |member: &'m Member| state::Member {
        pid: member.pid(),
        incarnation: member.id.incarnation,
        channel: along.with(member.as_fd()),
        age_ms: ms(member.age(now)),
    };
    state::Post {
        role: post.role,
        slot: post.slot,
        occupant: post.occupant.as_ref().map(&mut member),
        leavers: post.leavers.iter().map(&mut member).collect(),
        again_in_ms: post
            .again_at
            .map(|at| ms(at.saturating_duration_since(now))),
        delay_ms: ms(post.delay),
        deaths: post.deaths,
        vacant_ms: post
            .vacant_since
            .map(|since| ms(now.saturating_duration_since(since))),
        failures: post.failures,
    }
}

/// A file in memory for a state.
///
/// # Errors
/// What the system says.
pub fn memory() -> io::Result<fs::File> {
    Ok(memfd_create("steadfast-upgrade", MFdFlags::MFD_CLOEXEC)?.into())
}

/// Writes a state into such a file, to be read from its beginning.
///
/// # Errors
/// What the system says, or the name of a file is no text.
pub fn write(state: &State, memory: &mut fs::File) -> io::Result<()> {
    memory.set_len(0)?;
    memory.rewind()?;
    memory.write_all(&serde_json::to_vec(state)?)?;
    memory.seek(SeekFrom::Start(0))?;
    Ok(())
}
