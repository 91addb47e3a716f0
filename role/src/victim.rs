//! Whom the kernel ends first when memory is short.
//!
//! A role's death is made good within milliseconds; the master's ends every connection. To the kernel the master is the larger one, though:
//! it made the segment, and the pages count as its own. So every role volunteers, which needs no privilege, as far as that goes: a master with
//! most of a small container's memory is still passed over.

use std::fs;
use std::io;

const SCORE: &str = "/proc/self/oom_score_adj";

/// The largest value there is (`OOM_SCORE_ADJ_MAX`). It counts like all memory there is, so that no size of the master outweighs it.
const FIRST: i32 = 1000;

/// Has the kernel prefer this process to all that have not volunteered. To be called before much memory is touched.
///
/// # Errors
/// What the system says; a `/proc` that cannot be written, for example.
pub fn volunteer() -> io::Result<()> {
    let now: i32 = fs::read_to_string(SCORE)?.trim().parse().map_err(|_| {
        io::Error::new(io::ErrorKind::InvalidData, format!("{SCORE} has no number"))
    })?;
    if now < FIRST {
        fs::write(SCORE, FIRST.to_string())?;
    }
    Ok(())
}
