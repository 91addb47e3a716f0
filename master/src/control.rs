//! What is said on the control socket: one request and its reply, each one JSON object on a line. What takes time is announced in a reply
//! of its own before.

use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, socket};
use serde::{Deserialize, Serialize};

use crate::status::Status;

/// What a person may ask of a running server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "lowercase")]
pub enum Request {
    Status,
    /// Answered at first with the time it may take, and then with its outcome.
    Reload,
    /// Answered like a reload: by the master of after, or if it failed by the one of before.
    Upgrade,
    /// Answered like a reload, by what was found.
    Audit,
    /// Answered at once; the connection is closed when the server is gone.
    Stop,
}

/// The server's answer.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Reply {
    /// Whether it was done.
    pub ok: bool,
    /// For a person: what was done, or why not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// Another reply follows, in `within_ms` at the most.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
    /// How long what was asked for may take, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within_ms: Option<u64>,
    /// To a status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Box<Status>>,
}

impl Reply {
    /// From the outcome of what was asked.
    pub fn of(result: Result<String, String>) -> Self {
        let ok = result.is_ok();
        Self {
            ok,
            text: result.unwrap_or_else(|reason| reason),
            ..Self::default()
        }
    }
}

/// Who listens on a control socket, without waiting: `None` is nobody, and `Some(None)` somebody who has no pid here, as one in another pid
/// namespace, or who is too busy to be asked. The kernel says it, so it is true whatever stands in a file.
pub fn listener(path: &Path) -> Option<Option<i32>> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None).ok()?;
    match connect(socket.as_raw_fd(), &UnixAddr::new(path).ok()?) {
        Ok(()) => {
            let peer = getsockopt(&socket, PeerCredentials).ok();
            Some(peer.map(|peer| peer.pid()).filter(|&pid| pid > 0))
        }
        Err(Errno::EAGAIN) => Some(None),
        Err(_) => None,
    }
}

/// The control socket lies beside the pid file.
pub fn socket_path(pid_file: &Path) -> PathBuf {
    pid_file.with_extension("sock")
}
