//! Descriptors: how many the configured capacity needs, and the limit raised to that before anything is promised to anyone.

use config::Config;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Descriptors that a process needs besides its connections: channels, doorbells, log, epoll, files of libraries.
const OTHERS: u64 = 256;

/// Raises the limit of this process and of those it will start to what `config` needs: the master keeps every client's descriptor, and
/// one worker may come to hold them all.
///
/// # Errors
/// A sentence with the numbers, where the system does not allow it.
pub fn raise_descriptors(config: &Config) -> Result<(), String> {
    let needed = descriptors_needed(config);
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)
        .map_err(|e| format!("RLIMIT_NOFILE cannot be read: {e}"))?;
    if soft >= needed {
        return Ok(());
    }
    setrlimit(Resource::RLIMIT_NOFILE, needed, hard.max(needed)).map_err(|e| {
        format!(
            "table.sessions = {} and limits.refusals = {} need {needed} open files in one process, but the limit is {hard} and may not \
             be raised ({e}); raise it (ulimit -n {needed}, or LimitNOFILE={needed} in a systemd unit, and fs.nr_open), or lower \
             table.sessions",
            config.table.sessions, config.limits.refusals,
        )
    })
}

fn descriptors_needed(config: &Config) -> u64 {
    u64::from(config.table.sessions) + u64::from(config.limits.refusals) + OTHERS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_the_system_has_is_refused_with_the_numbers() {
        let mut config = Config::default();
        config.table.sessions = u32::MAX;
        let before = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        let reason = raise_descriptors(&config).unwrap_err();
        assert!(reason.contains("4294967295"), "{reason}");
        assert!(reason.contains(&before.1.to_string()), "{reason}");
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), before);
    }

    #[test]
    fn what_is_there_already_is_enough() {
        let mut config = Config::default();
        config.table.sessions = 1;
        config.limits.refusals = 0;
        raise_descriptors(&config).unwrap();
    }
}
