//! After the death of processes: the table is put in order, and their connections wait in the vault for a successor.

use role::Seat;
use shm_table::{ProcessId, RowHandle};

use crate::master::Master;

impl Master<'_> {
    /// Puts the table in order. Only while everyone stands still.
    pub fn recover(&mut self, dead: &[ProcessId]) {
        let recovered = self.table.recover(&mut self.seats, dead);
        tracing::info!(
            dead = dead.len(),
            kept = recovered.kept,
            finished = recovered.rows.len(),
            blocks = recovered.blocks,
            outbox_entries = recovered.nodes,
            memberships = recovered.memberships,
            locks = recovered.locks,
            "the table is in order again"
        );
        self.let_go(&recovered.rows);
    }

    /// Connections that the dead had finished with, and whose report was lost with them.
    fn let_go(&mut self, rows: &[RowHandle]) {
        for &row in rows {
            let seat = Seat {
                row: row.row,
                generation: row.generation,
            };
            self.vault.cut(seat);
            if !self.seats.free(row) {
                tracing::error!(
                    row = row.row,
                    generation = row.generation,
                    "a recovered row cannot be freed"
                );
            }
        }
    }
}
