//! Orders: what other processes, or other sessions, want done with a session of ours.

use protocol::code::{CloseCode, ErrorCode};
use shm_table::{Counter, Order, State};

use crate::closing::Words;
use crate::connection::{Connection, Flag};
use crate::seats::Hint;
use crate::work::Work;

/// What the last words to a client occupy at most.
const LAST_WORDS_BYTES_MAX: u64 = 2048;

/// Whoever holds less than this by the time that the order comes has given it back by himself.
const EVICTED_BYTES_MIN: u64 = 1024;

impl Work<'_> {
    /// Carries out the orders of a row. Only then are they taken away: should this process die over them, its successor
    /// finds them, and each may be carried out twice.
    pub fn obey(&mut self, connection: &mut Connection) {
        let orders = self.hands.orders(connection.handle);
        if orders.is_empty() {
            return;
        }
        if orders.has(Order::FANNED_OUT) {
            self.fanout_over(connection);
        }
        if orders.has(Order::SLOW) {
            self.drop_slow(connection);
        }
        if orders.has(Order::EVICTED) {
            self.evict(connection);
        }
        if orders.has(Order::UNSERVED) {
            self.let_down(connection);
        }
        if orders.has(Order::REPLACED) {
            self.kick(connection, CloseCode::REPLACED);
        }
        if orders.has(Order::KICKED) {
            self.kick(connection, CloseCode::KICKED);
        }
        if orders.has(Order::CROWDED) {
            self.turn_away(connection);
        }
        if orders.has(Order::SHUTDOWN) {
            self.send_away(connection);
        }
        if orders.has(Order::DEADLINE) {
            self.deadline_passed(connection);
        }
        self.hands.obeyed(connection.handle, orders);
    }

    /// A slow consumer: what it has not read it will not get, except the message that is half
    /// written already, and the reason.
    fn drop_slow(&mut self, connection: &mut Connection) {
        if connection.closing() || connection.state == State::Handshake {
            return;
        }
        self.hands
            .discard_output(connection.handle, &mut connection.stream);
        self.kick(connection, CloseCode::SLOW_CONSUMER);
    }

    /// Memory is short, and it was found to hold the most of it. What it holds is given back now, and not when it has been told.
    fn evict(&mut self, connection: &mut Connection) {
        let held = self.hands.held_bytes(connection.handle, &connection.stream);
        if connection.gone || held < EVICTED_BYTES_MIN {
            return;
        }
        tracing::debug!(row = connection.handle.row, held, "evicted");
        self.hands.count(Counter::Evicted, 1);
        let is_slow = self.hands.own_outbox_bytes(connection.handle) * 2 > held
            && self.seats.has(connection.handle.row, Hint::Blocked);
        match connection.state {
            State::Closing | State::Handshake => self.finish(connection),
            _ if is_slow => self.drop_slow(connection),
            _ => {
                self.hands
                    .discard_output(connection.handle, &mut connection.stream);
                let words = Words::Error(
                    ErrorCode::Overloaded,
                    "this connection held too much of the server's memory",
                );
                self.close_curtly(connection, CloseCode::TRY_AGAIN, words);
            }
        }
        // A message that is half written stays; one that alone is more than may be held is not waited for.
        if !connection.gone
            && self.hands.own_outbox_bytes(connection.handle)
                > self.hands.share_bytes().max(LAST_WORDS_BYTES_MAX)
        {
            self.finish(connection);
        }
    }

    /// It was not given something that others have, because nobody served it for too long: it ends, so that its client knows. What is
    /// queued for it comes first.
    fn let_down(&mut self, connection: &mut Connection) {
        if !connection.closing() && connection.state != State::Handshake {
            self.kick(connection, CloseCode::TRY_AGAIN);
        }
    }

    /// Which deadline it was follows from the state. The timer takes a deadline away when it orders;
    /// if there is one, a sign of life has come since, or the session is in another state.
    pub fn deadline_passed(&mut self, connection: &mut Connection) {
        if connection.gone {
            return;
        }
        if self.hands.deadline(connection.handle) > self.table.now_ms() {
            return;
        }
        if connection.has(Flag::FanningOut) && !connection.closing() {
            // It is we who do not hear it.
            let deadline = self.clock.after(self.settings.limits.heartbeat_timeout_ms);
            return self.hands.set_deadline(connection.handle, deadline);
        }
        match connection.state {
            State::Handshake if connection.stream.received_len > 0 => self.refuse_late(connection),
            State::Connected if !connection.heartbeats() => {
                self.kick(connection, CloseCode::LOGIN_TIMEOUT);
            }
            State::Connected | State::LoggedIn => {
                self.kick(connection, CloseCode::HEARTBEAT_TIMEOUT);
            }
            // Said nothing at all, or does not let go.
            _ => self.finish(connection),
        }
    }
}
