//! The command line's end of the control socket.

use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerPidfd;

use crate::control::{Reply, Request, socket_path};
use crate::{pid_file, status};

/// How long the server may take to answer, if it says nothing else. It answers between two turns, so this is for one that is stuck.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Past the time that the server gives itself.
const MARGIN: Duration = Duration::from_secs(5);

/// Shows how the server is.
///
/// # Errors
/// A sentence: there is none, or it does not answer.
pub fn status(pid_file: &Path, json: bool) -> Result<String, String> {
    let (reply, _) = ask(pid_file, Request::Status)?;
    let status = reply.status.ok_or_else(|| reply.text.clone())?;
    if json {
        serde_json::to_string(&status).map_err(|e| e.to_string())
    } else {
        Ok(status::text(&status))
    }
}

/// Has the server read its configuration again and replace its processes by the executable on disk; returns when that is over.
///
/// # Errors
/// Why it would not or could not, or there is none.
pub fn reload(pid_file: &Path) -> Result<String, String> {
    outcome(pid_file, Request::Reload)
}

/// Has the master execute the executable on disk in its own place; returns when it has.
///
/// # Errors
/// Why it would not or could not, or there is none.
pub fn upgrade(pid_file: &Path) -> Result<String, String> {
    outcome(pid_file, Request::Upgrade)
}

/// Has the server compare its table, its connections and the kernel's account of them.
///
/// # Errors
/// What does not fit, or there is none.
pub fn audit(pid_file: &Path) -> Result<String, String> {
    outcome(pid_file, Request::Audit)
}

fn outcome(pid_file: &Path, request: Request) -> Result<String, String> {
    let (reply, _) = ask(pid_file, request)?;
    if reply.ok {
        Ok(reply.text)
    } else {
        Err(reply.text)
    }
}

/// Stops the server and waits until its process is gone.
///
/// # Errors
/// There is none, or it is still there after the time it gave itself.
pub fn stop(pid_file: &Path) -> Result<String, String> {
    let (reply, stream) = ask(pid_file, Request::Stop)?;
    let patience = Duration::from_millis(reply.within_ms.unwrap_or(0)) + MARGIN;
    match wait_for_end(stream.get_ref(), patience) {
        Ok(true) => Ok("stopped".into()),
        Ok(false) => Err(format!(
            "the server is still there after {} s",
            patience.as_secs()
        )),
        Err(e) => Err(format!(
            "whether the server has stopped cannot be seen: {e}"
        )),
    }
}

/// Waits for the end of the process at the other end. The connection is closed by the end of that process, but a moment before it is
/// over; the kernel's handle for the process says when it is. Kernels before 6.5 do not give one.
fn wait_for_end(stream: &UnixStream, patience: Duration) -> io::Result<bool> {
    let process: Option<OwnedFd> = getsockopt(stream, PeerPidfd).ok();
    let until = Instant::now() + patience;
    let end = process.as_ref().map_or(stream.as_fd(), AsFd::as_fd);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(end, PollFlags::POLLIN)], timeout) {
            Ok(1) => return Ok(true),
            Ok(_) if left.is_zero() => return Ok(false),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

fn ask(pid_file: &Path, request: Request) -> Result<(Reply, BufReader<UnixStream>), String> {
    let path = socket_path(pid_file);
    let mut stream = UnixStream::connect(&path).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            if !pid_file::is_locked(pid_file) =>
        {
            format!("no server runs with the pid file {}", pid_file.display())
        }
        _ => format!(
            "the control socket {} cannot be reached: {e}",
            path.display()
        ),
    })?;
    let silent = |e: io::Error| format!("the server does not answer on {}: {e}", path.display());
    stream
        .set_read_timeout(Some(ANSWER_TIMEOUT))
        .map_err(silent)?;
    let mut line = serde_json::to_string(&request).map_err(|e| e.to_string())?;
    line.push('\n');
    match stream.write_all(line.as_bytes()) {
        // One who is not asked to go on is told why before anything is read.
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {}
        written => written.map_err(silent)?,
    }
    let mut reader = BufReader::new(stream);
    loop {
        line.clear();
        reader.read_line(&mut line).map_err(silent)?;
        if line.is_empty() {
            return Err("the server has ended without an answer".into());
        }
        let reply: Reply = serde_json::from_str(&line)
            .map_err(|e| format!("the server's answer cannot be read: {e}"))?;
        if !reply.more {
            return Ok((reply, reader));
        }
        let patience = Duration::from_millis(reply.within_ms.unwrap_or(0)) + MARGIN;
        reader
            .get_ref()
            .set_read_timeout(Some(patience))
            .map_err(silent)?;
    }
}
