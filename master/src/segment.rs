//! The segment of this server: its name, and the replacement of one that a killed master has left.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use config::Config;
use shm_table::{Capacity, CreateError, Table};

/// The segment of this server. Its name is removed when this is dropped; the memory goes with the last process that has it.
pub struct Segment {
    pub table: Table,
    pub name: String,
}

impl Drop for Segment {
    fn drop(&mut self) {
        if let Err(error) = Table::remove(&self.name) {
            tracing::error!(%error, segment = self.name, "the segment stays");
        }
    }
}

/// The name derives from the pid file's, so that servers with different pid files never meet, and a killed one's is found again.
pub fn name(pid_file: &Path) -> String {
    // FNV-1a (draft-eastlake-fnv): the same in every build, unlike the standard library's hashers.
    let hash = pid_file
        .as_os_str()
        .as_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    format!("steadfast-{hash:016x}")
}

/// What the configuration asks of the table.
pub fn capacity(config: &Config) -> Capacity {
    Capacity {
        sessions: config.table.sessions,
        arena_bytes: u64::from(config.table.arena_mib) << 20,
        groups: config.table.groups,
        memberships: config.table.memberships,
        workers: config.worker_count(),
        hosts: if config.cluster.enabled {
            config.cluster.hosts
        } else {
            0
        },
    }
}

/// Creates the segment. One that exists is replaced when its master is gone: the caller holds the pid file's lock, so no other server
/// of this configuration runs, except where somebody removed the pid file under it.
///
/// # Errors
/// A sentence: no room, or it belongs to a server that runs.
pub fn create(name: &str, capacity: &Capacity) -> Result<Segment, String> {
    let segment = |table| Segment {
        table,
        name: name.to_owned(),
    };
    let master_pid = match Table::create(name, capacity) {
        Ok(table) => return Ok(segment(table)),
        Err(CreateError::Exists { master_pid, .. }) => master_pid,
        Err(e) => return Err(e.to_string()),
    };
    if let Some(pid) = master_pid
        && has_mapped(pid, name)
    {
        return Err(format!(
            "a server runs already with this pid file, which was removed under it: pid {pid}; stop it with `kill {pid}`"
        ));
    }
    tracing::warn!(
        segment = name,
        former_master = master_pid,
        "replacing what a killed server left"
    );
    Table::remove(name)
        .map_err(|e| format!("the segment {name} of a killed server cannot be removed: {e}"))?;
    Table::create(name, capacity)
        .map(segment)
        .map_err(|e| e.to_string())
}

/// Whether a process has the segment mapped: a pid alone may have been given to somebody else since.
fn has_mapped(pid: i32, name: &str) -> bool {
    match std::fs::read_to_string(format!("/proc/{pid}/maps")) {
        Ok(maps) => maps.lines().any(|line| line.ends_with(&format!("/{name}"))),
        // It runs as somebody else and cannot be looked at: it may be the one.
        Err(e) => e.kind() == std::io::ErrorKind::PermissionDenied,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Capacity {
        Capacity {
            sessions: 4,
            arena_bytes: 1 << 20,
            groups: 4,
            memberships: 4,
            workers: 1,
            hosts: 0,
        }
    }

    #[test]
    fn names_differ_with_the_path_and_never_change() {
        assert_eq!(
            name(Path::new("/run/steadfast.pid")),
            "steadfast-3b4349bfa52488ce"
        );
        assert_ne!(name(Path::new("/a")), name(Path::new("/b")));
    }

    #[test]
    fn one_whose_master_lives_is_left_alone_and_a_foreign_file_is_not() {
        let name = format!("steadfast-test-{}", std::process::id());
        let segment = create(&name, &small()).unwrap();
        let refused = create(&name, &small()).map(drop).unwrap_err();
        assert!(
            refused.contains(&format!("pid {}", std::process::id())),
            "{refused}"
        );
        drop(segment);

        let path = format!("/dev/shm/{name}");
        std::fs::write(&path, b"half a segment").unwrap();
        drop(create(&name, &small()).unwrap());
        assert!(!Path::new(&path).exists());
    }
}
