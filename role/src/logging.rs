//! The log of every process of the server: to standard error or to one file that all of them append to.
//!
//! - A line is written in one piece, so lines of several processes never mix.
//! - A panic becomes a line of the log before the process ends.
//! - [`reopen`] and [`set_level`] take effect for everything logged after they return.
//! - Logging never fails a caller: a line that cannot be written is lost, and the process goes on.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{OnceLock, PoisonError, RwLock};

use config::{LogFormat, LogLevel};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::Registry;
use tracing_subscriber::reload;

/// The log file and where it is; `None`: standard error.
static LOG_FILE: OnceLock<Option<LogFile>> = OnceLock::new();
static LEVEL: OnceLock<reload::Handle<LevelFilter, Registry>> = OnceLock::new();

struct LogFile {
    path: PathBuf,
    file: RwLock<File>,
}

/// Starts logging as `settings.server` says; `process` (`"master"`, `"worker 4"`) stands in every line that the main thread logs.
/// To be called once, on the main thread. A second call changes nothing.
///
/// # Errors
/// The log file cannot be opened; its path is in the message.
pub fn init(settings: &config::Server, process: &str) -> io::Result<()> {
    let file = match &settings.log_file {
        path if path.as_os_str().is_empty() => None,
        path => Some(LogFile {
            path: path.clone(),
            file: RwLock::new(open(path)?),
        }),
    };
    if LOG_FILE.set(file).is_err() {
        return Ok(());
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
    Ok(())
}

/// Opens the log file anew by its path, after it was moved away. Where that fails, the old file stays in use and says why.
pub fn reopen() {
    let Some(Some(log)) = LOG_FILE.get() else {
        return;
    };
    let new = match open(&log.path) {
        Ok(new) => new,
        Err(error) => {
            tracing::error!(%error, "the log file stays the old one");
            return;
        }
    };
    {
        let mut current = log.file.write().unwrap_or_else(PoisonError::into_inner);
        // A daemon's standard error is its log file as well; what libraries print there must follow.
        if same_file(&current, &io::stderr())
            && let Err(error) = nix::unistd::dup2_stderr(&new)
        {
            let _ = writeln!(current, "standard error stays in the old log file: {error}");
        }
        *current = new;
    }
    tracing::info!("log file opened anew");
}

/// Logs from `level` up from now on.
pub fn set_level(level: LogLevel) {
    if let Some(handle) = LEVEL.get() {
        // It fails only where the subscriber is gone, and then there is no log.
        let _ = handle.reload(level_filter(level));
    }
}

/// Opens a log file for appending, readable by its owner and group.
///
/// # Errors
/// What the system says, with the path.
pub fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o640)
        .open(path)
        .map_err(|e| {
            io::Error::new(
                e.kind(),
                format!("the log file {} cannot be opened: {e}", path.display()),
            )
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
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        Self
    }
}

impl Write for Destination {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match LOG_FILE.get() {
            Some(Some(log)) => {
                (&*log.file.read().unwrap_or_else(PoisonError::into_inner)).write(line)
            }
            _ => io::stderr().write(line),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
