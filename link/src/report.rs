//! How the cluster is, as seen from here: written into the table, for `status`, `/healthz` and the workers.

use shm_table::{ClusterReport, Name, Part};
use tokio::time::Instant;

use crate::link::Link;

impl Link<'_> {
    /// Writes the report.
    pub fn report(&mut self) {
        let directory_state = self.directory.state().borrow().clone();
        let bus_state = self.bus.state().borrow().clone();
        let directory_up = directory_state.is_up();
        self.directory_up = directory_up;
        let report = ClusterReport {
            directory: self.part(directory_up, directory_state.since, directory_state.why()),
            bus: self.part(bus_state.is_up(), bus_state.since, bus_state.why()),
            hosts: u32::try_from(self.hosts.borrow().len()).unwrap_or(u32::MAX),
            waiting: u32::try_from(self.letters.len()).unwrap_or(u32::MAX),
            waiting_bytes: self.hands.mailbox_bytes(),
            level: directory_state.is_level(),
        };
        self.table.set_cluster(&report);
    }

    fn part(&self, up: bool, since: Instant, why: &str) -> Part {
        let ago = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
        Part {
            up,
            since_ms: self.now_ms.saturating_sub(ago),
            why: Name::cut(why),
        }
    }
}
