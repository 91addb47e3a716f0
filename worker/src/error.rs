//! Why a worker could not start or go on, as a sentence for the log.

use std::io;

/// What ends a worker. [`Error::cannot_work`] chooses the exit status.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The segment is not the master's, or not of this layout.
    #[error(transparent)]
    Attach(#[from] shm_table::AttachError),
    /// There is no usable read window for this process.
    #[error("slot {slot} has no read window: it is not a worker's, or the window is in use")]
    Window {
        /// The slot this worker was given.
        slot: u8,
    },
    /// An operating system resource was refused.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The reason.
        source: io::Error,
    },
    /// The channel to the master ended or broke. The master is gone, or recovers what this worker held.
    #[error(transparent)]
    Channel(#[from] role::ChannelError),
}

impl Error {
    /// True if a new worker would fail in the same way, so that starting one at once is useless.
    pub fn cannot_work(&self) -> bool {
        matches!(self, Error::Attach(_) | Error::Window { .. })
    }

    pub(crate) fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Error::System { what, source }
    }
}
