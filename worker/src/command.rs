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
use protocol::request::{Message, Request};
use shm_table::{Counter, State};

use crate::connection::Connection;
use crate::rate::{self, Limit, Verdict};
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
    let parsed = work.spare.shapes.parse(text);
    let id = match &parsed {
        Ok(message) => message.id,
        Err(refusal) => refusal.id,
    };
    if !is_within_rate(work, connection, id) {
        return;
    }
    match &parsed {
        Ok(Message { request, .. }) => choose(work, connection, request, id),
        Err(refusal) => work.refuse(connection, refusal.code, &refusal.sentence, id),
    }
    connection.redo = false;
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

/// Counts the message against the session's rate. A session that goes on past the limit is closed.
fn is_within_rate(work: &mut Work<'_>, connection: &mut Connection, id: Option<&str>) -> bool {
    let limits = &work.settings.limits;
    let strikes_max = limits.rate_limit_strikes.max(1);
    let limit = Limit {
        per_second: limits.messages_per_second,
        burst: limits.message_burst,
    };
    match rate::check(&mut connection.stream.rate, limit, work.clock.table_ms) {
        Verdict::Accepted => true,
        Verdict::Refused { strikes } => {
            work.refuse(connection, ErrorCode::RateLimited, "too many messages", id);
            if strikes >= strikes_max {
                work.kick(connection, CloseCode::RATE_LIMITED);
            }
            false
        }
    }
}
