//! Whether frames travel.

use std::fmt;
use tokio::{sync::watch, time::Instant};

/// How the bus is, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// What it is.
    pub condition: Condition,
    /// When it became so.
    pub since: Instant,
}

/// How the bus is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Frames travel to every host.
    Up,
    /// Frames travel, but not to every host of the directory.
    Partly {
        /// Which hosts are not reached, a sentence.
        why: String,
    },
    /// No frame travels.
    Away {
        /// What happened, a sentence.
        why: String,
    },
}

impl State {
    /// Whether frames travel at all.
    #[must_use]
    pub fn is_up(&self) -> bool {
        !matches!(self.condition, Condition::Away { .. })
    }

    /// What is wrong; empty when nothing is.
    #[must_use]
    pub fn why(&self) -> &str {
        match &self.condition {
            Condition::Up => "",
            Condition::Partly { why } | Condition::Away { why } => why,
        }
    }
}

/// The writing end: what connects tells how it went.
pub(crate) struct Teller(watch::Sender<State>);

pub(crate) fn channel() -> (Teller, watch::Receiver<State>) {
    let (sender, receiver) = watch::channel(State {
        condition: Condition::Away {
            why: "it is connecting".into(),
        },
        since: Instant::now(),
    });
    (Teller(sender), receiver)
}

impl Teller {
    pub(crate) fn is_up(&self) -> bool {
        self.0.borrow().is_up()
    }

    pub(crate) fn up(&self) {
        self.tell(Condition::Up);
    }

    pub(crate) fn partly(&self, why: impl fmt::Display) {
        self.tell(Condition::Partly {
            why: why.to_string(),
        });
    }

    pub(crate) fn away(&self, why: impl fmt::Display) {
        self.tell(Condition::Away {
            why: why.to_string(),
        });
    }

    /// `since` changes with the kind of condition only: another reason for the same outage does not begin it anew.
    fn tell(&self, condition: Condition) {
        self.0.send_if_modified(|state| {
            if state.condition == condition {
                return false;
            }
            if std::mem::discriminant(&state.condition) != std::mem::discriminant(&condition) {
                state.since = Instant::now();
                match &condition {
                    Condition::Up => tracing::info!("the bus is up"),
                    Condition::Partly { why } => {
                        tracing::warn!("the bus does not reach every host: {why}")
                    }
                    Condition::Away { why } => tracing::warn!("the bus is away: {why}"),
                }
            }
            state.condition = condition;
            true
        });
    }
}
