//! For how long a connection has been waiting for the process that serves it, as the kernel sees it.

use std::io;
use std::os::fd::BorrowedFd;

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{queue, tcp_info};

/// What a connection has for its process. Both are at least so long: a client that goes on sending, or acknowledging, makes them shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Milliseconds since the last data came, if there is some that nobody has read.
    pub input_ms: Option<u32>,
    /// Milliseconds since the last acknowledgement came, if there is room to write.
    pub room_ms: Option<u32>,
}

/// For how long a connection has been waiting.
///
/// # Errors
///
/// The system's: no TCP socket (`EOPNOTSUPP`). A kernel older than 4.1 does not tell (`Unsupported`).
pub fn waiting(socket: BorrowedFd<'_>) -> io::Result<Waiting> {
    let unread = queue(socket, libc::FIONREAD)?;
    let mut asked = [PollFd::new(socket, PollFlags::POLLOUT)];
    poll(&mut asked, PollTimeout::ZERO)?;
    let has_room = asked[0]
        .revents()
        .is_some_and(|events| events.contains(PollFlags::POLLOUT));
    // Asked last: what came before this line came that long ago at least.
    let info = tcp_info(socket)?;
    Ok(Waiting {
        input_ms: (unread > 0).then_some(info.last_data_recv),
        room_ms: has_room.then_some(info.last_ack_recv),
    })
}
