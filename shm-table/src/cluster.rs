//! How the cluster is, as the link sees it: for `status`, `/healthz` and the workers.

use crate::clock_marks::MARKS_WORDS;
use crate::table::Table;
use crate::text::{Name, Text};
use crate::two_copies::TwoCopies;
use crate::word::{Word32, Word64};

/// The directory, or the bus.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// It answers.
    pub up: bool,
    /// Since when, in table milliseconds.
    pub since_ms: u64,
    /// If it does not answer, or not to everybody: why, cut to 64 bytes. Empty otherwise.
    pub why: Name,
}

/// The link's report.
#[derive(Clone, Copy, Debug)]
pub struct ClusterReport {
    /// Redis or Valkey.
    pub directory: Part,
    /// What carries messages.
    pub bus: Part,
    /// Other hosts that live.
    pub hosts: u32,
    /// Letters that are not settled.
    pub waiting: u32,
    /// Their bytes.
    pub waiting_bytes: u64,
    /// The directory has all that it is to have of this host.
    pub level: bool,
}

#[repr(C)]
#[derive(Debug)]
pub(crate) struct PartWords {
    pub up: Word32,
    pub reserved: Word32,
    since_ms: Word64,
    why: Text,
}

/// The report in the segment. The link writes it, a value at a time; readers may see values of two reports.
#[repr(C, align(64))]
#[derive(Debug)]
pub(crate) struct ClusterWords {
    pub directory: PartWords,
    bus: PartWords,
    hosts: Word32,
    waiting: Word32,
    waiting_bytes: Word64,
    level: Word32,
    reserved: Word32,
    pub clock: TwoCopies<MARKS_WORDS>,
}

impl PartWords {
    fn put(&self, part: &Part) {
        self.up.put(part.up.into());
        self.since_ms.put(part.since_ms);
        if !self.why.is(&part.why) {
            self.why.put(&part.why);
        }
    }

    fn read(&self) -> Part {
        Part {
            up: self.up.peek() != 0,
            since_ms: self.since_ms.peek(),
            why: self.why.read(),
        }
    }
}

impl Table {
    /// Says whether there is a link to tell of logins and departures; the master, before it starts any other process.
    pub fn set_linked(&self, linked: bool) {
        self.view().header.linked.set(linked.into());
    }

    /// Replaces the report. Only the link.
    pub fn set_cluster(&self, report: &ClusterReport) {
        let words = self.view().cluster;
        words.directory.put(&report.directory);
        words.bus.put(&report.bus);
        words.hosts.put(report.hosts);
        words.waiting.put(report.waiting);
        words.waiting_bytes.put(report.waiting_bytes);
        words.level.put(report.level.into());
    }

    /// The last report; before the first one nothing is up.
    pub fn cluster(&self) -> ClusterReport {
        let words = self.view().cluster;
        ClusterReport {
            directory: words.directory.read(),
            bus: words.bus.read(),
            hosts: words.hosts.peek(),
            waiting: words.waiting.peek(),
            waiting_bytes: words.waiting_bytes.peek(),
            level: words.level.peek() != 0,
        }
    }
}
