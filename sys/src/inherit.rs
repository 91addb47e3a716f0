//! Descriptors that go through `execve(2)` into what this process becomes, and those that came that way.
//!
//! - [`pass_on`] lets descriptors through and, when the execution failed, closes the way again.
//! - [`take_all`] makes those that came someone's own: all of them or none, each once.
//! - [`pass_back`] lets those go on through another execution, wherever in the program they are by then.
//!
//! A descriptor that came is told from every other by its flag: whatever this program opens is closed on exec from its first moment, and
//! only what was let through by the program before is not. Taking sets the flag again.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};

use nix::libc;

/// Whether this process has let descriptors through: from then on the flag does not tell any more which ones came.
static PASSED_ON: Mutex<bool> = Mutex::new(false);

/// Descriptors that an execution keeps open: this process's, or that of a child which is started meanwhile. Dropping this ends that.
#[derive(Debug)]
pub struct Passing<'a>(Vec<BorrowedFd<'a>>);

/// Lets descriptors through the next execution.
///
/// # Errors
/// What the system says; nothing is let through then.
pub fn pass_on(descriptors: Vec<BorrowedFd<'_>>) -> io::Result<Passing<'_>> {
    *PASSED_ON.lock().unwrap_or_else(PoisonError::into_inner) = true;
    let passing = Passing(descriptors);
    for descriptor in &passing.0 {
        set_flags(descriptor.as_raw_fd(), 0)?;
    }
    Ok(passing)
}

impl Drop for Passing<'_> {
    fn drop(&mut self) {
        for descriptor in &self.0 {
            // The descriptor is open, and then this does not fail.
            let _ = set_flags(descriptor.as_raw_fd(), libc::FD_CLOEXEC);
        }
    }
}

/// Takes descriptors by the numbers under which they came, in that order, and has them closed on exec again.
/// To be called before [`pass_on`], in a program that opens nothing without `O_CLOEXEC`.
///
/// # Errors
/// `InvalidInput` for a number that is not open, is one of the first three, did not come by an execution, or was taken already (or twice in
/// this list). Nothing is taken then.
pub fn take_all(numbers: &[RawFd]) -> io::Result<Vec<OwnedFd>> {
    let passed_on = PASSED_ON.lock().unwrap_or_else(PoisonError::into_inner);
    let refused = |number: RawFd, why: &str| {
        let text = format!("descriptor {number} cannot be taken over: {why}");
        io::Error::new(io::ErrorKind::InvalidInput, text)
    };
    if let (true, Some(&number)) = (*passed_on, numbers.first()) {
        return Err(refused(number, "this process has let some through itself"));
    }
    let mut ascending = numbers.to_vec();
    ascending.sort_unstable();
    if let Some(twice) = ascending.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(refused(twice[0], "it is named twice"));
    }
    for &number in numbers {
        if number <= libc::STDERR_FILENO {
            return Err(refused(number, "the first three belong to every process"));
        }
        match flags(number) {
            Ok(flags) if flags & libc::FD_CLOEXEC == 0 => {}
            Ok(_) => return Err(refused(number, "it has an owner here")),
            Err(error) => return Err(refused(number, &error.to_string())),
        }
    }
    for run in ascending.chunk_by(|a, b| a + 1 == *b) {
        close_on_exec(run)?;
    }
    Ok(numbers
        .iter()
        .map(|&number| {
            // SAFETY: it is open, and nobody in this process owns it: it is none of the standard ones, everything that this program opens is
            // closed on exec from its first moment, and this was not. Now it is, so that no other call takes it too; the lock keeps two
            // calls from looking at the same time, and the list names it once.
            unsafe { OwnedFd::from_raw_fd(number) }
        })
        .collect())
}

/// Lets descriptors through the next execution that were [taken](take_all) and are still open, by their numbers: the way back to the
/// program that passed them on. If that execution fails they stay as they are, owned and working.
///
/// # Errors
/// What the system says, for a number that is not open any more.
pub fn pass_back(numbers: &[RawFd]) -> io::Result<()> {
    *PASSED_ON.lock().unwrap_or_else(PoisonError::into_inner) = true;
    numbers.iter().try_for_each(|&number| set_flags(number, 0))
}

/// Has descriptors with consecutive numbers closed on exec, in one call where the kernel has it (5.11): there may be thousands.
fn close_on_exec(run: &[RawFd]) -> io::Result<()> {
    let (Some(&first), Some(&last)) = (run.first(), run.last()) else {
        return Ok(());
    };
    // SAFETY: the call takes three integers and touches no memory; with this flag it closes nothing now.
    let done = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            last,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    if done == 0 {
        return Ok(());
    }
    run.iter()
        .try_for_each(|&number| set_flags(number, libc::FD_CLOEXEC))
}

fn flags(number: RawFd) -> io::Result<i32> {
    // SAFETY: the call takes two integers and touches no memory; a number that is not open is an error.
    match unsafe { libc::fcntl(number, libc::F_GETFD) } {
        -1 => Err(io::Error::last_os_error()),
        flags => Ok(flags),
    }
}

fn set_flags(number: RawFd, flags: i32) -> io::Result<()> {
    // SAFETY: the call takes three integers and touches no memory.
    match unsafe { libc::fcntl(number, libc::F_SETFD, flags) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::{AsFd, IntoRawFd};

    // One test, because the tests of this crate share a process, and letting through ends the taking.
    #[test]
    fn what_came_is_taken_once_and_what_is_let_through_is_closed_again() {
        let came = |path: &str| {
            let number = File::open(path).unwrap().into_raw_fd();
            set_flags(number, 0).unwrap();
            number
        };
        let (null, zero) = (came("/dev/null"), came("/dev/zero"));
        let own = File::open("/dev/null").unwrap();
        let said = |numbers: &[RawFd]| take_all(numbers).unwrap_err().to_string();

        assert!(said(&[null, own.as_raw_fd()]).contains("has an owner"));
        assert!(said(&[zero, null, zero]).contains("named twice"));
        assert!(said(&[null, 1]).contains("first three"));
        assert!(said(&[null, 1 << 20]).contains("cannot be taken over"));

        let taken = take_all(&[zero, null]).unwrap();
        assert_eq!(
            taken.iter().map(AsRawFd::as_raw_fd).collect::<Vec<_>>(),
            [zero, null]
        );
        assert!(
            taken
                .iter()
                .all(|fd| flags(fd.as_raw_fd()).unwrap() == libc::FD_CLOEXEC)
        );
        assert!(said(&[null]).contains("has an owner"));
        let mut bytes = [1; 4];
        File::from(taken.into_iter().next().unwrap())
            .read_exact(&mut bytes)
            .unwrap();
        assert_eq!(bytes, [0; 4]);

        let passing = pass_on(vec![own.as_fd()]).unwrap();
        assert_eq!(flags(own.as_raw_fd()).unwrap(), 0);
        assert!(said(&[own.as_raw_fd()]).contains("let some through"));
        drop(passing);
        assert_eq!(flags(own.as_raw_fd()).unwrap(), libc::FD_CLOEXEC);
        pass_back(&[own.as_raw_fd()]).unwrap();
        assert_eq!(flags(own.as_raw_fd()).unwrap(), 0);
        assert!(pass_back(&[1 << 20]).is_err());
    }
}
