//! How far a TCP connection got by the kernel's account: how many bytes processes took from it and gave to it.
//!
//! The kernel keeps this account whoever holds the descriptor and whoever died with it in hand, so a successor learns from it what a
//! dead process had read or written and not yet recorded.

use std::io;
use std::mem::{MaybeUninit, offset_of, size_of};
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::libc;

/// Bytes of one connection since it began, the same for every process that holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Bytes taken from the socket's receive queue.
    pub consumed: u64,
    /// Bytes put into its send queue, whether or not they were sent or acknowledged.
    pub written: u64,
}

/// How often a reading is repeated that the network spoilt. Each time costs about two microseconds, and a packet must fall into every one.
const TRIES_MAX: usize = 1000;

/// The counts of a connection, each exact for an instant during the call.
///
/// They begin at 0 for an accepted connection, and at 0 and 1 for one that was made by `connect` (its SYN was acknowledged). A FIN is not
/// counted, neither the peer's nor ours.
///
/// A byte sent as *urgent* is counted right only with `SO_OOBINLINE`. Without it the kernel says that the receive queue ends before that
/// byte, so that it and all behind it seem consumed at once; and because it is received and not read, one byte too many is consumed ever after.
///
/// When the connection is over (reset, timed out, or both sides ended): `consumed` stays exact, and so does what is still to be read.
/// `written` stays exact if our direction was not shut down; if it was, our FIN may be counted (the kernel no longer tells whether it was
/// queued), which matters to nobody, because nothing can be written any more. Asking takes a pending error (`ECONNRESET`) from such a
/// socket: its next read finds the end instead.
///
/// # Errors
///
/// `ResourceBusy` if packets came in so fast that no reading was undisturbed: ask again. Else the system's: no TCP socket (`EOPNOTSUPP`),
/// one that listens (`EINVAL`). A kernel older than 4.1 does not count (`Unsupported`).
pub fn counts(socket: BorrowedFd<'_>) -> io::Result<Counts> {
    let mut before = info(socket)?;
    for _ in 0..TRIES_MAX {
        let unread = queue(socket, libc::FIONREAD)?;
        let unacknowledged = queue(socket, libc::TIOCOUTQ)?;
        let after = info(socket)?;
        // As long as nothing was received or acknowledged in between, a queue changed only by our side's reads and writes, which is what
        // is counted. The state is compared as well because the kernel reads it a moment before the rest, without a lock: states are
        // never gone back to, so one that is still the same after the counts were read is the state they belong to.
        if before == after {
            let fin_received = match before.state {
                CLOSE => fin_was_received(socket, unread)?,
                state => matches!(state, CLOSE_WAIT | LAST_ACK | CLOSING | TIME_WAIT),
            };
            // A read in between would have spoilt the comparison that the answer comes from.
            if before.state == CLOSE && queue(socket, libc::FIONREAD)? != unread {
                continue;
            }
            let fin_sent = matches!(
                before.state,
                FIN_WAIT1 | FIN_WAIT2 | CLOSING | LAST_ACK | TIME_WAIT
            );
            return Ok(Counts {
                consumed: before
                    .bytes_received
                    .saturating_sub(unread + u64::from(fin_received)),
                written: (before.bytes_acked + unacknowledged).saturating_sub(u64::from(fin_sent)),
            });
        }
        before = after;
    }
    Err(io::Error::new(
        io::ErrorKind::ResourceBusy,
        "the connection receives too fast for its bytes to be counted",
    ))
}

// States of a connection, from the kernel's net/tcp_states.h.
const FIN_WAIT1: u8 = 4;
const FIN_WAIT2: u8 = 5;
const TIME_WAIT: u8 = 6;
const CLOSE: u8 = 7;
const CLOSE_WAIT: u8 = 8;
const LAST_ACK: u8 = 9;
const CLOSING: u8 = 11;

/// The beginning of the kernel's `struct tcp_info` (linux/tcp.h), which only grows at its end.
#[repr(C)]
#[derive(Clone, Copy)]
struct TcpInfo {
    state: u8,
    _unused: [u8; 51],
    last_data_recv: u32,
    last_ack_recv: u32,
    _unused_either: [u8; 60],
    bytes_acked: u64,
    bytes_received: u64,
}

const _: () = {
    assert!(offset_of!(TcpInfo, last_data_recv) == 52);
    assert!(offset_of!(TcpInfo, last_ack_recv) == 56);
    assert!(offset_of!(TcpInfo, bytes_acked) == 120);
    assert!(offset_of!(TcpInfo, bytes_received) == 128);
    assert!(size_of::<TcpInfo>() == 136);
};

/// What [`counts`] needs of it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Info {
    state: u8,
    bytes_acked: u64,
    bytes_received: u64,
}

fn info(socket: BorrowedFd<'_>) -> io::Result<Info> {
    let info = tcp_info(socket)?;
    Ok(Info {
        state: info.state,
        bytes_acked: info.bytes_acked,
        bytes_received: info.bytes_received,
    })
}

fn tcp_info(socket: BorrowedFd<'_>) -> io::Result<TcpInfo> {
    let mut info = MaybeUninit::<TcpInfo>::zeroed();
    let mut bytes = size_of::<TcpInfo>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `bytes` bytes, which is the size of `info`, and the new length into `bytes`; both live here.
    let status = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut bytes,
        )
    };
    if status < 0 {
        return Err(io::Error::last_os_error());
    }
    if (bytes as usize) < size_of::<TcpInfo>() {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "this kernel does not count the bytes of a connection",
        ));
    }
    // SAFETY: it was zeroed, and every value of its integers is valid.
    Ok(unsafe { info.assume_init() })
}

/// The bytes in a queue: `FIONREAD` for the receive queue, `TIOCOUTQ` for the send queue (sent and not acknowledged, and not sent).
fn queue(socket: BorrowedFd<'_>, request: libc::Ioctl) -> io::Result<u64> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: both requests write one int, to the address given.
    let status = unsafe { libc::ioctl(socket.as_raw_fd(), request, &raw mut bytes) };
    if status < 0 {
        return Err(io::Error::last_os_error());
    }
    // Never negative: a queue's length.
    Ok(bytes.unsigned_abs().into())
}

/// Whether the peer's FIN is counted in a connection that is over, whose state no longer tells.
///
/// What the kernel hints to a reader about his next read counts the FIN (1 if nothing but the FIN is there, read or not); the queue's
/// length, `unread`, does not. The hint comes with a read, here of nothing.
fn fin_was_received(socket: BorrowedFd<'_>, unread: u64) -> io::Result<bool> {
    /// From linux/tcp.h: both the option and the type of the control message.
    const TCP_INQ: libc::c_int = 36;

    let on: libc::c_int = 1;
    // SAFETY: the kernel reads one int from the address given.
    let status = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            TCP_INQ,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if status < 0 {
        return Err(io::Error::last_os_error());
    }

    let mut byte = 0_u8;
    let mut part = libc::iovec {
        iov_base: (&raw mut byte).cast(),
        iov_len: 1,
    };
    let mut control = [0_u64; 8];
    // SAFETY: all zeroes are a valid `msghdr`: null pointers with lengths of 0.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control) as _;
    // SAFETY: `message` describes `byte` and `control` with their lengths, and both live through the call.
    let status = unsafe {
        libc::recvmsg(
            socket.as_raw_fd(),
            &raw mut message,
            libc::MSG_PEEK | libc::MSG_DONTWAIT,
        )
    };
    if status < 0 {
        // A read that is told of an error did not find a FIN: the kernel looks for it first.
        return Ok(false);
    }
    // SAFETY: the kernel has set `msg_controllen` to what it wrote to `control`, which is aligned as a header; the header found is
    // followed by as many bytes as it says, and an int is what this option's message carries.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while let Some(found) = header.as_ref() {
            if found.cmsg_level == libc::IPPROTO_TCP && found.cmsg_type == TCP_INQ {
                let hint = libc::CMSG_DATA(header)
                    .cast::<libc::c_int>()
                    .read_unaligned();
                return Ok(u64::from(hint.unsigned_abs()) > unread);
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
    }
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "this kernel does not tell whether the connection's peer ended it",
    ))
}

mod waiting;

pub use waiting::{Waiting, waiting};

#[cfg(test)]
mod tests;
