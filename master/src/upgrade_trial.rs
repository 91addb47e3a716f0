//! The trial: before a master executes another executable, that is started as a child and shown everything that it would have to take
//! over. It looks whether it could, touches nothing, says so in one line, and ends.
//!
//! Only this very line counts as a yes: a program that is no Steadfast, or ends well without a word, has not said it.

use std::fs::File;
use std::io::{self, PipeReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use role::logging;
use serde::{Deserialize, Serialize};
use shm_table::Table;

use crate::image::Image;
use crate::process::{Ending, Process};
use crate::upgrade_state::{FORMAT, State};

/// How long a trial may take.
pub const TRIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// What of an answer that is none is quoted.
const QUOTED_MAX: usize = 200;

/// What the executable on trial says, once, as one line of JSON.
#[derive(Debug, Serialize, Deserialize)]
struct Verdict {
    can_take_over: bool,
    format: u32,
    version: String,
    #[serde(default)]
    reason: String,
}

/// A trial in progress.
pub struct Trial {
    process: Process,
    answer: PipeReader,
    until: Instant,
    too_late: bool,
}

impl Trial {
    /// Begins one. `memory` holds the state, and is read from its beginning.
    ///
    /// # Errors
    /// What the system says; an executable that cannot be executed among it.
    pub fn begin(image: &Image, memory: &File) -> io::Result<Self> {
        let (answer, theirs) = io::pipe()?;
        fcntl(&answer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let process = Process::start(
            image
                .command()
                .arg("--takeover-trial")
                .stdin(Stdio::from(memory.try_clone()?))
                .stdout(theirs)
                .process_group(0),
        )?;
        Ok(Self {
            process,
            answer,
            until: Instant::now() + TRIAL_TIMEOUT,
            too_late: false,
        })
    }

    /// When [`Self::outcome`] has something to do although nothing ended.
    pub fn until(&self) -> Option<Instant> {
        (!self.too_late).then_some(self.until)
    }

    /// The version of the executable, if it can take over, or why not; `None` while it has not ended.
    pub fn outcome(&mut self, now: Instant) -> Option<Result<String, String>> {
        let Some(ending) = self.process.ended() else {
            if now >= self.until && !self.too_late {
                self.too_late = true;
                // It may be gone by itself.
                let _ = self.process.kill();
            }
            return None;
        };
        if self.too_late {
            let seconds = TRIAL_TIMEOUT.as_secs();
            return Some(Err(format!(
                "it did not say within {seconds} s whether it can"
            )));
        }
        let mut said = Vec::new();
        // What was written is there; the end of the pipe may not be, if a child of its has it.
        let _ = self.answer.read_to_end(&mut said);
        Some(judge(&said, ending))
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        self.process.end_now();
    }
}

fn judge(said: &[u8], ending: Ending) -> Result<String, String> {
    match serde_json::from_slice(said) {
        Ok(Verdict {
            can_take_over: true,
            format: FORMAT,
            version,
            ..
        }) if ending == Ending::Exited(0) => Ok(version),
        Ok(Verdict { reason, .. }) if !reason.is_empty() => Err(reason),
        _ => {
            let text = String::from_utf8_lossy(&said[..said.len().min(QUOTED_MAX)]);
            let said = match text.trim() {
                "" => "nothing".to_owned(),
                text => format!("{text:?}"),
            };
            Err(format!(
                "it was asked whether it can and said {said} ({ending})"
            ))
        }
    }
}

/// Is the executable on trial.
pub fn run() -> ExitCode {
    let outcome = look();
    let verdict = Verdict {
        can_take_over: outcome.is_ok(),
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").into(),
        reason: outcome.err().unwrap_or_default(),
    };
    let line = serde_json::to_string(&verdict).unwrap_or_default();
    match writeln!(io::stdout(), "{line}") {
        Ok(()) if verdict.can_take_over => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn look() -> Result<(), String> {
    let mut text = Vec::new();
    io::stdin()
        .read_to_end(&mut text)
        .map_err(|e| format!("what is handed over cannot be read: {e}"))?;
    verify(&text, nix::unistd::getppid().as_raw()).map(drop)
}

/// Looks whether this executable can take over from the process `master`, and touches nothing.
///
/// # Errors
/// Why not.
pub fn verify(text: &[u8], master: i32) -> Result<(State, Table), String> {
    let state = State::parse(text)?;
    let table = Table::attach(&state.segment).map_err(|e| e.to_string())?;
    state.check(&table, master)?;
    let returns = state.refused.is_some();
    if !returns && !state.config.server.log_file.as_os_str().is_empty() {
        logging::open(&state.config.server.log_file).map_err(|e| e.to_string())?;
    }
    Ok((state, table))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clear_yes_is_one() {
        let well = Ending::Exited(0);
        let yes = format!(r#"{{"can_take_over":true,"format":{FORMAT},"version":"2.0"}}"#);
        assert_eq!(judge(yes.as_bytes(), well), Ok("2.0".to_owned()));
        assert!(judge(yes.as_bytes(), Ending::Exited(1)).is_err());
        assert!(judge(format!("{yes}{yes}").as_bytes(), well).is_err());
        assert!(judge(b"", well).unwrap_err().contains("nothing"));
        assert!(judge(b"yes\n", well).unwrap_err().contains("\"yes\""));
        let other = yes.replace(&format!("\"format\":{FORMAT}"), "\"format\":99");
        assert!(judge(other.as_bytes(), well).is_err());
        let no = br#"{"can_take_over":false,"format":1,"version":"2.0","reason":"no room"}"#;
        assert_eq!(judge(no, Ending::Exited(1)), Err("no room".to_owned()));
    }
}
