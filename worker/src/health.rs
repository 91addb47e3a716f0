//! Whether this host is fit to take new sessions: what `/healthz` says.

use shm_table::{ClusterReport, Part};

use crate::work::Work;

/// How the host is: why it is not fit to take new sessions, or nothing.
pub(crate) struct Health(Vec<Reason>);

/// One thing that is not well.
pub(crate) struct Reason {
    /// In general, for anybody.
    word: String,
    /// With addresses and errors of what the host needs: not for everybody.
    sentence: String,
}

impl Health {
    /// Whether the host takes new sessions.
    pub fn is_well(&self) -> bool {
        self.0.is_empty()
    }

    /// What is told, in lines; `whole`: to one who may know everything.
    pub fn text(&self, whole: bool) -> String {
        if self.is_well() {
            return "ok\n".into();
        }
        let mut words: Vec<_> = self.0.iter().map(|reason| &*reason.word).collect();
        words.dedup();
        let mut text = format!("not ok: {}\n", words.join(", "));
        for reason in self.0.iter().filter(|_| whole) {
            text += &format!("{}\n", reason.sentence);
        }
        text
    }
}

impl Work<'_> {
    /// Whether the server is fit to take new sessions, and why not.
    pub fn health(&self) -> Health {
        let mut reasons = Vec::new();
        if self.is_stopping() {
            reasons.push(Reason {
                word: "draining".into(),
                sentence: "the server is stopping".into(),
            });
        }
        for (slot, role, again_in_ms) in self.table.waiting() {
            let name = role.name();
            reasons.push(Reason {
                word: format!("degraded ({name})"),
                sentence: format!(
                    "the {name} of slot {slot} died again and again; the next one starts in {again_in_ms} ms"
                ),
            });
        }
        if self.settings.cluster.enabled {
            reasons.extend(away(&self.table.cluster(), self.table.now_ms()));
        }
        Health(reasons)
    }
}

/// What this host has no connection to. That the directory is not level is no reason: on a busy host there is always a login that is
/// just being written.
fn away(report: &ClusterReport, now_ms: u64) -> Vec<Reason> {
    let parts: [(&str, &str, &Part); 2] = [
        ("directory", "directory (cluster.redis)", &report.directory),
        ("bus", "bus (cluster.bus)", &report.bus),
    ];
    parts
        .into_iter()
        .filter(|(.., part)| !part.up)
        .map(move |(what, name, part)| {
            let since = now_ms.saturating_sub(part.since_ms);
            let why = match &*part.why {
                "" => "nothing was heard of it yet",
                why => why,
            };
            Reason {
                word: format!("degraded ({what})"),
                sentence: format!("the {name} has been away for {since} ms: {why}"),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use shm_table::Name;

    #[test]
    fn what_is_away_is_named_and_the_reason_not_to_everybody() {
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
        let health = |report| Health(away(&report, 1_000));
        let well = health(report(part(true, ""), part(true, "")));
        assert!(well.is_well());
        assert_eq!(
            (well.text(false), well.text(true)),
            ("ok\n".into(), "ok\n".into())
        );
        let ill = health(report(
            part(false, "redis://10.0.0.1: refused"),
            part(false, ""),
        ));
        assert!(!ill.is_well());
        let public = "not ok: degraded (directory), degraded (bus)\n";
        assert_eq!(ill.text(false), public);
        assert_eq!(
            ill.text(true),
            format!(
                "{public}the directory (cluster.redis) has been away for 700 ms: redis://10.0.0.1: refused\n\
                 the bus (cluster.bus) has been away for 700 ms: nothing was heard of it yet\n"
            )
        );
    }
}
