//! The command line's end of the control socket.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::control::{Reply, Request, socket_path};
use crate::{pid_file, status};

/// How long the server may take to answer. It answers between two turns, so this is for one that is stuck.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Past the time that the server gives itself to stop.
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

/// Has the server read its configuration again.
///
/// # Errors
/// Why it would not, or there is none.
pub fn reload(pid_file: &Path) -> Result<String, String> {
    let (reply, _) = ask(pid_file, Request::Reload)?;
    if reply.ok {
        Ok(reply.text)
    } else {
        Err(format!(
            "reload refused, the server goes on as before:\n{}",
            reply.text
        ))
    }
}

/// Stops the server and waits until it is gone: the connection ends when its last descriptor is closed.
///
/// # Errors
/// There is none, or it is still there after the time it gave itself.
pub fn stop(pid_file: &Path) -> Result<String, String> {
    let (reply, mut stream) = ask(pid_file, Request::Stop)?;
    let patience = Duration::from_millis(reply.within_ms.unwrap_or(0)) + MARGIN;
    let gone = stream
        .get_ref()
        .set_read_timeout(Some(patience))
        .and_then(|()| stream.read(&mut [0]));
    match gone {
        Ok(0) => Ok("stopped".into()),
        Err(e) if e.kind() == io::ErrorKind::ConnectionReset => Ok("stopped".into()),
        _ => Err(format!(
            "the server is still there after {} s",
            patience.as_secs()
        )),
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
    stream.write_all(line.as_bytes()).map_err(silent)?;
    let mut reader = BufReader::new(stream);
    line.clear();
    reader.read_line(&mut line).map_err(silent)?;
    let reply = serde_json::from_str(&line)
        .map_err(|e| format!("the server's answer cannot be read: {e}"))?;
    Ok((reply, reader))
}
