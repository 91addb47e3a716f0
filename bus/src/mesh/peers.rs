//! The other hosts of a mesh.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

use crate::seat::Seat;

/// A seat for each host that the directory knows or that is connected.
pub(super) struct Peers {
    seats: Mutex<BTreeMap<String, Arc<Seat>>>,
    changed: Notify,
    most: usize,
}

impl Peers {
    /// `most`: how many hosts there may be. A host that left and one that came in its place are both known for a moment.
    pub(super) fn new(most: usize) -> Self {
        Self {
            seats: Mutex::new(BTreeMap::new()),
            changed: Notify::new(),
            most: most.saturating_mul(2),
        }
    }

    pub(super) fn seat(&self, name: &str) -> Option<Arc<Seat>> {
        self.lock().get(name).cloned()
    }

    /// The seat of a host; `None`: there are too many.
    pub(super) fn seat_or_new(&self, name: &str) -> Option<Arc<Seat>> {
        let mut seats = self.lock();
        if let Some(seat) = seats.get(name) {
            return Some(Arc::clone(seat));
        }
        if seats.len() >= self.most {
            return None;
        }
        let seat = Arc::new(Seat::new());
        seats.insert(name.into(), Arc::clone(&seat));
        Some(seat)
    }

    /// Forgets who is neither connected nor known.
    pub(super) fn prune<T>(&self, known: &BTreeMap<String, T>) {
        self.lock()
            .retain(|name, seat| known.contains_key(name) || seat.is_taken());
    }

    pub(super) fn waiting(&self) -> bool {
        self.lock()
            .values()
            .any(|seat| seat.is_taken() && !seat.queue.is_idle())
    }

    /// A connection began or ended.
    pub(super) fn tell(&self) {
        self.changed.notify_one();
    }

    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Seat>>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
