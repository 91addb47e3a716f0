//! The trial: before a master executes another executable, that is started as a child and shown everything that it would have to take
//! over. It looks whether it could, touches nothing, says so in one line, and ends.
//!
//! Only this very line counts as a yes: a program that is no Steadfast, or ends well without a word, has not said it.

use std::fs::File;
use std::io::{self, PipeReader, Read, Write};
use std::os::fd::RawFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use role::logging;
use serde::{Deserialize, Serialize};
use shm_table::{Identity, Table};
use sys::inherit;

use crate::image::Image;
use crate::process::{Ending, Process};
use crate::segment::Segment;
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
    /// Begins one. `memory` holds the state, and is read from its beginning; `segment` is what it says of the table.
    ///
    /// # Errors
    /// What the system says; an executable that cannot be executed among it.
    pub fn begin(image: &Image, memory: &File, segment: &Segment) -> io::Result<Self> {
        let (answer, theirs) = io::pipe()?;
        fcntl(&answer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        // Until the process is started.
        let _passing = inherit::pass_on(segment.table.file().into_iter().collect())?;
        let process = Process::start(
            image
                .command()
                .arg("--takeover-trial")
                .stdin(Stdio::from(memory.try_clone()?))
                .stdout(theirs)
                .stderr(logging::for_a_child()?)
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
    // It may have to end for want of memory, and the master may not. Where this cannot be done, the roles say so.
    let _ = role::volunteer();
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
    verify(&text).map(drop)
}

/// Looks whether this executable can take over, and touches nothing. The segment must have come along; it is opened once more, so that
/// nothing is taken.
///
/// # Errors
/// Why not.
pub fn verify(text: &[u8]) -> Result<(State, Table), String> {
    let state = State::parse(text)?;
    let segment = state.table.as_ref().ok_or_else(|| {
        format!(
            "the master of version {} looks its table up by name, and this executable (version {}) does not; stop and start the server: \
             its table has another layout",
            state.version,
            env!("CARGO_PKG_VERSION")
        )
    })?;
    let file = File::options()
        .read(true)
        .write(true)
        .open(opened(segment.fd))
        .map_err(|e| format!("the segment {} did not come along: {e}", state.segment))?;
    let identity = Identity(segment.identity);
    let table = Table::attach(file.into(), identity).map_err(|e| e.to_string())?;
    state.check(&table)?;
    Ok((state, table))
}

/// A descriptor that came along, to be opened anew.
pub fn opened(number: RawFd) -> PathBuf {
    format!("/proc/self/fd/{number}").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upgrade_state as state;
    use crate::upgrade_state::tests::{capacity, state};
    use nix::fcntl::{FcntlArg, fcntl};

    #[test]
    fn only_the_table_that_was_named_is_taken_over() {
        let (table, claim) = Table::create(&capacity()).unwrap();
        let (another, _claim) = Table::create(&capacity()).unwrap();
        // Neither leads to anything any more.
        std::fs::remove_file(format!("/dev/shm/{}", claim.name())).unwrap();
        let looks = |identity: Identity, of: Option<&Table>| {
            let mut state = state();
            state.table = of.and_then(Table::file).map(|file| state::Table {
                // A number that the sample does not have.
                fd: fcntl(file, FcntlArg::F_DUPFD_CLOEXEC(500)).unwrap(),
                identity: identity.0,
                ..state.table.unwrap()
            });
            let numbers = state.table.iter().map(|table| table.fd);
            state.descriptors.extend(numbers.collect::<Vec<_>>());
            let verdict = verify(&serde_json::to_vec(&state).unwrap());
            verdict.map(|(_, table)| table.identity())
        };
        assert_eq!(looks(table.identity(), Some(&table)), Ok(table.identity()));
        let refused = |identity, of| looks(identity, of).unwrap_err();
        let swapped = refused(table.identity(), Some(&another));
        assert!(swapped.contains("another server's"), "{swapped}");
        let by_name = refused(table.identity(), None);
        assert!(by_name.contains("stop and start"), "{by_name}");
    }

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
