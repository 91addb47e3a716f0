//! Files, and the folders that they lie in, for a process that may be root where others may write.
//!
//! A name says little: whoever may write to a folder can have any name in it lead anywhere, at any moment. So a path is walked folder by
//! folder, each is held open and looked at, and what is done to a file is done to what was opened:
//!
//! - No link is followed as root but one that root has made.
//! - Whatever lies in a folder of the user that a server of root will become is done *as* that user, and so is everything below or behind
//!   it: they gain nothing by any link, hard link or exchange in there that they could not do themselves.
//! - A file is taken only if it is a plain one (a log may be a FIFO), has one name, and belongs to us, to root or to that user.
//! - A folder that everybody may write to, or of a third user, is refused; one like /tmp, where nobody can take away what is ours, is not.
//! - A file is given to that user only if it was made for them, or lies where nobody else could have put it.
//!
//! What is refused is refused with a sentence that says what to do.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, mkdirat};
use nix::unistd::{
    Gid, Uid, UnlinkatFlags, fchown, fchownat, getegid, geteuid, getgroups, setegid, seteuid,
    setgroups, unlinkat,
};

/// Links on one way; as many as the kernel follows.
const LINKS_MAX: usize = 40;
/// How often a file is opened again that was there and then was not.
const ATTEMPTS_MAX: usize = 100;
const FOLDER_MODE: u32 = 0o755;

/// The user that a process of root will become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// Who.
    pub uid: Uid,
    /// Their first group.
    pub gid: Gid,
}

/// What may be opened under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A plain file.
    Plain,
    /// A plain file, a FIFO, or a device of root's, such as /dev/null.
    Log,
}

/// Whose a folder is, and so what in it can be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Control {
    /// Nobody but root and us puts anything there.
    Ours,
    /// Others do as well.
    Shared,
    /// It is the account's, or they could have led us there.
    Theirs(Account),
}

/// A folder that is held open.
#[derive(Debug)]
pub struct Folder {
    descriptor: OwnedFd,
    path: PathBuf,
    control: Control,
    account: Option<Account>,
}

impl Folder {
    /// Opens the folder at `path`. `account`: whom this process will become, if it is root and will. With `make`, folders that are missing are
    /// made, and the last of them is the account's.
    ///
    /// # Errors
    /// A sentence with the folder that is missing or cannot be relied on, or what the system says.
    pub fn open(path: &Path, account: Option<Account>, make: bool) -> io::Result<Self> {
        let account = account.filter(|_| geteuid().is_root());
        let path = std::path::absolute(path)?;
        let mut ahead = names(&path);
        let mut here = Self {
            descriptor: openat(
                nix::fcntl::AT_FDCWD,
                "/",
                OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
                Mode::empty(),
            )?,
            path: PathBuf::from("/"),
            control: Control::Ours,
            account,
        };
        let mut links = 0;
        while let Some(name) = ahead.pop() {
            let last = ahead.is_empty();
            let (descriptor, made) = here.step(&name, make)?;
            let found = fstat(&descriptor)?;
            if kind(&found) == SFlag::S_IFLNK {
                links += 1;
                if links > LINKS_MAX {
                    return Err(Errno::ELOOP.into());
                }
                here.follow(&name, &descriptor, &found, &mut ahead)?;
                continue;
            }
            here.enter(&name, descriptor, &found)?;
            if made && last {
                here.give_itself()?;
            }
        }
        here.check()?;
        Ok(here)
    }

    /// Its path without links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a file in it for writing, without waiting for anybody; with `true` if it was made by this. It is then the account's, as far as
    /// that can be done without giving away what is somebody else's. The modes are those of a file that is made.
    ///
    /// # Errors
    /// A sentence why what lies there is not taken, or what the system says.
    pub fn file(
        &self,
        name: &OsStr,
        flags: OFlag,
        mode: u32,
        kind: Kind,
    ) -> io::Result<(File, bool)> {
        let (file, made) = self.as_its_owner(|| self.open_or_make(name, flags, mode, kind))??;
        if let Some(account) = self.account
            && (made || self.control == Control::Ours)
            && !is_device(&fstat(&file)?)
            && file.metadata()?.uid() != account.uid.as_raw()
        {
            fchown(&file, Some(account.uid), Some(account.gid))?;
        }
        Ok((file, made))
    }

    /// Whether that name leads to that file, and not by a link.
    pub fn leads_to(&self, name: &OsStr, file: &impl AsFd) -> bool {
        match (self.stat(name), fstat(file)) {
            (Ok(there), Ok(here)) => (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino),
            _ => false,
        }
    }

    /// What lies under a name: a link itself, not where it leads.
    ///
    /// # Errors
    /// What the system says.
    pub fn stat(&self, name: &OsStr) -> io::Result<FileStat> {
        let found =
            self.as_its_owner(|| fstatat(&self.descriptor, name, AtFlags::AT_SYMLINK_NOFOLLOW))?;
        Ok(found?)
    }

    /// Takes a name away.
    ///
    /// # Errors
    /// What the system says.
    pub fn remove(&self, name: &OsStr) -> io::Result<()> {
        let removed =
            self.as_its_owner(|| unlinkat(&self.descriptor, name, UnlinkatFlags::NoRemoveDir))?;
        Ok(removed?)
    }

    /// A path to a name in this folder, for a call that takes no descriptor: this folder's, whatever its own path leads to by now, if
    /// it is another one's.
    pub fn path_to(&self, name: &OsStr) -> PathBuf {
        match self.control {
            Control::Theirs(_) => {
                let number = self.descriptor.as_raw_fd().to_string();
                Path::new("/proc/self/fd").join(number).join(name)
            }
            Control::Ours | Control::Shared => self.path.join(name),
        }
    }

    /// Gives a socket that this process has just bound here to the account. `is_it` is asked by a path that leads to what will be given
    /// and nothing else, whether that is the socket.
    ///
    /// # Errors
    /// It is not, or what the system says.
    pub fn give_socket(&self, name: &OsStr, is_it: impl FnOnce(&Path) -> bool) -> io::Result<()> {
        let (Some(account), Control::Ours | Control::Shared) = (self.account, self.control) else {
            return Ok(());
        };
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let socket = openat(&self.descriptor, name, flags, Mode::empty())?;
        let path = Path::new("/proc/self/fd").join(socket.as_raw_fd().to_string());
        if !is_it(&path) {
            return Err(refusal(format!(
                "somebody has exchanged it; have {} written to by root alone",
                self.path.display()
            )));
        }
        give(&socket, account)
    }

    /// Does something as who may do it: in a folder of the account as the account. To be called while this process has one thread.
    ///
    /// # Errors
    /// This process cannot become the account for a moment, or not itself again.
    pub fn as_its_owner<T>(&self, act: impl FnOnce() -> T) -> io::Result<T> {
        match self.control {
            Control::Theirs(account) if geteuid().is_root() => act_as(account, act),
            _ => Ok(act()),
        }
    }

    /// Opens what is behind a name, whatever it is; a folder is made if it is missing and `make`.
    fn step(&self, name: &OsStr, make: bool) -> io::Result<(OwnedFd, bool)> {
        let look = || {
            let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            openat(&self.descriptor, name, flags, Mode::empty())
        };
        let told = |error: Errno| {
            let path = self.path.join(name);
            io::Error::new(
                io::Error::from(error).kind(),
                format!("{}: {}", path.display(), error.desc()),
            )
        };
        self.as_its_owner(|| match look() {
            Ok(there) => Ok((there, false)),
            Err(Errno::ENOENT) if make => {
                let made = mkdirat(
                    &self.descriptor,
                    name,
                    Mode::from_bits_truncate(FOLDER_MODE),
                );
                match made {
                    Ok(()) | Err(Errno::EEXIST) => {}
                    Err(error) => return Err(told(error)),
                }
                Ok((look().map_err(told)?, made.is_ok()))
            }
            Err(error @ (Errno::EMFILE | Errno::ENFILE)) => Err(error.into()),
            Err(error) => Err(told(error)),
        })?
    }

    /// Goes where a link leads, if whoever made it may say so.
    fn follow(
        &mut self,
        name: &OsStr,
        link: &OwnedFd,
        found: &FileStat,
        ahead: &mut Vec<OsString>,
    ) -> io::Result<()> {
        let owner = Uid::from_raw(found.st_uid);
        let folder = fstat(&self.descriptor)?;
        let may_say = match (geteuid().is_root(), self.control, self.account) {
            (true, Control::Theirs(_), _) => true,
            (true, _, Some(account)) if owner == account.uid => {
                self.control = Control::Theirs(account);
                true
            }
            (true, ..) => is_the_systems(owner),
            // As the kernel itself has it (fs.protected_symlinks), where it was told to.
            (false, ..) => {
                let trusted = [geteuid(), Uid::from_raw(folder.st_uid)];
                !others_write(&folder) || trusted.contains(&owner) || is_the_systems(owner)
            }
        };
        if !may_say {
            return Err(refusal(format!(
                "{} is a link that the user {} has made, and is not followed; name the place itself",
                self.path.join(name).display(),
                called(owner)
            )));
        }
        let target = PathBuf::from(readlinkat(link, "")?);
        if target.is_absolute() {
            self.descriptor = openat(
                &self.descriptor,
                "/",
                OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
                Mode::empty(),
            )?;
            self.path = PathBuf::from("/");
            if !matches!(self.control, Control::Theirs(_)) {
                self.control = Control::Ours;
            }
        }
        ahead.append(&mut names(&target));
        Ok(())
    }

    fn enter(&mut self, name: &OsStr, folder: OwnedFd, found: &FileStat) -> io::Result<()> {
        match name {
            name if name == ".." => drop(self.path.pop()),
            name => self.path.push(name),
        }
        if kind(found) != SFlag::S_IFDIR {
            return Err(io::Error::new(
                ErrorKind::NotADirectory,
                format!("{} is not a folder", self.path.display()),
            ));
        }
        self.descriptor = folder;
        let owner = Uid::from_raw(found.st_uid);
        self.control = match (self.control, self.account) {
            (theirs @ Control::Theirs(_), _) => theirs,
            (_, Some(account)) if account.uid == owner => Control::Theirs(account),
            _ if others_write(found) || group_writes(found) => Control::Shared,
            _ => Control::Ours,
        };
        if geteuid().is_root() {
            self.check()?;
        }
        Ok(())
    }

    /// Whether what is in this folder may be used: for root every folder on the way, for anybody else the last.
    fn check(&self) -> io::Result<()> {
        if self.control != Control::Ours && self.control != Control::Shared {
            return Ok(());
        }
        let found = fstat(&self.descriptor)?;
        let owner = Uid::from_raw(found.st_uid);
        if owner != geteuid() && !is_the_systems(owner) {
            let whose = if self.account.is_some() {
                "neither to root nor to the user of server.user"
            } else {
                "neither to root nor to the user who starts the server"
            };
            return Err(refusal(format!(
                "the folder {} belongs to the user {}, {whose}, and they could have anything lie there; name another folder, or `chown` it",
                self.path.display(),
                called(owner)
            )));
        }
        if others_write(&found) && found.st_mode & Mode::S_ISVTX.bits() == 0 {
            return Err(refusal(format!(
                "everybody may write to the folder {}, and could have anything lie there; name another folder, or `chmod o-w` it",
                self.path.display()
            )));
        }
        Ok(())
    }

    /// Gives this folder, which was just made, to the account.
    fn give_itself(&mut self) -> io::Result<()> {
        let (Some(account), Control::Ours | Control::Shared) = (self.account, self.control) else {
            return Ok(());
        };
        let above = openat(
            &self.descriptor,
            "..",
            OFlag::O_PATH | OFlag::O_CLOEXEC,
            Mode::empty(),
        )?;
        let above = fstat(&above)?;
        let sticky = above.st_mode & Mode::S_ISVTX.bits() != 0;
        if !sticky && (others_write(&above) || group_writes(&above)) {
            return Err(refusal(format!(
                "the folder {} cannot be made for server.user where a group may exchange it; make it first, and `chown` it",
                self.path.display()
            )));
        }
        give(&self.descriptor, account)?;
        self.control = Control::Theirs(account);
        Ok(())
    }

    fn open_or_make(
        &self,
        name: &OsStr,
        flags: OFlag,
        mode: u32,
        wanted: Kind,
    ) -> io::Result<(File, bool)> {
        let flags =
            flags | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let mode = Mode::from_bits_truncate(mode);
        for _ in 0..ATTEMPTS_MAX {
            let new = flags | OFlag::O_CREAT | OFlag::O_EXCL;
            match openat(&self.descriptor, name, new, mode) {
                Ok(made) => return Ok((made.into(), true)),
                Err(Errno::EEXIST) => {}
                Err(error) => return Err(error.into()),
            }
            // Before it is opened, which may have effects; and again of what was opened, which may be something else by now.
            match fstatat(&self.descriptor, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
                Ok(there) => self.accept(&there, wanted)?,
                Err(Errno::ENOENT) => continue,
                Err(error) => return Err(error.into()),
            }
            let opened = match openat(&self.descriptor, name, flags, mode) {
                // Nobody reads the FIFO: being its own reader, this finds one.
                Err(Errno::ENXIO) if wanted == Kind::Log => {
                    let both = flags.difference(OFlag::O_ACCMODE) | OFlag::O_RDWR;
                    openat(&self.descriptor, name, both, mode)
                }
                opened => opened,
            };
            let file = match opened {
                Ok(file) => file,
                Err(Errno::ENOENT) => continue,
                Err(Errno::ELOOP) => return Err(refusal(A_LINK.into())),
                Err(error) => return Err(error.into()),
            };
            let found = fstat(&file)?;
            if found.st_nlink == 0 {
                continue;
            }
            self.accept(&found, wanted)?;
            return Ok((file.into(), false));
        }
        Err(refusal("it comes and goes all the time".into()))
    }

    fn accept(&self, found: &FileStat, wanted: Kind) -> io::Result<()> {
        let owner = Uid::from_raw(found.st_uid);
        let refused = match kind(found) {
            SFlag::S_IFLNK => Some(A_LINK.to_owned()),
            SFlag::S_IFREG | SFlag::S_IFIFO if found.st_nlink > 1 => Some(format!(
                "it has {} names (hard links), and what is done to one is done to all; remove it, or name another file",
                found.st_nlink
            )),
            SFlag::S_IFREG => None,
            SFlag::S_IFIFO | SFlag::S_IFCHR if wanted == Kind::Log => None,
            _ => Some("it is not a plain file; remove it, or name another file".to_owned()),
        };
        if let Some(refused) = refused {
            return Err(refusal(refused));
        }
        let known = match self.control {
            Control::Theirs(account) => {
                owner == account.uid || is_device(found) && is_the_systems(owner)
            }
            Control::Ours | Control::Shared => {
                let account = self.account.map(|account| account.uid);
                owner == geteuid() || is_the_systems(owner) || Some(owner) == account
            }
        };
        if known {
            return Ok(());
        }
        Err(refusal(format!(
            "it belongs to the user {}, who is not the one that the server works as; remove it, or `chown` it",
            called(owner)
        )))
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

const A_LINK: &str =
    "it is a link, and is not followed; name the file itself that it leads to, or remove the link";

/// Whether that is root, or somebody outside of our user namespace, whom nobody in it can be.
pub fn is_the_systems(owner: Uid) -> bool {
    owner.is_root() || (is_unmapped(owner) && !has_everybody())
}

/// What stands for all users that a namespace does not have.
fn is_unmapped(owner: Uid) -> bool {
    let number = std::fs::read_to_string("/proc/sys/kernel/overflowuid");
    number.is_ok_and(|number| number.trim() == owner.to_string())
}

/// Whether our user namespace has all users that there are.
fn has_everybody() -> bool {
    // Where it cannot be read there are no namespaces.
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace()
        .eq(["0", "0", "4294967295"].iter().copied())
        || map.is_empty()
}

fn act_as<T>(account: Account, act: impl FnOnce() -> T) -> io::Result<T> {
    let (group, groups) = (getegid(), getgroups()?);
    setgroups(&[account.gid])?;
    setegid(account.gid)?;
    seteuid(account.uid)?;
    let done = act();
    seteuid(Uid::from_raw(0))?;
    setegid(group)?;
    setgroups(&groups)?;
    Ok(done)
}

fn give(what: &OwnedFd, account: Account) -> io::Result<()> {
    let (uid, gid) = (Some(account.uid), Some(account.gid));
    Ok(fchownat(what, "", uid, gid, AtFlags::AT_EMPTY_PATH)?)
}

/// The names on a way, the first one last.
fn names(path: &Path) -> Vec<OsString> {
    let mut names: Vec<_> = path
        .components()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
        .map(|part| part.as_os_str().to_owned())
        .collect();
    names.reverse();
    names
}

fn kind(found: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT
}

fn is_device(found: &FileStat) -> bool {
    kind(found) == SFlag::S_IFCHR
}

fn others_write(found: &FileStat) -> bool {
    found.st_mode & Mode::S_IWOTH.bits() != 0
}

fn group_writes(found: &FileStat) -> bool {
    found.st_mode & Mode::S_IWGRP.bits() != 0 && found.st_gid != 0
}

fn called(user: Uid) -> String {
    match nix::unistd::User::from_uid(user) {
        Ok(Some(found)) => format!("{:?} ({user})", found.name),
        _ => user.to_string(),
    }
}

fn refusal(sentence: String) -> io::Error {
    io::Error::new(ErrorKind::PermissionDenied, sentence)
}

#[cfg(test)]
mod tests;
