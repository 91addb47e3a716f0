//! The log of every process of the server: to standard error or to one file that all of them append to.
//!
//! - The master opens it, and hands it down: to a role it is standard error, so that one which may not open the file any more, or could not find
//!   it, still starts and still logs.
//! - A line is written in one piece, so lines of several processes never mix.
//! - A panic becomes a line of the log before the process ends.
//! - [`reopen`], [`take_over`] and [`set_level`] take effect for everything logged after they return.
//! - Logging never fails a caller and never keeps it waiting: a line that there is no room for is lost, counted and told of ([`account`]),
//!   and the process goes on.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;

use config::{LogFormat, LogLevel};
use nix::fcntl::OFlag;
use sys::files::{Account, Folder, Kind};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::Registry;
use tracing_subscriber::reload;

use crate::lines::{self, Lines, Pen};

/// Of a log file that is made.
const MODE: u32 = 0o640;

/// Where lines go.
static LOG: OnceLock<Log> = OnceLock::new();
static LEVEL: OnceLock<reload::Handle<LevelFilter, Registry>> = OnceLock::new();

struct Log {
    lines: Lines,
    /// Where the file is; `None`: standard error.
    path: Option<PathBuf>,
}

/// A log file that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("the log file {} cannot be opened: {error}", path.display())]
pub struct OpenError {
    /// Which.
    pub path: PathBuf,
    /// What the system says.
    pub error: io::Error,
}

/// Starts the master's log as `settings.server` says, in `open` where that is what the log is already (handed over by another master).
/// `process` stands in every line that the main thread logs. To be called once, on the main thread. A second call changes nothing.
///
/// From here on nothing that this process writes to standard error waits for a reader, whoever writes it.
///
/// # Errors
/// The log file cannot be opened.
pub fn init(
    settings: &config::Server,
    process: &str,
    open_already: Option<OwnedFd>,
) -> Result<(), OpenError> {
    let path = Some(settings.log_file.clone()).filter(|path| !path.as_os_str().is_empty());
    let file = match (&path, open_already) {
        (None, _) => None,
        (Some(_), Some(file)) => Some(File::from(file)),
        (Some(path), None) => Some(open(path, None, false)?),
    };
    // Where it cannot be had alone it stays shared, and is written with more care.
    if let Ok(Some(own)) = sys::outlet::unshared(io::stderr().as_fd()) {
        let _ = nix::unistd::dup2_stderr(own);
    }
    begin(settings, process, file, path);
    Ok(())
}

/// Starts a role's log: its standard error, whatever that is. To be called once, on the main thread.
pub fn init_inherited(settings: &config::Server, process: &str) {
    begin(settings, process, None, None);
}

fn begin(settings: &config::Server, process: &str, file: Option<File>, path: Option<PathBuf>) {
    let lines = Lines::new(file, settings.log_format, process);
    if LOG.set(Log { lines, path }).is_err() {
        return;
    }
    let (filter, handle) = reload::Layer::new(level_filter(settings.log_level));
    let lines = fmt::layer()
        .with_writer(Destination)
        .with_target(false)
        .with_ansi(false);
    let lines = match settings.log_format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    // The only failure is that a subscriber exists already (a test's), and then that one serves.
    let _ = tracing::subscriber::set_global_default(Registry::default().with(filter).with(lines));
    let _ = LEVEL.set(handle);
    std::panic::set_hook(Box::new(
        |panic| tracing::error!(%panic, "this process has a defect and ends"),
    ));
    // The span is never left: it stands for the process.
    std::mem::forget(
        tracing::error_span!("process", name = process, pid = std::process::id()).entered(),
    );
}

/// Opens the master's log file anew by its path, after it was moved away. False: the log is standard error, of which there is no other.
///
/// # Errors
/// It cannot be opened; the old file stays in use.
pub fn reopen() -> Result<bool, OpenError> {
    let Some(Log {
        lines,
        path: Some(path),
    }) = LOG.get()
    else {
        return Ok(false);
    };
    let new = open(path, None, false)?;
    let mut refused = None;
    lines.go_on_in(Some(new), |new, old| {
        // A daemon's standard error is its log file as well; what libraries print there must follow.
        if let (Some(new), Some(old)) = (new, old)
            && same_file(old, &io::stderr())
        {
            refused = nix::unistd::dup2_stderr(new).err();
        }
    });
    if let Some(error) = refused {
        tracing::warn!(%error, "standard error stays in the old log file");
    }
    tracing::info!("log file opened anew");
    Ok(true)
}

/// Goes on in another log, which the master has opened. For a role.
pub fn take_over(log: &OwnedFd) {
    let Some(Log { lines, .. }) = LOG.get() else {
        return;
    };
    let mut refused = None;
    lines.go_on_in(None, |_, _| refused = nix::unistd::dup2_stderr(log).err());
    match refused {
        None => tracing::info!("log file opened anew"),
        Some(error) => tracing::error!(%error, "the log file stays the old one"),
    }
}

/// A duplicate of the log file for another process, which takes it in with [`take_over`]; `None` where the log is standard error.
///
/// # Errors
/// What the system says, `EMFILE` among it.
pub fn duplicate() -> io::Result<Option<OwnedFd>> {
    LOG.get().map_or(Ok(None), |log| log.lines.duplicate())
}

/// The log as the standard error of a process that is about to be started.
///
/// # Errors
/// What the system says, `EMFILE` among it.
pub fn for_a_child() -> io::Result<Stdio> {
    Ok(duplicate()?.map_or_else(Stdio::inherit, Stdio::from))
}

/// Gives `count` how many lines this process has lost since the last call because the log did not take them, if any. Where it does by now, it
/// is told of them. To be called a few times a second: nobody else tells of lines that were the last.
pub fn account(count: impl FnOnce(u64)) {
    let lost = LOG.get().map_or(0, |log| log.lines.take_lost());
    if lost > 0 {
        count(lost);
    }
}

/// Whether this process has a log.
pub fn has_begun() -> bool {
    LOG.get().is_some()
}

/// Writes a line to a standard stream, as far as there is room, without waiting for a reader. False: not all of it was written.
pub fn print(to: BorrowedFd<'_>, text: &str) -> bool {
    lines::print(to, &format!("{text}\n"))
}

/// Logs from `level` up from now on.
pub fn set_level(level: LogLevel) {
    if let Some(handle) = LEVEL.get() {
        // It fails only where the subscriber is gone, and then there is no log.
        let _ = handle.reload(level_filter(level));
    }
}

/// Opens a log file for appending, readable by its owner and group, without waiting for anybody: a FIFO that nobody reads is opened all the
/// same, and keeps what fits until somebody does. `account`: whom a process of root will become; the file is theirs then. With `make_folder`
/// the folder is made if it is missing. See [`sys::files`] for what is refused.
///
/// # Errors
/// What the system says, or why what lies there is not taken; with the path.
pub fn open(path: &Path, account: Option<Account>, make_folder: bool) -> Result<File, OpenError> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    Folder::open(folder, account, make_folder)
        .and_then(|folder| {
            let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?;
            let flags = OFlag::O_WRONLY | OFlag::O_APPEND;
            folder.file(name, flags, MODE, Kind::Log)
        })
        .map(|(file, _)| file)
        .map_err(|error| OpenError {
            path: path.to_owned(),
            error,
        })
}

fn level_filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

fn same_file(file: &File, other: &impl std::os::fd::AsFd) -> bool {
    let (Ok(a), Ok(b)) = (file.metadata(), nix::sys::stat::fstat(other)) else {
        return false;
    };
    (a.dev(), a.ino()) == (b.st_dev, b.st_ino)
}

/// Where lines go at this moment.
struct Destination;

impl<'a> MakeWriter<'a> for Destination {
    type Writer = Pen<'static>;

    fn make_writer(&'a self) -> Self::Writer {
        Pen(LOG.get().map(|log| &log.lines))
    }
}
