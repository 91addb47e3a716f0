//! Which hosts the mesh does not reach.

use super::Mesh;
use crate::carrier::{Reach, Unreached};

impl Mesh {
    /// Tells how the bus is. A host that was lost a moment ago is not counted: it may be the link's successor that is about to connect.
    pub(super) fn tell_state(&self) {
        let hosts = self.context.hosts.borrow();
        let mut reach = Reach::default();
        for name in hosts.keys() {
            match self.peers.seat(name) {
                None => reach.missing(Unreached {
                    name,
                    why: "there are more hosts than cluster.hosts".into(),
                }),
                Some(seat) => match seat.missing() {
                    None => reach.reached(),
                    Some((since, _)) if since.elapsed() < self.silence => reach.in_doubt(),
                    Some((_, why)) => reach.missing(Unreached { name, why }),
                },
            }
        }
        reach.tell(&self.context.state);
    }
}
