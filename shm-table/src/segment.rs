//! The segment as a file: who it is, whose it is, and how its name comes and goes.
//!
//! - A segment has an identity of 128 random bits, and its name in /dev/shm is made of it, so that no two servers, in whatever containers,
//!   ever want the same name.
//! - The name only serves whoever looks into /dev/shm. Processes are given the descriptor and the identity; without the name everything goes on.
//! - The master that made a segment holds a lock on a description of the file that it gives to nobody (a [`Claim`]), through its upgrades until
//!   it ends. The kernel tells everybody the truth about a lock, whatever numbers processes have where they look.
//! - What nobody holds the lock of is what a killed server left ([`remove_leftovers`]).

use std::fs::{self, File, Metadata, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag, posix_fallocate};
use nix::unistd::geteuid;
use shared_memory::{ShmemConf, ShmemError};

use crate::table::CreateError;

/// Where shm_open(3) has its files.
const FOLDER: &str = "/dev/shm";
const PREFIX: &str = "steadfast-";
/// Hexadecimal digits behind it.
const DIGITS: usize = 32;

/// Names that are tried. One that was just made is lost only to somebody who clears /dev/shm at that very moment.
const TRIES: usize = 16;

/// Tells a segment from every other one, of this server and of any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity(pub [u64; 2]);

impl Identity {
    pub(crate) fn random() -> Self {
        Self([random(), random()])
    }

    fn name(self) -> String {
        format!("{PREFIX}{:016x}{:016x}", self.0[0], self.0[1])
    }
}

/// A number that nobody can foresee: the standard library's per-process random hash keys, hashed.
pub(crate) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// The proof that a segment's master lives: a lock that ends with it. Dropping it removes the segment's name; the memory goes with the last
/// process that has it.
#[derive(Debug)]
pub struct Claim {
    name: String,
    /// A description of its own: one that others were given as well would be locked until they all have ended.
    lock: Flock<File>,
}

impl Claim {
    /// The claim of another master, which this process was before it executed what it is now. `lock`: the descriptor behind [`AsFd`].
    ///
    /// # Errors
    /// What the system says. The descriptor stays open then: who goes back to what it was before takes it along.
    pub fn inherited(name: String, lock: OwnedFd) -> io::Result<Self> {
        match Flock::lock(lock.into(), FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Self { name, lock }),
            Err((lock, errno)) => {
                std::mem::forget(lock);
                Err(errno.into())
            }
        }
    }

    /// Name of the segment, as for `shm_open(3)` without the leading slash. It may be gone.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl AsFd for Claim {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.lock.as_fd()
    }
}

impl Drop for Claim {
    /// The lock goes last, so that nobody takes this for a leftover meanwhile.
    fn drop(&mut self) {
        let path = path(&self.name);
        if leads_to(&path, &self.lock) {
            // Nothing can be done about it here; the next start tries again.
            let _ = fs::remove_file(path);
        }
    }
}

/// Makes a segment of this size with every page reserved.
pub(crate) fn make(bytes: usize) -> Result<(Identity, File, Claim), CreateError> {
    for _ in 0..TRIES {
        let identity = Identity::random();
        let name = identity.name();
        let os = |reason: String| CreateError::Os {
            name: name.clone(),
            reason,
        };
        let mut made = match ShmemConf::new().os_id(&name).size(bytes).create() {
            Ok(made) => made,
            Err(ShmemError::MappingIdExists) => continue,
            Err(other) => return Err(os(other.to_string())),
        };
        let Some((file, lock)) = taken(&path(&name)).map_err(|e| os(e.to_string()))? else {
            continue;
        };
        // From here on the claim removes the name.
        made.set_owner(false);
        drop(made);
        let claim = Claim { name, lock };
        reserve_pages(&claim.name, &file, bytes)?;
        return Ok((identity, file, claim));
    }
    Err(CreateError::Os {
        name: format!("{PREFIX}*"),
        reason: "each file that was made was removed at once".into(),
    })
}

/// Opens what was just made, and locks it. `None` if somebody who looks for leftovers has been there in between: between its making and
/// this lock it looks like one.
fn taken(path: &Path) -> io::Result<Option<(File, Flock<File>)>> {
    let opened = || match open(path) {
        Ok(file) => Ok(Some(file)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    };
    let (Some(file), Some(lock)) = (opened()?, opened()?) else {
        return Ok(None);
    };
    let lock = match Flock::lock(lock, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => lock,
        Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
        Err((_, errno)) => return Err(errno.into()),
    };
    // Who removes leftovers has the lock while doing so: what has its name now keeps it.
    let stays = leads_to(path, &lock) && leads_to(path, &file);
    Ok(stays.then_some((file, lock)))
}

/// Removes what killed servers of this user have left in /dev/shm, and says which names that were.
///
/// What a server has in use is locked, and one that is just being made is made anew if this hits it. Should a name go all the same, nobody
/// misses it. So this needs no record of who left what, which could be lost or be about something else by now.
pub fn remove_leftovers() -> Vec<String> {
    let Ok(entries) = fs::read_dir(FOLDER) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| is_ours(name) && remove_leftover(&path(name)).is_ok_and(|removed| removed))
        .collect()
}

/// Whether a segment has such a name.
fn is_ours(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|digits| {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        digits.len() == DIGITS && digits.bytes().all(is_digit)
    })
}

fn remove_leftover(path: &Path) -> io::Result<bool> {
    let is_ours = |file: &Metadata| file.is_file() && file.uid() == geteuid().as_raw();
    if !is_ours(&fs::symlink_metadata(path)?) {
        return Ok(false);
    }
    let Ok(lock) = Flock::lock(open(path)?, FlockArg::LockExclusiveNonblock) else {
        return Ok(false);
    };
    if !is_ours(&lock.metadata()?) || !leads_to(path, &lock) {
        return Ok(false);
    }
    fs::remove_file(path)?;
    Ok(true)
}

fn path(name: &str) -> PathBuf {
    Path::new(FOLDER).join(name)
}

/// Opens a segment's file, and nothing that a link leads to.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
        .open(path)
}

fn leads_to(path: &Path, file: &File) -> bool {
    match (fs::symlink_metadata(path), file.metadata()) {
        (Ok(there), Ok(here)) => (there.dev(), there.ino()) == (here.dev(), here.ino()),
        _ => false,
    }
}

/// Makes the kernel find every page of the segment now (`posix_fallocate(3)`).
fn reserve_pages(name: &str, file: &File, bytes: usize) -> Result<(), CreateError> {
    posix_fallocate(file, 0, bytes as i64).map_err(|errno| match errno {
        Errno::ENOSPC | Errno::ENOMEM => CreateError::NoSpace {
            needed_bytes: bytes as u64,
            available_bytes: nix::sys::statvfs::statvfs(FOLDER)
                .ok()
                .map(|fs| fs.blocks_available() * fs.fragment_size()),
        },
        other => CreateError::Os {
            name: name.to_owned(),
            reason: other.to_string(),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_holds_is_a_leftover() {
        let (_, _file, held) = make(4096).unwrap();
        let left = path(&Identity::random().name());
        fs::write(&left, "a killed server's").unwrap();
        let others = [
            path("steadfast-of-somebody-else"),
            path(&format!("{}0", Identity::random().name())),
        ];
        for other in &others {
            fs::write(other, "not a segment").unwrap();
        }
        let linked = path(&Identity::random().name());
        std::os::unix::fs::symlink(&others[0], &linked).unwrap();

        // Another test's process may do the same at this moment.
        remove_leftovers();
        assert!(!left.exists());
        assert!(path(held.name()).exists());
        for other in others.iter().chain([&linked]) {
            assert!(other.is_symlink() || other.exists(), "{}", other.display());
            fs::remove_file(other).unwrap();
        }

        let name = path(held.name());
        drop(held);
        assert!(!name.exists());
    }

    #[test]
    fn what_has_the_name_of_a_segment_that_is_gone_stays() {
        let (_, _file, claim) = make(4096).unwrap();
        let name = path(claim.name());
        fs::remove_file(&name).unwrap();
        let another = open_new(&name);
        drop(claim);
        assert!(name.exists());
        fs::remove_file(&name).unwrap();
        drop(another);
    }

    /// Locked, so that no test that removes leftovers takes it for one.
    fn open_new(path: &Path) -> Flock<File> {
        loop {
            fs::write(path, "").unwrap();
            if let Ok(Some((_, lock))) = taken(path) {
                return lock;
            }
        }
    }

    #[test]
    fn the_lock_is_of_the_master_alone_and_goes_through_an_execution() {
        let (_, file, claim) = make(4096).unwrap();
        let (name, path) = (claim.name().to_owned(), path(claim.name()));
        let inherited = claim.as_fd().try_clone_to_owned().unwrap();
        // As an execution does, which drops nothing.
        std::mem::forget(claim);
        assert!(!remove_leftover(&path).unwrap());
        let claim = Claim::inherited(name, inherited).unwrap();
        assert!(!remove_leftover(&path).unwrap());
        assert!(Claim::inherited(String::new(), open(&path).unwrap().into()).is_err());
        drop(claim);
        assert!(!path.exists());
        drop(file);
    }

    #[test]
    fn two_who_make_and_two_who_clear_do_not_disturb_each_other() {
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let (_, _, claim) = make(4096).unwrap();
                        assert!(path(claim.name()).exists());
                    }
                });
                scope.spawn(|| {
                    for _ in 0..200 {
                        remove_leftovers();
                    }
                });
            }
        });
    }
}
