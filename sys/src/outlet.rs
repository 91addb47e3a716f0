//! Writing to a descriptor without ever waiting for whoever reads at its other end.
//!
//! `O_NONBLOCK` belongs to the open file description, and that of a process's standard error is usually shared: with the shell that
//! started it, with what else runs there. Setting it would make *their* writes fail. So [`unshared`] opens the same pipe or terminal anew,
//! which gives a description of our own. Where the system does not allow that (it is another user's, and we are not root), [`write`] asks
//! for a write that does not wait, and on a system that has none for this descriptor looks first whether there is room for a small piece.

use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, send};
use nix::sys::stat::{Mode, SFlag, fstat};

/// What `pipe(7)` writes whole or not at all, and takes without waiting once it has said that there is room.
const PIPE_PIECE: usize = 4096;

/// What a terminal takes without waiting once it has said that there is room (`WAKEUP_CHARS` in the kernel).
const TERMINAL_PIECE: usize = 256;

/// How a descriptor is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outlet {
    /// A file on a disk: nobody reads at its other end.
    File,
    /// A socket, which can be asked each time not to wait.
    Socket,
    /// A pipe or a terminal that does not wait.
    NonBlocking,
    /// A pipe or a terminal whose description is others' as well: in pieces of at most so many bytes.
    Shared(usize),
}

impl Outlet {
    /// What a descriptor is. One that cannot be looked at is taken for the most difficult.
    pub fn of(descriptor: impl AsFd) -> Self {
        let kind = fstat(&descriptor).map_or(SFlag::S_IFCHR, |stat| {
            SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
        });
        let piece = match kind {
            SFlag::S_IFSOCK => return Self::Socket,
            SFlag::S_IFIFO => PIPE_PIECE,
            SFlag::S_IFCHR => TERMINAL_PIECE,
            _ => return Self::File,
        };
        match fcntl(descriptor, FcntlArg::F_GETFL) {
            Ok(flags) if OFlag::from_bits_truncate(flags).contains(OFlag::O_NONBLOCK) => {
                Self::NonBlocking
            }
            _ => Self::Shared(piece),
        }
    }
}

/// Writes what there is room for now, which may be less than `bytes`.
///
/// # Errors
/// `WouldBlock` when there is no room; otherwise what the system says.
pub fn write(to: BorrowedFd<'_>, outlet: Outlet, bytes: &[u8]) -> io::Result<usize> {
    loop {
        let written = match outlet {
            Outlet::File | Outlet::NonBlocking => nix::unistd::write(to, bytes).map_err(Into::into),
            Outlet::Socket => send(
                to.as_raw_fd(),
                bytes,
                MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL,
            )
            .map_err(Into::into),
            Outlet::Shared(piece) => write_shared(to, piece, bytes),
        };
        match written {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            written => return written,
        }
    }
}

/// The same pipe or terminal with a description of its own that does not wait, closed on exec; `None` for what needs none.
///
/// # Errors
/// What the system says; another user's pipe is not opened, for example.
pub fn unshared(descriptor: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>> {
    if !matches!(Outlet::of(descriptor), Outlet::Shared(_)) {
        return Ok(None);
    }
    let path = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
    let flags =
        OFlag::O_WRONLY | OFlag::O_APPEND | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    Ok(Some(open(path.as_str(), flags, Mode::empty())?))
}

fn write_shared(to: BorrowedFd<'_>, piece: usize, bytes: &[u8]) -> io::Result<usize> {
    match write_at_once(to, bytes) {
        Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINVAL) => {}
        result => return Ok(result?),
    }
    write_where_room(to, piece, bytes)
}

/// Writes a piece after the descriptor has said that it has room for one. Another process that writes there at this very moment may take that
/// room, and then this waits; nobody but an old kernel and a pipe of another user makes that possible.
fn write_where_room(to: BorrowedFd<'_>, piece: usize, bytes: &[u8]) -> io::Result<usize> {
    let mut ends = [PollFd::new(to, PollFlags::POLLOUT)];
    if poll(&mut ends, PollTimeout::ZERO)? == 0 {
        return Err(ErrorKind::WouldBlock.into());
    }
    Ok(nix::unistd::write(to, &bytes[..bytes.len().min(piece)])?)
}

/// Writes without waiting, whatever the description says. Not every kernel can, nor for every kind of file: pipes since 6.5.
fn write_at_once(to: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
    let piece = IoSlice::new(bytes);
    // SAFETY: one `iovec`, with which an `IoSlice` shares its layout, of bytes that live through the call and are only read; the position -1
    // means where the file stands. The descriptor is open as long as it is borrowed.
    let written = unsafe {
        libc::pwritev2(
            to.as_raw_fd(),
            (&raw const piece).cast(),
            1,
            -1,
            libc::RWF_NOWAIT,
        )
    };
    Errno::result(written).map(isize::cast_unsigned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    /// Writes until there is no room: how many bytes there were room for.
    fn fill(to: impl AsFd, outlet: Outlet) -> usize {
        let mut taken = 0;
        loop {
            match write(to.as_fd(), outlet, &[b'x'; 1000]) {
                Ok(count) => taken += count,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
                    return taken;
                }
            }
        }
    }

    #[test]
    fn a_shared_pipe_is_never_waited_for_and_stays_as_it_was() {
        let (mut reader, writer) = io::pipe().unwrap();
        let outlet = Outlet::of(&writer);
        assert_eq!(outlet, Outlet::Shared(PIPE_PIECE));
        let taken = fill(&writer, outlet);
        assert!(taken >= PIPE_PIECE, "{taken}");
        assert_eq!(Outlet::of(&writer), outlet, "others still wait there");
        reader.read_exact(&mut vec![0; taken]).unwrap();
        assert!(write(writer.as_fd(), outlet, b"again").is_ok());
    }

    #[test]
    fn without_such_a_write_room_is_looked_for_first() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut taken = 0;
        let error = loop {
            match write_where_room(writer.as_fd(), PIPE_PIECE, &[b'x'; 3 * PIPE_PIECE]) {
                Ok(count) => taken += count,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        reader.read_exact(&mut vec![0; taken]).unwrap();
        assert_eq!(
            write_where_room(writer.as_fd(), PIPE_PIECE, b"again").unwrap(),
            5
        );
    }

    #[test]
    fn a_pipe_opened_anew_does_not_wait_and_is_the_same_pipe() {
        let (mut reader, writer) = io::pipe().unwrap();
        let own = unshared(writer.as_fd()).unwrap().unwrap();
        assert_eq!(Outlet::of(&own), Outlet::NonBlocking);
        assert_eq!(Outlet::of(&writer), Outlet::Shared(PIPE_PIECE));
        drop(writer);
        write(own.as_fd(), Outlet::NonBlocking, b"hello").unwrap();
        let mut heard = [0; 5];
        reader.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"hello");
        fill(&own, Outlet::NonBlocking);
    }

    #[test]
    fn sockets_and_files_are_written_as_they_are() {
        let (mut there, here) = UnixStream::pair().unwrap();
        assert_eq!(Outlet::of(&here), Outlet::Socket);
        assert!(unshared(here.as_fd()).unwrap().is_none());
        let taken = fill(&here, Outlet::Socket);
        there.read_exact(&mut vec![0; taken]).unwrap();

        let path = std::env::temp_dir().join(format!("steadfast-outlet-{}", std::process::id()));
        let mut file = std::fs::File::create(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(Outlet::of(&file), Outlet::File);
        assert!(unshared(file.as_fd()).unwrap().is_none());
        assert_eq!(write(file.as_fd(), Outlet::File, b"line").unwrap(), 4);
        file.flush().unwrap();
    }

    #[test]
    fn a_pipe_without_a_reader_is_an_error_and_no_signal() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let error = write(writer.as_fd(), Outlet::of(&writer), b"x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    }
}
