//! Whether this host is fit to take new sessions: what `/healthz` says.

use shm_table::{ClusterReport, Part};

use crate::work::Work;

impl Work<'_> {
    /// Why the server is not fit to take new sessions; nothing if it is.
    pub fn health(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.is_stopping() {
            reasons.push("stopping".to_owned());
        }
        for (slot, role, again_in_ms) in self.table.waiting() {
            reasons.push(format!(
                "the {} of slot {slot} died again and again; the next one starts in {again_in_ms} ms",
                role.name()
            ));
        }
        if self.settings.cluster.enabled {
            reasons.extend(away(&self.table.cluster(), self.table.now_ms()));
        }
        reasons
    }
}

/// What this host has no connection to. That the directory is not level is no reason: on a busy host there is always a login that is
/// just being written.
fn away(report: &ClusterReport, now_ms: u64) -> Vec<String> {
    let parts: [(&str, &Part); 2] = [
        ("directory (cluster.redis)", &report.directory),
        ("bus (cluster.bus)", &report.bus),
    ];
    parts
        .into_iter()
        .filter(|(_, part)| !part.up)
        .map(move |(name, part)| {
            let since = now_ms.saturating_sub(part.since_ms);
            let why = match &*part.why {
                "" => "nothing was heard of it yet",
                why => why,
            };
            format!("the {name} has been away for {since} ms: {why}")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use shm_table::Name;

    #[test]
    fn what_is_away_is_named_with_the_reason() {
        let part = |up, why| Part {
            up,
            since_ms: 300,
            why: Name::cut(why),
        };
        let report = |directory, bus| ClusterReport {
            directory,
            bus,
            hosts: 0,
            waiting: 0,
            waiting_bytes: 0,
            level: false,
        };
        let reasons = |report| away(&report, 1_000);
        assert!(reasons(report(part(true, ""), part(true, ""))).is_empty());
        assert_eq!(
            reasons(report(part(false, "connection refused"), part(false, ""))),
            [
                "the directory (cluster.redis) has been away for 700 ms: connection refused",
                "the bus (cluster.bus) has been away for 700 ms: nothing was heard of it yet"
            ]
        );
    }
}
