//! Why the link cannot go on.

use std::io;

use role::ChannelError;

/// Why the link ends without having been asked to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The segment is not the master's or not of this version.
    #[error(transparent)]
    Attach(#[from] shm_table::AttachError),
    /// The master is gone or cannot be understood.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// Settings with which no link can work.
    #[error("{0}")]
    Settings(String),
    /// The system refused something.
    #[error("the link cannot {doing}: {reason}")]
    System {
        /// What it tried.
        doing: &'static str,
        /// What the system said.
        reason: io::Error,
    },
}

impl Error {
    /// Whether another link would fail in the same way at once.
    pub fn cannot_work(&self) -> bool {
        matches!(self, Self::Attach(_) | Self::Settings(_))
    }

    /// For `map_err` behind a system call.
    pub(crate) fn system(doing: &'static str) -> impl Fn(io::Error) -> Self {
        move |reason| Self::System { doing, reason }
    }
}
