//! The segment of this server: the table in it and the claim on it. It is handed down to whoever needs it, and never looked up.

use config::Config;
use shm_table::{Capacity, Claim, Table, remove_leftovers};

/// The segment of this server. Its name is removed when this is dropped; the memory goes with the last process that has it.
pub struct Segment {
    pub table: Table,
    pub claim: Claim,
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

/// Creates a segment that no other server has, after what killed servers have left was removed: the memory may be needed.
///
/// # Errors
/// A sentence: no room, or what the system says.
pub fn create(capacity: &Capacity) -> Result<Segment, String> {
    for segment in remove_leftovers() {
        tracing::warn!(segment, "what a killed server left is removed");
    }
    let (table, claim) = Table::create(capacity).map_err(|e| e.to_string())?;
    Ok(Segment { table, claim })
}
