//! The pid file: who holds its lock is the server of this configuration, and nobody else is.
//!
//! The lock is the truth, the number in the file is for people: a master that was killed leaves the file and loses the lock.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::unistd::geteuid;
use sys::files::{Account, Folder, Kind};

use crate::control::{self, socket_path};

/// For its owner alone: who may read a file may lock it, and keep a server from starting.
const MODE: u32 = 0o600;

/// How long a lock is waited for that no server seems to have: whoever looks at a lock has it for a moment, and one who ends does too.
const PATIENCE: Duration = Duration::from_millis(250);
const PAUSE: Duration = Duration::from_millis(5);

/// What a pid with its line break is not longer than.
const PID_BYTES_MAX: u64 = 32;

/// The locked pid file of this process. It is removed when this is dropped.
pub struct PidFile {
    path: PathBuf,
    file: Flock<File>,
}

/// Why the lock could not be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it, and a server listens on the control socket beside the file.
    #[error("a server runs already with this pid file: {} ({})", who(*pid), path.display())]
    Running {
        /// Its pid, as the kernel says; `None` where it has none here.
        pid: Option<i32>,
        /// The file.
        path: PathBuf,
    },
    /// Another process has it, and nobody listens beside it: what the file says may be about anybody.
    #[error(
        "the pid file {} is locked by another process, but no server answers beside it: wait if one is just starting or ending, \
         or find out with `lslocks` what holds it",
        path.display()
    )]
    Held {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be made or locked.
    #[error("the pid file {} cannot be used: {reason}", path.display())]
    Os {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: io::Error,
    },
}

impl PidFile {
    /// Makes the file and its folder where they are missing, locks it, and writes this process's pid into it. `account`: whom this process
    /// will become, if it is root and will; what is made is theirs.
    ///
    /// # Errors
    /// See [`LockError`].
    pub fn lock(path: &Path, account: Option<Account>) -> Result<Self, LockError> {
        let os = |reason: io::Error| LockError::Os {
            path: path.to_owned(),
            reason,
        };
        let (folder, name) = apart(path).map_err(os)?;
        let folder = Folder::open(folder, account, true).map_err(os)?;
        // One name for the file whatever way leads to it: the name of the socket derives from it.
        let path = folder.path().join(name);
        let until = Instant::now() + PATIENCE;
        loop {
            let (file, _) = folder
                .file(name, OFlag::O_RDWR, MODE, Kind::Plain)
                .map_err(os)?;
            let open_to_others = file.metadata().map_err(os)?.mode() & 0o077 != 0;
            let locked = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(locked) => locked,
                Err((file, Errno::EWOULDBLOCK)) => {
                    match control::listener(&socket_path(&path)) {
                        Some(pid) => return Err(LockError::Running { pid, path }),
                        None if Instant::now() < until => std::thread::sleep(PAUSE),
                        // An earlier version left it, and anybody who may read it may lock it.
                        None if open_to_others && is_held_by_strangers(&file) => {
                            if folder.leads_to(name, &file) {
                                folder.remove(name).map_err(os)?;
                            }
                        }
                        None => return Err(LockError::Held { path }),
                    }
                    continue;
                }
                Err((_, errno)) => return Err(os(errno.into())),
            };
            if !folder.leads_to(name, &*locked) {
                // A server that was ending has removed this file between our opening and our locking it.
                continue;
            }
            write_pid(&locked).map_err(os)?;
            return Ok(Self { path, file: locked });
        }
    }

    /// The file that another master has locked: the lock belongs to the open file, and whoever holds that has it.
    ///
    /// # Errors
    /// See [`LockError`].
    pub fn inherited(lock: OwnedFd, path: PathBuf) -> Result<Self, LockError> {
        match Flock::lock(lock.into(), FlockArg::LockExclusiveNonblock) {
            Ok(file) => Ok(Self { path, file }),
            Err((lock, errno)) => {
                // It stays open, and locked as it was: it may go back to the master that it came from.
                std::mem::forget(lock);
                Err(LockError::Os {
                    path,
                    reason: errno.into(),
                })
            }
        }
    }

    /// The file's one name.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl AsFd for PidFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for PidFile {
    /// The lock goes last, with the descriptor. Where the folder does not let the file go, it is emptied.
    fn drop(&mut self) {
        let removed = apart(&self.path).and_then(|(folder, name)| {
            let folder = Folder::open(folder, None, false)?;
            match folder.leads_to(name, &*self.file) {
                true => folder.remove(name),
                // It is somebody else's by now.
                false => Ok(()),
            }
        });
        if let Err(error) = removed
            && let Err(worse) = self.file.set_len(0)
        {
            tracing::error!(%error, %worse, path = %self.path.display(), "the pid file stays");
        }
    }
}

/// Whether a server holds the lock.
pub fn is_locked(path: &Path) -> bool {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
        .open(path);
    let Ok(file) = file else {
        return false;
    };
    matches!(
        Flock::lock(file, FlockArg::LockSharedNonblock),
        Err((_, Errno::EWOULDBLOCK))
    )
}

/// The path with its folder's links resolved; the folder must exist.
pub fn canonical(path: &Path) -> io::Result<PathBuf> {
    match (path.parent(), path.file_name()) {
        (Some(folder), Some(name)) => Ok(folder.canonicalize()?.join(name)),
        _ => Ok(path.to_owned()),
    }
}

/// Folder and name.
fn apart(path: &Path) -> io::Result<(&Path, &OsStr)> {
    match (path.parent(), path.file_name()) {
        (Some(folder), Some(name)) => Ok((folder, name)),
        _ => Err(io::ErrorKind::IsADirectory.into()),
    }
}

/// Replaces what stands in the file, if that is a pid: what somebody has named here by mistake is not lost.
fn write_pid(mut file: &File) -> io::Result<()> {
    let mut there = Vec::new();
    file.take(PID_BYTES_MAX + 1).read_to_end(&mut there)?;
    let is_pid = there
        .iter()
        .all(|byte| byte.is_ascii_digit() || byte.is_ascii_whitespace());
    if !is_pid || there.len() as u64 > PID_BYTES_MAX {
        return Err(io::Error::other(
            "something else than a process id stands in it; name another file, or remove it",
        ));
    }
    // Where it is not ours to change it is somebody's own choice.
    let _ = file.set_permissions(Permissions::from_mode(MODE));
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

/// Whether the lock of this file certainly is no server's of ours: it is shared, or those who have it work as other users. In doubt it is ours.
fn is_held_by_strangers(file: &File) -> bool {
    if let Ok(mine) = file.try_clone()
        && Flock::lock(mine, FlockArg::LockSharedNonblock).is_ok()
    {
        return true;
    }
    let Ok(number) = file.metadata().map(|found| found.ino()) else {
        return false;
    };
    let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    // "1: FLOCK ADVISORY WRITE 4711 08:01:131 0 EOF"
    let holder = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (pid, place) = (fields.get(4)?, fields.get(5)?);
        let of_this = fields.contains(&"FLOCK") && place.rsplit(':').next()? == number.to_string();
        of_this.then(|| (*pid).to_owned())
    };
    let is_strange = |pid: String| {
        let process = std::fs::metadata(Path::new("/proc").join(pid));
        process.is_ok_and(|it| it.uid() != geteuid().as_raw() && it.uid() != 0)
    };
    let mut holders = locks.lines().filter_map(holder).peekable();
    holders.peek().is_some() && holders.all(is_strange)
}

fn who(pid: Option<i32>) -> String {
    match pid {
        Some(pid) => format!("pid {pid}"),
        None => "it cannot be seen from here, as from another pid namespace".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    /// A folder that is removed when the test ends.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("steadfast-pid-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_second_lock_is_refused_and_names_the_first() {
        let folder = Folder::new("second");
        let path = folder.0.join("new/folder/x.pid");
        let first = PidFile::lock(&path, None).unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            format!("{}\n", std::process::id())
        );
        assert!(is_locked(&path));

        let refused = || PidFile::lock(&path, None).map(drop).unwrap_err();
        assert!(matches!(refused(), LockError::Held { .. }));
        let socket = UnixListener::bind(socket_path(&path)).unwrap();
        let LockError::Running { pid, .. } = refused() else {
            panic!("not refused")
        };
        assert_eq!(pid, Some(std::process::id().cast_signed()));
        drop(socket);
        assert!(matches!(refused(), LockError::Held { .. }));

        std::fs::remove_file(&path).unwrap();
        // The first still holds the lock of a file that has no name any more: that is no obstacle, and it does not take the new file away.
        let second = PidFile::lock(&path, None).unwrap();
        drop(first);
        assert!(is_locked(second.path()));
        drop(second);
        assert!(!path.exists());
    }

    #[test]
    fn what_a_killed_master_left_is_taken_over() {
        let folder = Folder::new("stale");
        let path = folder.0.join("x.pid");
        std::fs::write(&path, "123456789\n").unwrap();
        assert!(!is_locked(&path));
        let lock = PidFile::lock(&path, None).unwrap();
        assert_eq!(
            std::fs::read_to_string(lock.path()).unwrap(),
            format!("{}\n", std::process::id())
        );
    }

    #[test]
    fn one_file_has_one_name() {
        let folder = Folder::new("link");
        std::fs::create_dir(folder.0.join("real")).unwrap();
        std::os::unix::fs::symlink(folder.0.join("real"), folder.0.join("link")).unwrap();
        let through_link = PidFile::lock(&folder.0.join("link/x.pid"), None).unwrap();
        assert!(matches!(
            PidFile::lock(&folder.0.join("real/x.pid"), None),
            Err(LockError::Held { .. })
        ));
        assert_eq!(
            through_link.path(),
            folder.0.canonicalize().unwrap().join("real/x.pid")
        );
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_an_error_with_its_name() {
        let error = PidFile::lock(Path::new("/dev/null/x.pid"), None)
            .map(drop)
            .unwrap_err()
            .to_string();
        assert!(error.contains("/dev/null/x.pid"), "{error}");
    }
}
