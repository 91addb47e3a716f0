//! How lanes look in a frame: a frame's payload is a row of sections.

use bytes::{Buf, BufMut, Bytes};

use super::{Incoming, Outcome};

const DATA: u8 = 1;
const ACKNOWLEDGEMENT: u8 = 2;
const UNKNOWN: u8 = 3;

/// Bytes of a data section before its first parcel.
pub(super) const DATA_HEAD_BYTES: usize = 1 + 8 + 8 + 8 + 4;
/// Bytes in front of each parcel.
pub(super) const PARCEL_HEAD_BYTES: usize = 4;

/// One section.
#[derive(Debug, PartialEq, Eq)]
pub enum Section {
    /// Parcels.
    Data(Data),
    /// Answers to parcels of a lane of ours.
    Acknowledgement(Acknowledgement),
    /// The other host does not know this lane of ours.
    Unknown {
        /// The lane.
        lane: u64,
    },
}

/// Parcels with consecutive numbers.
#[derive(Debug, PartialEq, Eq)]
pub struct Data {
    /// The lane; 0 is none.
    pub lane: u64,
    /// The number of the first parcel.
    pub first: u64,
    /// Outcomes below this number have arrived.
    pub confirmed: u64,
    /// The parcels.
    pub parcels: Vec<Bytes>,
}

/// Answers to parcels.
#[derive(Debug, PartialEq, Eq)]
pub struct Acknowledgement {
    /// The lane.
    pub lane: u64,
    /// The number of the parcel that is expected next.
    pub next: u64,
    /// The number of the first outcome.
    pub first: u64,
    /// A parcel came that was not the next: some were lost.
    pub gap: bool,
    /// Outcomes, up to `next`.
    pub outcomes: Vec<Outcome>,
}

/// Begins a data section; returns where its count is to be [written](finish_data).
pub(super) fn begin_data(into: &mut Vec<u8>, lane: u64, first: u64, confirmed: u64) -> usize {
    into.put_u8(DATA);
    into.put_u64_le(lane);
    into.put_u64_le(first);
    into.put_u64_le(confirmed);
    into.put_u32_le(0);
    into.len() - 4
}

pub(super) fn put_parcel(into: &mut Vec<u8>, parcel: &[u8]) {
    // A parcel is smaller than a frame, which is smaller than this.
    into.put_u32_le(parcel.len() as u32);
    into.extend_from_slice(parcel);
}

pub(super) fn finish_data(into: &mut [u8], at: usize, count: u32) {
    if let Some(place) = into.get_mut(at..at + 4) {
        place.copy_from_slice(&count.to_le_bytes());
    }
}

/// Writes what an incoming lane has to answer.
pub fn write_acknowledgement(into: &mut Vec<u8>, incoming: &Incoming) {
    let (first, outcomes) = incoming.outcomes();
    into.put_u8(ACKNOWLEDGEMENT);
    into.put_u64_le(incoming.lane());
    into.put_u64_le(incoming.next());
    into.put_u64_le(first);
    into.put_u8(incoming.gap().into());
    into.put_u32_le(outcomes.len() as u32);
    for outcome in outcomes {
        match outcome {
            Outcome::Nobody => into.put_u8(0),
            Outcome::Reached => into.put_u8(1),
            Outcome::Full => into.put_u8(2),
            Outcome::Answer(answer) => {
                into.put_u8(3);
                put_parcel(into, answer);
            }
        }
    }
}

/// Writes that a lane is not known.
pub fn write_unknown(into: &mut Vec<u8>, lane: u64) {
    into.put_u8(UNKNOWN);
    into.put_u64_le(lane);
}

/// Reads a payload section by section; ends early where it is broken.
pub struct Reader(pub Bytes);

impl Iterator for Reader {
    type Item = Section;

    fn next(&mut self) -> Option<Section> {
        let section = read(&mut self.0);
        if section.is_none() {
            self.0.clear();
        }
        section
    }
}

fn read(from: &mut Bytes) -> Option<Section> {
    match from.try_get_u8().ok()? {
        DATA => {
            let lane = from.try_get_u64_le().ok()?;
            let first = from.try_get_u64_le().ok()?;
            let confirmed = from.try_get_u64_le().ok()?;
            let count = from.try_get_u32_le().ok()?;
            let mut parcels = Vec::new();
            for _ in 0..count {
                parcels.push(piece(from)?);
            }
            Some(Section::Data(Data {
                lane,
                first,
                confirmed,
                parcels,
            }))
        }
        ACKNOWLEDGEMENT => {
            let lane = from.try_get_u64_le().ok()?;
            let next = from.try_get_u64_le().ok()?;
            let first = from.try_get_u64_le().ok()?;
            let gap = from.try_get_u8().ok()? != 0;
            let count = from.try_get_u32_le().ok()?;
            let mut outcomes = Vec::new();
            for _ in 0..count {
                outcomes.push(match from.try_get_u8().ok()? {
                    0 => Outcome::Nobody,
                    1 => Outcome::Reached,
                    2 => Outcome::Full,
                    3 => Outcome::Answer(piece(from)?),
                    _ => return None,
                });
            }
            Some(Section::Acknowledgement(Acknowledgement {
                lane,
                next,
                first,
                gap,
                outcomes,
            }))
        }
        UNKNOWN => Some(Section::Unknown {
            lane: from.try_get_u64_le().ok()?,
        }),
        _ => None,
    }
}

fn piece(from: &mut Bytes) -> Option<Bytes> {
    let len = from.try_get_u32_le().ok()? as usize;
    (len <= from.len()).then(|| from.split_to(len))
}
