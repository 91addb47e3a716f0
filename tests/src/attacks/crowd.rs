//! An attacker's connections: they say what was prepared, as fast as the server reads it, and come again when they are closed.
//!
//! They run in threads of their own that get the processor time which nobody else wants (SCHED_IDLE): it is the server's time that is
//! attacked, not that of the neighbours' clients.

use std::io::{ErrorKind, Result};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Barrier};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::socket::{MsgFlags, send};
use nix::unistd::gettid;
use std::os::fd::AsRawFd;
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::wire::connect_from;

/// Where all attackers come from.
pub const ATTACKER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 66);

/// Threads of an attack.
const THREADS: usize = 2;

/// What is written in one go, at least.
const CHUNK: usize = 64 << 10;

/// So many come before those who have come go on.
const AT_ONCE: usize = 32;

/// Until one who was refused or closed comes again.
const AGAIN: Duration = Duration::from_millis(2);

/// One connection of a crowd, and which of its lives it is: both count from 0.
#[derive(Clone, Copy, Debug)]
pub struct Life {
    /// Which connection of the crowd.
    pub connection: usize,
    /// How often it was made before.
    pub number: u64,
}

/// Bytes that depend on who says them.
pub type Script = Arc<dyn Fn(Life) -> Vec<u8> + Send + Sync>;

/// Bytes that are different each time: whose, and the how-manieth they are.
pub type Maker = Arc<dyn Fn(Life, u64) -> Vec<u8> + Send + Sync>;

/// What a connection does when its opening is written.
#[derive(Clone)]
pub enum Then {
    /// It says this again and again, as fast as it is read.
    Repeat(Vec<u8>),
    /// It says something new again and again.
    Make(Maker),
    /// It says this each time so much time has passed.
    Trickle(Vec<u8>, Duration),
    /// It writes urgent bytes, as fast as they are read.
    Urgent,
    /// It does nothing more.
    Stay,
    /// It waits so long, closes and comes again; with a reset, or in order.
    Leave {
        /// By a reset.
        reset: bool,
        /// How long it stays.
        after: Duration,
    },
}

/// Connections of one kind.
#[derive(Clone)]
pub struct Crowd {
    /// How many there are at a time.
    pub connections: usize,
    /// Where they connect.
    pub address: SocketAddr,
    /// How long after the attack's beginning they come.
    pub delay: Duration,
    /// What each says first.
    pub opening: Script,
    /// What it does then.
    pub then: Then,
    /// Whether it reads what comes.
    pub reads: bool,
}

/// What an attack has done so far.
#[derive(Debug, Default)]
pub struct Tally {
    /// Connections made.
    pub connections: AtomicU64,
    /// Bytes that the kernel took.
    pub written: AtomicU64,
    /// Bytes that came back and were read.
    pub read: AtomicU64,
}

/// An attack under way. Dropping it ends it: all its connections are closed.
pub struct Attackers {
    tally: Arc<Tally>,
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Attackers {
    /// Begins.
    pub fn begin(crowds: &[Crowd]) -> Attackers {
        let tally = Arc::new(Tally::default());
        let over = Arc::new(AtomicBool::new(false));
        // The attack's time begins when all are ready.
        let ready = Arc::new(Barrier::new(THREADS + 1));
        let start = |thread: usize| {
            let (crowds, tally, over) = (crowds.to_vec(), tally.clone(), over.clone());
            let ready = ready.clone();
            std::thread::spawn(move || {
                yield_to_everybody();
                ready.wait();
                attack(thread, &crowds, &tally, &over);
            })
        };
        let threads = (0..THREADS).map(start).collect();
        ready.wait();
        Attackers {
            tally,
            over,
            threads,
        }
    }

    /// Ends it and says what it did.
    pub fn end(mut self) -> Arc<Tally> {
        self.leave();
        self.tally.clone()
    }

    fn leave(&mut self) {
        self.over.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Attackers {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Has this thread get what processor time nobody else wants; `ATTACK_PRIORITY` may be a nice value instead, for a machine on which others
/// always want some.
fn yield_to_everybody() {
    let thread = gettid().to_string();
    let priority = std::env::var("ATTACK_PRIORITY").unwrap_or_else(|_| "idle".into());
    let output = if priority == "idle" {
        let arguments = ["--idle", "--pid", "0", &thread];
        Command::new("chrt").args(arguments).output()
    } else {
        let arguments = ["-n", &priority, "-p", &thread];
        Command::new("renice").args(arguments).output()
    };
    let output = output.expect("chrt and renice are in util-linux and bsdutils");
    assert!(output.status.success(), "{output:?}");
}

fn attack(thread: usize, crowds: &[Crowd], tally: &Arc<Tally>, over: &Arc<AtomicBool>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        for crowd in crowds {
            let crowd = Arc::new(crowd.clone());
            for connection in (thread..crowd.connections).step_by(THREADS) {
                tokio::spawn(live(crowd.clone(), connection, tally.clone()));
                if connection / THREADS % AT_ONCE == AT_ONCE - 1 {
                    // The first attack while the last are still coming.
                    tokio::task::yield_now().await;
                }
            }
        }
        while !over.load(Relaxed) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    // What it still has to read is thrown away with the sockets.
    runtime.shutdown_background();
}

async fn live(crowd: Arc<Crowd>, connection: usize, tally: Arc<Tally>) {
    tokio::time::sleep(crowd.delay).await;
    for number in 0.. {
        let life = Life { connection, number };
        if let Ok(stream) = connect_from(ATTACKER, crowd.address, true).await {
            tally.connections.fetch_add(1, Relaxed);
            tokio::select! {
                // An error is the server's way to end it.
                _ = speak(&crowd, life, &stream, &tally) => {}
                () = listen(&crowd, &stream, &tally) => {}
            }
            if let Then::Leave { reset: true, .. } = crowd.then {
                let _ = stream.set_zero_linger();
            }
        }
        if !matches!(crowd.then, Then::Leave { .. }) {
            tokio::time::sleep(AGAIN).await;
        } else {
            tokio::task::yield_now().await;
        }
    }
}

async fn speak(crowd: &Crowd, life: Life, stream: &TcpStream, tally: &Tally) -> Result<()> {
    write(stream, &(crowd.opening)(life), tally).await?;
    match &crowd.then {
        Then::Repeat(unit) => {
            let chunk = unit.repeat(CHUNK.div_ceil(unit.len()));
            loop {
                write(stream, &chunk, tally).await?;
            }
        }
        Then::Make(maker) => {
            for number in 0.. {
                write(stream, &maker(life, number), tally).await?;
            }
        }
        Then::Trickle(bytes, pause) => loop {
            tokio::time::sleep(*pause).await;
            write(stream, bytes, tally).await?;
        },
        Then::Urgent => loop {
            stream.writable().await?;
            let urgent = || {
                let flags = MsgFlags::MSG_OOB | MsgFlags::MSG_NOSIGNAL;
                Ok(send(stream.as_raw_fd(), b"\n", flags)?)
            };
            match stream.try_io(Interest::WRITABLE, urgent) {
                Ok(count) => _ = tally.written.fetch_add(count as u64, Relaxed),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        },
        Then::Stay => std::future::pending::<()>().await,
        Then::Leave { after, .. } if after.is_zero() => {}
        Then::Leave { after, .. } => tokio::time::sleep(*after).await,
    }
    Ok(())
}

async fn write(stream: &TcpStream, mut bytes: &[u8], tally: &Tally) -> Result<()> {
    // The other connections of this thread have their turn, and what came is read.
    tokio::task::yield_now().await;
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(count) => {
                tally.written.fetch_add(count as u64, Relaxed);
                bytes = &bytes[count..];
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Until the server has closed; for ever where nothing is read.
async fn listen(crowd: &Crowd, stream: &TcpStream, tally: &Tally) {
    if !crowd.reads {
        std::future::pending::<()>().await;
    }
    let mut bytes = vec![0; 16 << 10];
    while stream.readable().await.is_ok() {
        match stream.try_read(&mut bytes) {
            Ok(0) => return,
            Ok(count) => _ = tally.read.fetch_add(count as u64, Relaxed),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}
