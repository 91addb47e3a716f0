//! Where the lines of the log go, without ever waiting for whoever reads them.
//!
//! - A line is written in one piece, so lines of several processes never mix; one that is longer than what a pipe takes in one piece may.
//! - A line that there is no room for is lost, counted, and told of in a line of its own as soon as there is room again.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use config::LogFormat;
use serde_json::json;
use sys::outlet::{self, Outlet};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

/// What a lost line is told as.
const LOST: &str = "lines of this process were lost: nobody read the log, or it took no more";

/// The log of a process.
pub(crate) struct Lines {
    to: RwLock<To>,
    format: LogFormat,
    process: String,
    /// Lines lost that nobody was told of in the log, and those that [`Self::take_lost`] has not given.
    untold: AtomicU64,
    lost: AtomicU64,
    /// The last line that was written is not whole.
    is_cut: AtomicBool,
}

/// A file, or standard error.
struct To {
    file: Option<File>,
    outlet: Outlet,
}

impl To {
    fn new(file: Option<File>) -> Self {
        let outlet = match &file {
            Some(file) => Outlet::of(file),
            None => Outlet::of(io::stderr()),
        };
        Self { file, outlet }
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let standard = io::stderr();
        let to = match &self.file {
            Some(file) => file.as_fd(),
            None => standard.as_fd(),
        };
        outlet::write(to, self.outlet, bytes)
    }
}

impl Lines {
    /// To a file, or to standard error as it is now.
    pub fn new(file: Option<File>, format: LogFormat, process: &str) -> Self {
        Self {
            to: RwLock::new(To::new(file)),
            format,
            process: process.to_owned(),
            untold: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            is_cut: AtomicBool::new(false),
        }
    }

    /// Writes a line, or counts it as lost.
    pub fn write(&self, line: &[u8]) {
        self.tell();
        if !self.put(line) {
            self.untold.fetch_add(1, Ordering::Relaxed);
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many lines were lost since the last call. Tells of them in the log, where that is possible by now.
    pub fn take_lost(&self) -> u64 {
        self.tell();
        self.lost.swap(0, Ordering::Relaxed)
    }

    /// Goes on in another place. `move_along` is given the new one, and the old one where that was a file.
    pub fn go_on_in(
        &self,
        new: Option<File>,
        move_along: impl FnOnce(Option<&File>, Option<&File>),
    ) {
        let mut to = self.to.write().unwrap_or_else(PoisonError::into_inner);
        move_along(new.as_ref(), to.file.as_ref());
        *to = To::new(new);
        // What was cut stays behind.
        self.is_cut.store(false, Ordering::Relaxed);
    }

    /// A duplicate of the file, for another process; `None` where it is standard error, which processes inherit.
    ///
    /// # Errors
    /// What the system says, `EMFILE` among it.
    pub fn duplicate(&self) -> io::Result<Option<OwnedFd>> {
        let to = self.to.read().unwrap_or_else(PoisonError::into_inner);
        to.file
            .as_ref()
            .map(|file| file.as_fd().try_clone_to_owned())
            .transpose()
    }

    /// Tells of what was lost.
    fn tell(&self) {
        if self.untold.load(Ordering::Relaxed) == 0 {
            return;
        }
        let count = self.untold.swap(0, Ordering::Relaxed);
        if count > 0 && !self.put(&self.told_as(count)) {
            self.untold.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Not by way of `tracing`: this is called in the middle of a line of its, and the level does not matter here.
    fn told_as(&self, count: u64) -> Vec<u8> {
        let mut time = String::new();
        // Writing to memory does not fail.
        let _ = SystemTime.format_time(&mut Writer::new(&mut time));
        let (process, pid) = (&self.process, std::process::id());
        let text = match self.format {
            LogFormat::Text => {
                format!("{time}  WARN process{{name={process:?} pid={pid}}}: {LOST} lines={count}")
            }
            LogFormat::Json => {
                let span = json!({"name": "process", "pid": pid});
                json!({"timestamp": time, "level": "WARN", "message": LOST, "lines": count, "span": span, "spans": [span]})
                    .to_string()
            }
        };
        (text + "\n").into_bytes()
    }

    /// Whether the line was written whole.
    fn put(&self, line: &[u8]) -> bool {
        let to = self.to.read().unwrap_or_else(PoisonError::into_inner);
        let with_end;
        let was_cut = self.is_cut.load(Ordering::Relaxed);
        let mut left = if was_cut {
            with_end = [b"\n", line].concat();
            &with_end[..]
        } else {
            line
        };
        let whole = left.len();
        while !left.is_empty() {
            match to.write(left) {
                Ok(count) if count > 0 => left = left.get(count..).unwrap_or_default(),
                _ => break,
            }
        }
        if left.len() < whole {
            self.is_cut.store(!left.is_empty(), Ordering::Relaxed);
        }
        left.is_empty()
    }
}

/// Writes a text to a standard stream of this process, as far as there is room now, in a server that has better things to do than to wait
/// for its reader. False: not all of it was written.
pub fn print(to: BorrowedFd<'_>, text: &str) -> bool {
    let own = outlet::unshared(to).ok().flatten();
    let to = own.as_ref().map_or(to, AsFd::as_fd);
    let outlet = Outlet::of(to);
    let mut left = text.as_bytes();
    while !left.is_empty() {
        match outlet::write(to, outlet, left) {
            Ok(count) if count > 0 => left = left.get(count..).unwrap_or_default(),
            _ => return false,
        }
    }
    true
}

/// The log as `tracing` writes to it. A line is never refused: what becomes of it is this module's business.
pub(crate) struct Pen<'a>(pub Option<&'a Lines>);

impl Write for Pen<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Some(lines) = self.0 {
            lines.write(line);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{PipeReader, Read};

    /// A log that is a pipe, and its other end.
    fn piped(format: LogFormat) -> (Lines, PipeReader) {
        let (reader, writer) = io::pipe().unwrap();
        let file = File::from(OwnedFd::from(writer));
        (Lines::new(Some(file), format, "worker 4"), reader)
    }

    /// Writes lines until some are lost; how many were written.
    fn fill(lines: &Lines) -> u64 {
        let mut written = 0;
        while lines.lost.load(Ordering::Relaxed) < 3 {
            let before = lines.lost.load(Ordering::Relaxed);
            lines.write(&[&[b'x'; 99][..], b"\n"].concat());
            written += u64::from(lines.lost.load(Ordering::Relaxed) == before);
        }
        written
    }

    /// Everything that is in the pipe once nobody can write there any more.
    fn rest(lines: Lines, mut reader: PipeReader) -> String {
        drop(lines);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn what_is_lost_is_counted_and_told_once_there_is_room() {
        let (lines, mut reader) = piped(LogFormat::Text);
        let written = fill(&lines);
        assert_eq!(lines.take_lost(), 3);
        assert_eq!(lines.take_lost(), 0, "each is given once");
        reader
            .read_exact(&mut vec![0; usize::try_from(written).unwrap() * 100])
            .unwrap();
        lines.write(b"next\n");
        let text = rest(lines, reader);
        let told: Vec<&str> = text.lines().collect();
        assert_eq!(told.len(), 2, "{text}");
        assert!(told[0].ends_with("lines=3"), "{text}");
        assert!(
            told[0].contains("WARN process{name=\"worker 4\" pid="),
            "{text}"
        );
        assert_eq!(told[1], "next");
    }

    #[test]
    fn it_is_told_although_nothing_else_is_to_be_said() {
        let (lines, mut reader) = piped(LogFormat::Json);
        let written = fill(&lines);
        reader
            .read_exact(&mut vec![0; usize::try_from(written).unwrap() * 100])
            .unwrap();
        assert_eq!(lines.take_lost(), 3);
        let text = rest(lines, reader);
        let told: serde_json::Value = serde_json::from_str(text.trim_end()).unwrap();
        assert_eq!(
            (&told["lines"], &told["level"]),
            (&3.into(), &"WARN".into())
        );
    }

    #[test]
    fn a_line_that_was_cut_does_not_spoil_the_next() {
        let (lines, mut reader) = piped(LogFormat::Text);
        let long = [&vec![b'l'; 1 << 20][..], b"\n"].concat();
        lines.write(&long);
        assert_eq!(lines.take_lost(), 1);
        let mut taken = vec![0; 1 << 20];
        let count = reader.read(&mut taken).unwrap();
        assert!(taken[..count].iter().all(|&byte| byte == b'l'));
        lines.write(b"next\n");
        let text = rest(lines, reader);
        let told: Vec<&str> = text.lines().collect();
        assert!(told[told.len() - 2].ends_with("lines=1"), "{told:?}");
        assert_eq!(told.last(), Some(&"next"));
    }

    #[test]
    fn nobody_to_read_is_like_no_room() {
        let (lines, reader) = piped(LogFormat::Text);
        drop(reader);
        lines.write(b"x\n");
        assert_eq!(lines.take_lost(), 1);
    }
}
