//! The configuration file, held open by a server that was started by root and is not root any more.
//!
//! Such a file may have secrets and be for root alone. What was opened then can still be read, also after somebody has written into it. What
//! was put in its place cannot: then it is said so, and what to do, and never is the old one read as if it were the new.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::unistd::{Gid, Group, getegid};

/// No configuration is as long.
const BYTES_MAX: usize = 16 << 20;

/// The file as it was opened.
pub struct KeptConfig {
    file: File,
    /// Its name then, without links.
    name: PathBuf,
}

impl KeptConfig {
    /// Opens the file.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = open(path)?;
        let name = name_of(&file)?;
        Ok(Self { file, name })
    }

    /// One that another master has opened.
    pub fn inherited(file: OwnedFd, name: PathBuf) -> Self {
        let file = file.into();
        Self { file, name }
    }

    /// Its name when it was opened.
    pub fn name(&self) -> &Path {
        &self.name
    }

    /// The text that lies at `path` now, if it is read through this; `None` where whoever asks may read it by its name.
    ///
    /// # Errors
    /// A sentence: it may not be read, and what to do.
    pub fn text(&self, path: &Path) -> Result<Option<String>, String> {
        match open(path) {
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {}
            // Whatever else is wrong is told when it is read by its name.
            _ => return Ok(None),
        }
        if !self.is_still(path) {
            return Err(not_readable(path));
        }
        let cannot = |e: io::Error| format!("{} cannot be read: {e}", path.display());
        let bytes = self.read().map_err(cannot)?;
        let text = String::from_utf8(bytes);
        text.map(Some)
            .map_err(|_| format!("{}: the file is not UTF-8", path.display()))
    }

    /// Whether the path still leads to this very file.
    fn is_still(&self, path: &Path) -> bool {
        // The kernel knows the name that it has now, and whether it has one, also where this process may not look.
        let named = name_of(&self.file).is_ok_and(|now| now == self.name);
        let leads = match path.canonicalize() {
            Ok(real) => real == self.name,
            // The way there cannot be seen, and so no link on it.
            Err(_) => path == self.name,
        };
        named && leads
    }

    fn read(&self) -> io::Result<Vec<u8>> {
        let (mut bytes, mut piece) = (Vec::new(), vec![0; 64 << 10]);
        loop {
            match self.file.read_at(&mut piece, bytes.len() as u64)? {
                0 => return Ok(bytes),
                count => bytes.extend_from_slice(&piece[..count]),
            }
            if bytes.len() > BYTES_MAX {
                return Err(io::Error::other("it is longer than any configuration"));
            }
        }
    }
}

impl AsFd for KeptConfig {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).custom_flags(OFlag::O_NONBLOCK.bits());
    options.open(path)
}

fn name_of(file: &File) -> io::Result<PathBuf> {
    Path::new("/proc/self/fd")
        .join(file.as_raw_fd().to_string())
        .read_link()
}

fn not_readable(path: &Path) -> String {
    let (path, group) = (path.display(), name_of_group(getegid()));
    format!(
        "{path} is another file than at the start (editors put a new one in the place of the old), and the user that the server works as may \
         not read it: `chgrp {group} {path} && chmod 0640 {path}` as root, with every folder on the way open to that group, and reload again; \
         or stop and start the server. (A file that is written into, as by `cat new > {path}`, is read although it is root's.)"
    )
}

fn name_of_group(group: Gid) -> String {
    match Group::from_gid(group) {
        Ok(Some(found)) => found.name,
        _ => group.to_string(),
    }
}
