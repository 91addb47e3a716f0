//! `ping` and `logout`.

use protocol::code::CloseCode;
use protocol::reply;

use crate::closing::Words;
use crate::connection::Connection;
use crate::work::Work;

pub(super) fn ping(work: &mut Work<'_>, connection: &mut Connection) {
    let now = work.clock.unix_ms;
    work.answer(connection, |w| reply::pong(w, now));
}

/// Closes the session as the client asked; on TCP with a last line, as for every close.
pub(super) fn logout(work: &mut Work<'_>, connection: &mut Connection) {
    let words = match connection.transport {
        shm_table::Transport::WebSocket => Words::None,
        shm_table::Transport::Tcp => Words::Kicked("logout"),
    };
    work.close(connection, CloseCode::NORMAL, words);
}
