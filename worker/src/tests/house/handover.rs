//! The master's part where a worker dies and nobody can be started in its place.

use shm_table::{FIRST_WORKER, RowHandle};

use super::House;

impl House<'_> {
    /// The worker is dead, and nobody can be started in its place: the other one takes over what it had.
    pub fn hand_over(&mut self, from: usize, to: usize) {
        self.recover(from);
        self.pass_on(from, to);
    }

    /// The rows of a worker that is accounted for become the other's, who does not know of it yet.
    pub fn reassign(&mut self, from: usize, to: usize) -> Vec<RowHandle> {
        self.absent = Some(from);
        // Its descriptors are gone, and its reports.
        self.works[from].seats = crate::seats::Seats::default();
        self.works[from].finished.clear();
        let (from, to) = (FIRST_WORKER + from as u8, FIRST_WORKER + to as u8);
        let rows: Vec<RowHandle> = self
            .table
            .accounts()
            .iter()
            .filter(|account| account.owner.slot == from)
            .map(|account| account.handle)
            .collect();
        for &row in &rows {
            assert!(self.table.hand_over(&mut self.seats, row, to), "{row:?}");
        }
        self.table.hand_over_fanouts(&mut self.seats, from, to);
        assert_eq!(self.table.audit(), Vec::<String>::new());
        rows
    }

    /// The other worker is given the descriptors of what was made its own.
    pub fn give(&mut self, rows: &[RowHandle], to: usize) {
        for row in rows {
            if let Some((_, descriptor)) = self.vault.iter().find(|(kept, _)| kept == row) {
                let descriptor = descriptor.try_clone().unwrap();
                self.hand_over_seat(to, *row, descriptor);
            }
        }
    }

    fn pass_on(&mut self, from: usize, to: usize) {
        let rows = self.reassign(from, to);
        self.give(&rows, to);
    }

    /// Somebody can be started in that place again.
    pub fn revive(&mut self, worker: usize) {
        self.succeed(FIRST_WORKER + worker as u8);
    }
}
