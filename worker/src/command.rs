//! The protocol: one file per request under `command/`, chosen here.
//!
//! Each message of a client has an ordinal, counted in its row; the id of what it sends derives from
//! it (`message_id.rs`). A message that is handled again after a crash therefore has the id it had before.

mod broadcast;
mod elsewhere;
mod group;
mod login;
mod message_id;
mod presence;
mod sendgroup;
mod sendto;
mod session;

use protocol::code::{CloseCode, ErrorCode};
use protocol::request::{Message, Request, Rules};
use shm_table::{Counter, State};

use crate::connection::Connection;
use crate::rate::{self, Verdict};
use crate::slice::LOOK_AFTER;
use crate::work::Work;

/// Handles one message of a client and answers it.
pub(crate) fn handle(work: &mut Work<'_>, connection: &mut Connection, text: &str) {
    connection.stream.ordinal = connection.stream.ordinal.wrapping_add(1);
    work.hands.count(Counter::MessagesIn, 1);
    let crash_word = &work.settings.diagnostics.crash_word;
    if !crash_word.is_empty() && text.contains(crash_word.as_str()) {
        tracing::error!(
            row = connection.handle.row,
            "this message has diagnostics.crash_word in it"
        );
        std::process::abort();
    }
    let parsed = work.spare.shapes.parse(text, rules(&work.settings.limits));
    let id = match &parsed {
        Ok(message) => message.id,
        Err(refusal) => refusal.id,
    };
    if let Verdict::Refused { strikes } = work.judge(connection, rate::message(text.len())) {
        // Each is answered, as its sender waits for it; `strike` bounds how many that can be.
        work.refuse(connection, ErrorCode::RateLimited, "too many messages", id);
        work.strike(connection, strikes);
        return;
    }
    match &parsed {
        Ok(Message { request, .. }) => choose(work, connection, request, id),
        Err(refusal) => work.refuse(connection, refusal.code, &refusal.sentence, id),
    }
    connection.redo = false;
}

fn rules(limits: &config::Limits) -> Rules {
    Rules {
        names: match limits.names {
            config::Names::Safe => protocol::name::Rule::Safe,
            config::Names::Any => protocol::name::Rule::Any,
        },
        strict_content: limits.strict_content,
    }
}

fn choose(
    work: &mut Work<'_>,
    connection: &mut Connection,
    request: &Request<'_>,
    id: Option<&str>,
) {
    if !matches!(
        request,
        Request::SendTo(_) | Request::SendGroup(_) | Request::Ping
    ) {
        // It may take long: time to look at the clock. Of messages, their recipients tell (`deliver`).
        work.slice.note(LOOK_AFTER);
    }
    match request {
        Request::Login(login) => login::login(work, connection, login, id),
        Request::Ping => session::ping(work, connection),
        Request::Logout => session::logout(work, connection),
        _ if connection.state != State::LoggedIn => {
            work.refuse(connection, ErrorCode::NotLoggedIn, "log in first", id);
        }
        Request::SendTo(send) => sendto::sendto(work, connection, send, id),
        Request::SendGroup(send) => sendgroup::sendgroup(work, connection, send, id),
        Request::Join(group) => group::join(work, connection, group, id),
        Request::Leave(group) => group::leave(work, connection, group, id),
        Request::Broadcast { content } => broadcast::broadcast(work, connection, content, id),
        Request::WhoUsers(users) => presence::users(work, connection, users, id),
        Request::WhoGroup(group) => presence::group(work, connection, group, id),
    }
}

impl Work<'_> {
    /// Counts what came against the session's rate, at this cost ([`crate::rate`]). False: it is past the rate and must not be answered; who
    /// goes on like that is closed.
    #[inline]
    pub fn is_within_rate(&mut self, connection: &mut Connection, cost: u32) -> bool {
        match self.judge(connection, cost) {
            Verdict::Accepted => true,
            Verdict::Refused { strikes } => {
                self.strike(connection, strikes);
                false
            }
        }
    }

    #[inline]
    fn judge(&self, connection: &mut Connection, cost: u32) -> Verdict {
        let now_ms = self.clock.table_ms;
        rate::check(&mut connection.stream.rate, &self.rate, now_ms, cost)
    }

    /// Something was refused because of the rate. What comes after our last words is no longer understood, and in the end no longer waited for.
    #[cold]
    fn strike(&mut self, connection: &mut Connection, strikes: u32) {
        let most = self.settings.limits.rate_limit_strikes;
        let most = most.clamp(1, rate::STRIKES_MAX / 2);
        if connection.gone {
        } else if connection.closing() {
            if strikes >= 2 * most {
                self.finish(connection);
            }
        } else if strikes >= most {
            self.kick(connection, CloseCode::RATE_LIMITED);
            if !connection.gone {
                self.hang_up_after_output(connection);
            }
        }
    }
}
