//! The end of the server: everyone is told, gets what is queued for them, and is let go.

use protocol::code::CloseCode;
use protocol::reply;
use shm_table::{Order, RowHandle, State};

use crate::closing::Words;
use crate::connection::{Connection, Flag};
use crate::work::Work;

impl Work<'_> {
    /// Announces the end to every connection of this worker and begins to close them.
    pub fn drain(&mut self) {
        self.draining = true;
        // Each is told when its turn comes: there may be many.
        let rows: Vec<RowHandle> = self.hands.own_rows().collect();
        for handle in rows {
            self.hands.order(handle, Order::SHUTDOWN);
        }
    }

    /// Tells one connection that the server ends, and closes it.
    pub fn send_away(&mut self, connection: &mut Connection) {
        if connection.closing() {
            return;
        }
        if connection.state == State::Handshake {
            self.refuse_newcomer(connection);
            return;
        }
        if !connection.has(Flag::Echo) {
            let sentence = CloseCode::GOING_AWAY.reason();
            self.answer(connection, |w| reply::notice(w, "shutdown", sentence));
        }
        self.close(connection, CloseCode::GOING_AWAY, Words::None);
    }

    /// True while the server takes nobody any more.
    pub fn is_stopping(&self) -> bool {
        self.draining || self.table.draining()
    }

    /// The timer bounds how long a close may take, and it too ends with the server. So while this
    /// worker drains it looks at its own deadlines as well, now and then.
    pub fn enforce_deadlines(&mut self) {
        if !self.draining {
            return;
        }
        let now = self.clock.table_ms;
        let late = |handle: &RowHandle| (1..=now).contains(&self.hands.deadline(*handle));
        let rows: Vec<RowHandle> = self.hands.own_rows().filter(late).collect();
        for handle in rows {
            self.hands.order(handle, Order::DEADLINE);
        }
    }

    /// True once a draining worker has nothing left to do.
    pub fn is_drained(&self) -> bool {
        self.draining && self.seats.taken() == 0 && self.finished.is_empty()
    }
}
