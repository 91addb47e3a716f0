//! Starting in the background: the executable is started again, detached, and says on its standard output when it is ready or why not.
//!
//! No process is ever forked without executing: what runs in the background has begun at `main`, like everything else.

use std::io::{self, BufRead, BufReader};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};

use role::logging;
use serde::{Deserialize, Serialize};

use crate::source::Source;
use crate::user;

/// What the detached process says, once, as one line of JSON.
#[derive(Debug, Serialize, Deserialize)]
struct Outcome {
    ready: bool,
    text: String,
}

/// Starts the server in the background and waits until it is ready. The text is what to tell the user.
///
/// # Errors
/// Why it did not become ready; nothing is left running.
pub fn start(executable: &Path, config: Option<&Path>) -> Result<String, String> {
    let settings = Source::new(config, true)
        .load()
        .map_err(|problems| problems.to_string())?
        .server;
    let account = user::Target::find(&settings.user)?.map(|target| target.account);
    let log = logging::open(&settings.log_file, account, true).map_err(|e| e.to_string())?;
    let cannot = |e: io::Error| format!("{} cannot be started: {e}", executable.display());
    let (reader, writer) = io::pipe().map_err(cannot)?;
    let mut command = Command::new(executable);
    command
        .arg("--detached")
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(Stdio::from(OwnedFd::from(log)));
    if let Some(config) = config {
        command.arg("--config").arg(config);
    }
    let mut child = command.spawn().map_err(cannot)?;
    // The command holds the writing end; without it the pipe ends with the child.
    drop(command);
    let mut line = String::new();
    BufReader::new(reader)
        .read_line(&mut line)
        .map_err(cannot)?;
    match serde_json::from_str(&line) {
        Ok(Outcome { ready: true, text }) => Ok(format!(
            "{text}\n  log         {}",
            settings.log_file.display()
        )),
        Ok(Outcome { ready: false, text }) => {
            // It ends now; the exit status says no more than the text does.
            let _ = child.wait();
            Err(text)
        }
        Err(_) => {
            let status = child
                .wait()
                .map_or_else(|e| e.to_string(), |s| s.to_string());
            Err(format!(
                "it ended before it was ready ({status}); see {}",
                settings.log_file.display()
            ))
        }
    }
}

/// Leaves the session of the terminal. For the detached process, first.
///
/// # Errors
/// What the system says.
pub fn detach() -> io::Result<()> {
    nix::unistd::setsid()?;
    Ok(())
}

/// Tells the one who waits, and lets go of standard output. For the detached process, once.
pub fn tell(outcome: Result<&str, &str>) {
    let (ready, text) = match outcome {
        Ok(text) => (true, text),
        Err(text) => (false, text),
    };
    let line = serde_json::to_string(&Outcome {
        ready,
        text: text.into(),
    })
    .unwrap_or_default();
    // Who started us may have been killed meanwhile; the server runs all the same.
    // It waits for this line, so that there is room for it; where it has been stopped, the server does not wait for it.
    let _ = logging::print(io::stdout().as_fd(), &line);
    let released = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/null")
        .and_then(|null| nix::unistd::dup2_stdout(null).map_err(io::Error::from));
    if let Err(error) = released {
        tracing::warn!(%error, "standard output stays open");
    }
}
