//! The receiving end of a lane.

use std::collections::VecDeque;

use super::{Data, Outcome, WINDOW};

/// What to do with parcels that have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Handle them, but for so many of the first, which were handled before.
    Handle {
        /// How many to leave out.
        skip: usize,
    },
    /// They are of a lane whose beginning was not seen: say that it is not known.
    Unknown,
}

/// Parcels from one host.
#[derive(Debug, Default)]
pub struct Incoming {
    /// 0 before the first parcel.
    lane: u64,
    next: u64,
    /// What is not known to have arrived, up to `next`.
    outcomes: VecDeque<Outcome>,
    gap: bool,
    due: bool,
}

impl Incoming {
    /// Looks at parcels that have come. Those to be handled are each followed by [`Self::handled`].
    pub fn judge(&mut self, data: &Data) -> Judgement {
        if data.lane != self.lane {
            if data.first != 0 || data.lane == 0 {
                return Judgement::Unknown;
            }
            *self = Incoming {
                lane: data.lane,
                ..Incoming::default()
            };
        }
        let first = self.next - self.outcomes.len() as u64;
        let confirmed = data.confirmed.clamp(first, self.next);
        self.outcomes.drain(..(confirmed - first) as usize);
        self.due = true;
        let skip = match self.next.checked_sub(data.first) {
            Some(skip) => skip as usize,
            None => {
                self.gap = true;
                data.parcels.len()
            }
        };
        Judgement::Handle {
            skip: skip.min(data.parcels.len()),
        }
    }

    /// Notes what became of the next parcel.
    pub fn handled(&mut self, outcome: Outcome) {
        self.next += 1;
        self.outcomes.push_back(outcome);
        // A sender that keeps to the window has confirmed what is older.
        while self.outcomes.len() > 2 * WINDOW {
            self.outcomes.pop_front();
        }
    }

    /// The lane's number.
    pub fn lane(&self) -> u64 {
        self.lane
    }

    /// The number of the parcel that is expected next.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// True if parcels came that were not the next.
    pub fn gap(&self) -> bool {
        self.gap
    }

    /// The number of the first outcome, and the outcomes.
    pub fn outcomes(&self) -> (u64, &VecDeque<Outcome>) {
        (self.next - self.outcomes.len() as u64, &self.outcomes)
    }

    /// True if an acknowledgement is owed.
    pub fn is_due(&self) -> bool {
        self.due
    }

    /// Notes that the acknowledgement was sent.
    pub fn acknowledged(&mut self) {
        self.due = false;
        self.gap = false;
    }
}
