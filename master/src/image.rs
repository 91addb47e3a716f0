//! The executable that roles are started from, held open: whatever lies at its path by then, a process that dies is replaced by the very
//! same program, and another one only when a reload has opened it and found it good.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

/// An opened executable.
#[derive(Debug)]
pub struct Image {
    file: OwnedFd,
    path: PathBuf,
}

impl Image {
    /// The program that this process executes, which was started as `path`.
    ///
    /// # Errors
    /// What the system says.
    pub fn own(path: &Path) -> io::Result<Self> {
        Self::opened("/proc/self/exe".as_ref(), path)
    }

    /// What lies at `path` now.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::opened(path, path)
    }

    /// One that another master has opened at `path`.
    pub fn inherited(file: OwnedFd, path: PathBuf) -> Self {
        Self { file, path }
    }

    fn opened(file: &Path, path: &Path) -> io::Result<Self> {
        Ok(Self {
            file: open(file, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?,
            path: path.to_owned(),
        })
    }

    /// A command that executes it under the name of its path. The image must live until the command is started.
    pub fn command(&self) -> Command {
        // The link is followed by the new process itself, before its copy of the descriptor is closed.
        let mut command = Command::new(format!("/proc/self/fd/{}", self.file.as_raw_fd()));
        command.arg0(&self.path);
        command
    }

    /// A sentence for an image that could not be executed.
    pub fn cannot_be_executed(&self, error: &io::Error) -> String {
        format!("{} cannot be executed: {error}", self.path.display())
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl AsFd for Image {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl AsRawFd for Image {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_opened_is_executed_whatever_lies_there_later() {
        let path = std::env::temp_dir().join(format!("steadfast-image-{}", std::process::id()));
        std::fs::copy("/bin/true", &path).unwrap();
        let first = Image::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::copy("/bin/false", &path).unwrap();
        let second = Image::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(first.command().status().unwrap().success());
        assert!(!second.command().status().unwrap().success());
        assert!(Image::open(&path).is_err());
    }

    #[test]
    fn the_name_is_the_path() {
        let own = Image::own("/the/path".as_ref()).unwrap();
        assert_eq!(
            own.command()
                .get_program()
                .to_str()
                .unwrap()
                .find("/proc/self/fd/"),
            Some(0)
        );
        assert_eq!(own.path(), Path::new("/the/path"));
    }
}
