//! Connections that come through a proxy: whose they really are.
//!
//! Only who connects from `server.proxies` is believed. That is asked of the kernel and not of the row, where the client's address may
//! stand already: so a successor that reads the same bytes again comes to the same verdict.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};

use protocol::code::{CloseCode, ErrorCode};
use protocol::proxy::{self, HEADER_BYTES_MAX, Header};
use role::Seat;
use shm_table::State;

use crate::closing::Words;
use crate::connection::{Connection, Flag};
use crate::handshake::RETRY_AFTER;
use crate::reading::{Cursor, HEADROOM, Step};
use crate::work::Work;

const _: () = assert!(HEADER_BYTES_MAX <= HEADROOM);

/// As the master says it to those whom it refuses itself.
const TOO_MANY: &str = "too many connections from your address";

/// How long one who is turned away may take to close.
const LET_GO_MS: u32 = 1_000;

impl Work<'_> {
    /// Takes what a proxy says before everything else from the input, once it is complete. There need not be anything.
    pub fn next_start(
        &mut self,
        connection: &mut Connection,
        input: &[u8],
        cursor: &mut Cursor,
    ) -> Step {
        let proxy = self.proxy_of(connection);
        let header = match proxy {
            Some(_) => proxy::header(input.get(cursor.at..).unwrap_or_default()),
            None => Header::None,
        };
        match header {
            Header::Incomplete => return Step::NeedMore,
            Header::None => {
                connection.set(Flag::Begun, true);
                connection.set(Flag::Forwarded, proxy.is_some());
            }
            Header::Complete { bytes, client } => {
                // Before the header is accounted for: until then a successor would read it again.
                if let Some(client) = client {
                    self.note_client(connection, client);
                }
                cursor.advance(self, connection, bytes);
                let forwarded = client.is_none_or(|it| self.is_proxy(it.ip()));
                connection.set(Flag::Begun, true);
                connection.set(Flag::Forwarded, forwarded);
                self.commit(connection);
            }
            Header::Malformed(sentence) => {
                tracing::warn!(?proxy, sentence, "a proxy is not understood");
                self.finish(connection);
            }
        }
        Step::Again
    }

    /// Takes from the head of a request who made it, if it came from a proxy that says so.
    pub fn read_forwarded(&mut self, connection: &Connection, head: &[u8]) {
        if connection.has(Flag::Forwarded)
            && let Some(client) = proxy::client(head, |address| self.is_proxy(address))
        {
            self.note_client(connection, client);
        }
    }

    /// Tells the master again what a predecessor may have died over.
    pub fn tell_client_again(&mut self, connection: &Connection) {
        if let Some(proxy) = self.proxy_of(connection)
            && let Some(client) = self.hands.peer(connection.handle)
            && client.ip() != proxy
        {
            self.tell_client(connection, client.ip());
        }
    }

    /// There are too many connections from where this one comes. Its row is wanted, so that no answer is awaited for long.
    pub fn turn_away(&mut self, connection: &mut Connection) {
        if connection.closing() {
            return;
        }
        if connection.state == State::Handshake {
            let answer = protocol::http::refusal(503, &[RETRY_AFTER], TOO_MANY);
            self.respond(connection, |w| w.write_all(&answer));
        } else {
            let words = match connection.has(Flag::Echo) {
                true => Words::None,
                false => Words::Error(ErrorCode::Capacity, TOO_MANY),
            };
            self.close(connection, CloseCode::TRY_AGAIN, words);
        }
        if !connection.gone {
            let most = self.settings.limits.drain_timeout_ms.min(LET_GO_MS);
            let deadline = self.clock.after(most);
            self.hands.set_deadline(connection.handle, deadline);
        }
    }

    /// The proxy through which a connection comes.
    pub fn proxy_of(&self, connection: &Connection) -> Option<IpAddr> {
        if self.settings.server.proxies.is_empty() {
            return None;
        }
        let socket = self.seats.socket(connection.handle.row)?;
        crate::socket::peer(socket).filter(|&peer| self.is_proxy(peer))
    }

    fn is_proxy(&self, address: IpAddr) -> bool {
        self.settings.server.is_proxy(address)
    }

    fn note_client(&mut self, connection: &Connection, client: SocketAddr) {
        self.hands.set_peer(connection.handle, client);
        self.flows.forget(connection.handle.row);
        tracing::debug!(row = connection.handle.row, %client, "a proxy says whose connection it is");
        self.tell_client(connection, client.ip());
    }

    fn tell_client(&mut self, connection: &Connection, client: IpAddr) {
        let seat = Seat {
            row: connection.handle.row,
            generation: connection.handle.generation,
        };
        self.clients.push((seat, client));
    }
}
