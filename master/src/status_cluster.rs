//! The part of `status` about the cluster: what the link has said last.

use std::fmt::Write;

use serde::{Deserialize, Serialize};
use shm_table::ClusterReport;

use crate::status::duration;

/// This host as one of several. Names and meanings are kept: programs read this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Redis or Valkey.
    pub directory: Part,
    /// The directory has all that it is to have of this host at this moment.
    pub level: bool,
    /// `cluster.bus`.
    pub bus_kind: config::Bus,
    /// What carries messages between hosts.
    pub bus: Part,
    /// Other hosts that live.
    pub hosts: u32,
    /// Messages for other hosts that are under way.
    pub waiting: u32,
    pub waiting_bytes: u64,
}

/// The directory, or the bus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    pub up: bool,
    /// How long it has been up, or away.
    pub for_ms: u64,
    /// What is wrong; empty when nothing is.
    pub why: String,
}

impl Cluster {
    /// From the link's report. `now_ms`: of the table.
    pub fn of(report: &ClusterReport, bus_kind: config::Bus, now_ms: u64) -> Self {
        let part = |part: &shm_table::Part| Part {
            up: part.up,
            for_ms: now_ms.saturating_sub(part.since_ms),
            why: part.why.to_string(),
        };
        Self {
            directory: part(&report.directory),
            level: report.level,
            bus_kind,
            bus: part(&report.bus),
            hosts: report.hosts,
            waiting: report.waiting,
            waiting_bytes: report.waiting_bytes,
        }
    }

    /// For a person.
    pub fn write(&self, out: &mut String) -> std::fmt::Result {
        let level = match (self.directory.up, self.level) {
            (false, _) => "",
            (true, true) => ", level",
            (true, false) => ", being brought level",
        };
        writeln!(out, "\ncluster")?;
        writeln!(out, "  directory  {}{level}", self.directory.text())?;
        let kind = serde_json::to_value(self.bus_kind).unwrap_or_default();
        let kind = kind.as_str().unwrap_or_default();
        writeln!(out, "  bus        {kind}, {}", self.bus.text())?;
        writeln!(out, "  hosts      {} besides this one", self.hosts)?;
        writeln!(
            out,
            "  waiting    {} messages for other hosts, {} bytes",
            self.waiting, self.waiting_bytes
        )
    }
}

impl Part {
    fn text(&self) -> String {
        let how = if self.up { "up" } else { "away" };
        let text = format!("{how} for {}", duration(self.for_ms));
        if self.why.is_empty() {
            text
        } else {
            format!("{text}: {}", self.why)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shm_table::Name;

    #[test]
    fn it_says_what_is_up_what_is_away_since_when_and_why() {
        let part = |up, since_ms, why| shm_table::Part {
            up,
            since_ms,
            why: Name::cut(why),
        };
        let mut report = ClusterReport {
            directory: part(false, 9_000, "connection refused"),
            bus: part(true, 10_000, ""),
            hosts: 3,
            waiting: 4,
            waiting_bytes: 5_000,
            level: false,
        };
        let text = |report: &ClusterReport| {
            let mut text = String::new();
            Cluster::of(report, config::Bus::Rabbitmq, 70_000)
                .write(&mut text)
                .unwrap();
            text
        };
        assert_eq!(
            text(&report),
            "\ncluster\n  \
             directory  away for 1 min 1 s: connection refused\n  \
             bus        rabbitmq, up for 1 min 0 s\n  \
             hosts      3 besides this one\n  \
             waiting    4 messages for other hosts, 5000 bytes\n"
        );
        report.directory = part(true, 69_000, "");
        assert!(text(&report).contains("up for 1 s, being brought level\n"));
        report.level = true;
        assert!(text(&report).contains("up for 1 s, level\n"));

        let cluster = Cluster::of(&report, config::Bus::Mesh, 70_000);
        let json = serde_json::to_value(&cluster).unwrap();
        assert_eq!(json["bus_kind"], "mesh");
        assert_eq!(json["directory"]["for_ms"], 1_000);
        assert_eq!(serde_json::from_value::<Cluster>(json).unwrap(), cluster);
    }
}
