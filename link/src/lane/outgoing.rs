//! The sending end of a lane.

use std::collections::VecDeque;

use bytes::Bytes;

use super::section::{DATA_HEAD_BYTES, PARCEL_HEAD_BYTES, begin_data, finish_data, put_parcel};
use super::{Acknowledgement, Outcome, WINDOW, WINDOW_BYTES};
use crate::parcel;

/// How long an answer is waited for before everything unanswered is sent again; doubles up to the longest while nothing is answered.
const PATIENCE_MIN_MS: u64 = 200;
const PATIENCE_MAX_MS: u64 = 2_000;
/// Two repetitions that were asked for are at least so far apart: the frames that were under way ask again, each of them.
const REPEAT_PAUSE_MS: u64 = 20;

/// The other end answers what it was not sent. The lane has to be begun anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

/// Parcels on their way to one host, with a ticket each by which the caller knows them.
#[derive(Debug)]
pub struct Outgoing {
    lane: u64,
    parcels: VecDeque<(u64, Bytes)>,
    /// Their bytes.
    bytes: usize,
    /// Parcels that were ever answered: the place of the oldest one here.
    answered: u64,
    /// The place that has number 0 in this lane.
    start: u64,
    /// How many of the oldest were sent.
    sent: usize,
    /// When they are sent again.
    again_at_ms: Option<u64>,
    patience_ms: u64,
    repeated_at_ms: u64,
}

impl Outgoing {
    /// An empty lane. `lane` must differ from the number of every other lane to that host.
    pub fn new(lane: u64) -> Self {
        Outgoing {
            lane,
            parcels: VecDeque::new(),
            bytes: 0,
            answered: 0,
            start: 0,
            sent: 0,
            again_at_ms: None,
            patience_ms: PATIENCE_MIN_MS,
            repeated_at_ms: 0,
        }
    }

    /// Appends a parcel; its place, by which it can be [given up](Self::give_up).
    pub fn push(&mut self, ticket: u64, parcel: Bytes) -> u64 {
        self.bytes += parcel.len();
        self.parcels.push_back((ticket, parcel));
        self.answered + self.parcels.len() as u64 - 1
    }

    /// True if one more parcel could be sent at once. What has to wait waits in front of the lane, where senders have their turns.
    pub fn has_room(&self) -> bool {
        self.parcels.len() < WINDOW && self.bytes < WINDOW_BYTES
    }

    /// True if something could be sent now that never was.
    pub fn has_new(&self) -> bool {
        self.sent < self.parcels.len().min(WINDOW)
    }

    /// Takes the content out of a parcel that may have been sent; the place stays, so that the numbers do.
    /// A place of an older lane to the same host has another ticket now, and stays as it is.
    pub fn give_up(&mut self, ticket: u64, place: u64) {
        let index = place.checked_sub(self.answered).map(|index| index as usize);
        let parcel = index.and_then(|index| self.parcels.get_mut(index));
        if let Some(parcel) = parcel.filter(|(theirs, _)| *theirs == ticket) {
            let void = parcel::void();
            self.bytes = self.bytes + void.len() - parcel.1.len();
            *parcel = (0, void);
        }
    }

    /// Begins anew, with all that is not answered: the other end does not know this lane.
    pub fn begin_anew(&mut self, lane: u64) {
        self.lane = lane;
        self.start = self.answered;
        self.repeat();
        self.patience_ms = PATIENCE_MIN_MS;
    }

    /// Everything unanswered is to be sent again at once.
    pub fn repeat(&mut self) {
        self.sent = 0;
        self.again_at_ms = None;
    }

    /// When [`Self::settle_time`] has something to do.
    pub fn next_ms(&self) -> Option<u64> {
        self.again_at_ms
    }

    /// Repeats what was waited for long enough. True if there was something.
    pub fn settle_time(&mut self, now_ms: u64) -> bool {
        if self.again_at_ms.is_none_or(|at| at > now_ms) {
            return false;
        }
        self.repeat();
        self.patience_ms = (self.patience_ms * 2).min(PATIENCE_MAX_MS);
        true
    }

    /// Appends a section with parcels that are to be sent, as long as the frame stays within `bytes_max`; at least one, if `into` is
    /// empty. False if there was none.
    pub fn write(&mut self, into: &mut Vec<u8>, bytes_max: usize, now_ms: u64) -> bool {
        let fits = |into: &Vec<u8>, parcel: &Bytes| {
            into.len() + PARCEL_HEAD_BYTES + parcel.len() <= bytes_max
        };
        let Some((_, first)) = self.parcels.get(self.sent).filter(|_| self.has_new()) else {
            return false;
        };
        if !into.is_empty()
            && into.len() + DATA_HEAD_BYTES + PARCEL_HEAD_BYTES + first.len() > bytes_max
        {
            return false;
        }
        let number = self.answered - self.start + self.sent as u64;
        let at = begin_data(into, self.lane, number, self.answered - self.start);
        let mut count = 0;
        while self.has_new()
            && let Some((_, parcel)) = self.parcels.get(self.sent)
        {
            if count > 0 && !fits(into, parcel) {
                break;
            }
            put_parcel(into, parcel);
            self.sent += 1;
            count += 1;
        }
        finish_data(into, at, count);
        if self.again_at_ms.is_none() {
            self.again_at_ms = Some(now_ms + self.patience_ms);
        }
        true
    }

    /// How much was sent: for [`Self::return_to`].
    pub fn position(&self) -> usize {
        self.sent
    }

    /// What was [written](Self::write) since was not sent.
    pub fn return_to(&mut self, position: usize) {
        self.sent = position;
    }

    /// Takes an acknowledgement; gives the tickets of what it answers to `each`, in order.
    ///
    /// # Errors
    /// [`Broken`]; nothing was taken from it.
    pub fn acknowledged(
        &mut self,
        acknowledgement: Acknowledgement,
        now_ms: u64,
        mut each: impl FnMut(u64, Outcome),
    ) -> Result<(), Broken> {
        let Acknowledgement {
            lane,
            next,
            first,
            gap,
            outcomes,
        } = acknowledgement;
        if lane != self.lane {
            return Ok(());
        }
        let base = self.answered - self.start;
        if next > base {
            let skip = base.checked_sub(first).ok_or(Broken)? as usize;
            let count = (next - base) as usize;
            // What was sent before a repetition began may be answered after it.
            if count > self.parcels.len() || outcomes.len() < skip + count {
                return Err(Broken);
            }
            for outcome in outcomes.into_iter().skip(skip).take(count) {
                if let Some((ticket, parcel)) = self.parcels.pop_front() {
                    self.answered += 1;
                    self.bytes -= parcel.len();
                    each(ticket, outcome);
                }
            }
            self.sent = self.sent.saturating_sub(count);
            self.patience_ms = PATIENCE_MIN_MS;
            self.again_at_ms = (self.sent > 0).then_some(now_ms + PATIENCE_MIN_MS);
        }
        if gap && now_ms >= self.repeated_at_ms + REPEAT_PAUSE_MS {
            self.repeated_at_ms = now_ms;
            self.repeat();
        }
        Ok(())
    }

    /// True if the other end says of this lane, and not of an older one, that it does not know it.
    pub fn is(&self, lane: u64) -> bool {
        self.lane == lane
    }

    /// Ends the lane: the tickets of all that is not answered.
    pub fn into_tickets(self) -> impl Iterator<Item = u64> {
        self.parcels.into_iter().map(|(ticket, _)| ticket)
    }
}
