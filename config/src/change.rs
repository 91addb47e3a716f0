//! What a reload changes: which keys differ, and which of them a running server cannot take over.

use serde_json::Value;

use crate::types::Config;

/// The keys in which two configurations differ, as `section.key`, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Take effect at once.
    pub live: Vec<String>,
    /// Take effect at the next start.
    pub needs_restart: Vec<String>,
}

/// Sections fixed at the start: memory that is reserved once, and parts that do not run yet.
const FIXED_SECTIONS: [&str; 3] = ["table", "cluster", "api"];

/// Keys of `[server]` that a running server takes over; the others are fixed: listeners, processes, files, the user.
const LIVE_SERVER_KEYS: [&str; 6] = [
    "hosts",
    "log_level",
    "watchdog_ms",
    "pause_ms",
    "handover_ms",
    "abandon_ms",
];

impl Config {
    /// Compares with the configuration that is to replace this one.
    pub fn changes(&self, new: &Self) -> Changes {
        let mut changes = Changes::default();
        differences(self, new, |section, key, _| {
            let name = format!("{section}.{key}");
            let list = if is_live(section, key) {
                &mut changes.live
            } else {
                &mut changes.needs_restart
            };
            list.push(name);
        });
        changes.live.sort();
        changes.needs_restart.sort();
        changes
    }

    /// This configuration with those changes of `new` that may be made live.
    pub fn with_live_changes(&self, new: &Self) -> Self {
        let mut tree = serde_json::to_value(self).unwrap_or_default();
        differences(self, new, |section, key, value| {
            if is_live(section, key) {
                tree[section][key] = value.clone();
            }
        });
        // Every part of the tree comes from a configuration, under its own name.
        serde_json::from_value(tree).unwrap_or_else(|_| self.clone())
    }
}

fn is_live(section: &str, key: &str) -> bool {
    match section {
        "server" => LIVE_SERVER_KEYS.contains(&key),
        // How the table begins.
        "diagnostics" => key != "near_wrap",
        _ => !FIXED_SECTIONS.contains(&section),
    }
}

fn differences(old: &Config, new: &Config, mut found: impl FnMut(&str, &str, &Value)) {
    let tree = |config: &Config| serde_json::to_value(config).unwrap_or_default();
    let (old, new) = (tree(old), tree(new));
    for (section, keys) in new.as_object().into_iter().flatten() {
        for (key, value) in keys.as_object().into_iter().flatten() {
            if old[section][key] != *value {
                found(section, key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_change_live_changes() {
        let old = Config::default();
        let mut new = old.clone();
        new.limits.refusals = 5;
        new.server.log_level = crate::LogLevel::Debug;
        new.diagnostics.echo = true;
        new.diagnostics.near_wrap = true;
        new.table.sessions = 7;
        new.server.tcp.clear();

        let changes = old.changes(&new);
        assert_eq!(
            changes.live,
            ["diagnostics.echo", "limits.refusals", "server.log_level"]
        );
        assert_eq!(
            changes.needs_restart,
            ["diagnostics.near_wrap", "server.tcp", "table.sessions"]
        );

        let merged = old.with_live_changes(&new);
        assert_eq!(
            (merged.limits.refusals, merged.table.sessions),
            (5, old.table.sessions)
        );
        assert_eq!(merged.changes(&new).live, [""; 0]);
        assert_eq!(old.changes(&old), Changes::default());
    }
}
