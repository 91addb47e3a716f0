//! The HTTP side of the WebSocket port: the upgrade, the chat page, the health check, refusals.
//!
//! Whatever is not an upgrade is answered once and the connection ends.

use std::io::Write;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use protocol::http::{self, Endpoint, Head, Page, Rules, What};
use protocol::ws::{self, Opcode};
use shm_table::State;

use crate::connection::{Connection, Flag};
use crate::page;
use crate::reading::{Cursor, Step};
use crate::socket;
use crate::work::Work;

/// Between two lines of the log about refused hosts.
const HOST_WARNING_MS: u64 = 15_000;

/// What a refused newcomer is told to wait, in seconds.
pub(crate) const RETRY_AFTER: (&str, &str) = ("Retry-After", "5");

impl Work<'_> {
    /// Takes the request head from the input once it is complete, and answers it.
    pub fn next_head(
        &mut self,
        connection: &mut Connection,
        input: &[u8],
        cursor: &mut Cursor,
    ) -> Step {
        let from_proxy = self.proxy_of(connection).is_some();
        // Whom it is for stood before the request.
        let introduced = from_proxy && !connection.has(Flag::Forwarded);
        let for_this_machine = self.came_to(connection).is_some_and(|it| it.is_loopback());
        let rules = Rules {
            origins: &self.settings.auth.origins,
            echo: self.settings.diagnostics.echo,
            hosts: (for_this_machine && !introduced).then_some(&*self.settings.server.hosts),
            from_proxy,
        };
        let (bytes, what) = match http::parse(input.get(cursor.at..).unwrap_or_default(), &rules) {
            Head::Incomplete => return Step::NeedMore,
            Head::Complete { bytes, what } => (bytes, what),
        };
        let head = input.get(cursor.at..cursor.at + bytes).unwrap_or_default();
        cursor.advance(self, connection, bytes);
        if matches!(what, What::Upgrade { .. }) {
            self.read_forwarded(connection, head);
        }
        match what {
            What::Upgrade { .. } if self.is_stopping() => self.refuse_newcomer(connection),
            What::Upgrade { endpoint, response } => self.upgrade(connection, endpoint, &response),
            What::Get {
                page: Page::Chat,
                head_only,
            } => {
                self.respond(connection, |w| page::chat(w, head_only));
            }
            What::Get { page, head_only } => {
                let health = self.health();
                let told = page == Page::Healthz && self.may_know_reasons(connection, introduced);
                self.respond(connection, |w| page::health(w, &health, told, head_only));
            }
            What::RefuseHost { host, response } => {
                self.warn_of_host(connection, &host);
                self.respond(connection, |w| w.write_all(&response));
            }
            What::Refuse { response, .. } => self.respond(connection, |w| w.write_all(&response)),
        }
        self.commit(connection);
        Step::Again
    }

    /// The address that a client has connected to.
    fn came_to(&self, connection: &Connection) -> Option<IpAddr> {
        socket::local(self.seats.socket(connection.handle.row)?)
    }

    /// Whether somebody may be told of addresses and errors inside.
    fn may_know_reasons(&self, connection: &Connection, introduced: bool) -> bool {
        let peer = || socket::peer(self.seats.socket(connection.handle.row)?);
        self.settings.diagnostics.health_reasons
            && !introduced
            && peer().is_none_or(|peer| peer.is_loopback())
    }

    /// Tells the operator what to list, a few times a minute at most: anybody can ask for anything.
    fn warn_of_host(&self, connection: &Connection, host: &str) {
        static NEXT_MS: AtomicU64 = AtomicU64::new(0);
        let now = self.table.now_ms();
        if now < NEXT_MS.load(Ordering::Relaxed) {
            return;
        }
        NEXT_MS.store(now + HOST_WARNING_MS, Ordering::Relaxed);
        let peer = self.hands.peer(connection.handle);
        tracing::warn!(
            host,
            ?peer,
            "a request to a loopback address was refused because of its Host; if a proxy passes it on, or it is a name of this machine, list it in \
             server.hosts"
        );
    }

    /// Answers 503 and ends the connection.
    pub fn refuse_newcomer(&mut self, connection: &mut Connection) {
        let answer = http::refusal(503, &[RETRY_AFTER], "The server is stopping.");
        self.respond(connection, |w| w.write_all(&answer));
    }

    /// Answers 408: the request was not complete in time.
    pub fn refuse_late(&mut self, connection: &mut Connection) {
        let answer = http::refusal(408, &[], "The request did not come in time.");
        self.respond(connection, |w| w.write_all(&answer));
    }

    /// The answer and what follows it at once are one piece, so that it was queued whole or not at all, whenever this process
    /// dies: see [`Work::send_raw`].
    fn upgrade(&mut self, connection: &mut Connection, endpoint: Endpoint, response: &[u8]) {
        let greeting = match endpoint {
            Endpoint::Chat => self.greeting(connection),
            Endpoint::Echo => Vec::new(),
        };
        let answered = self.send_raw(connection, |w| {
            w.write_all(response)?;
            w.write_all(&greeting)
        });
        if !answered {
            self.finish(connection);
            return;
        }
        self.enter(connection, State::Connected);
        connection.set(Flag::Greeted, true);
        match endpoint {
            Endpoint::Chat => {
                let deadline = self.clock.after(self.settings.limits.login_timeout_ms);
                self.hands.set_deadline(connection.handle, deadline);
            }
            Endpoint::Echo => {
                connection.set(Flag::Echo, true);
                self.sign_of_life(connection);
            }
        }
    }

    /// `open`, as a frame.
    fn greeting(&self, connection: &Connection) -> Vec<u8> {
        let mut body = Vec::new();
        // Writing to memory does not fail.
        let _ = self.write_open(connection, &mut body);
        let mut frame = Vec::with_capacity(body.len() + 4);
        let header = ws::header(Opcode::Text, body.len());
        frame.extend(header.bytes.iter().take(header.len.into()));
        frame.append(&mut body);
        frame
    }

    /// Queues a whole HTTP answer and ends our direction behind it.
    pub fn respond(
        &mut self,
        connection: &mut Connection,
        write: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>,
    ) {
        if self.send_raw(connection, write) {
            self.hang_up_after_output(connection);
        } else {
            self.finish(connection);
        }
    }
}
