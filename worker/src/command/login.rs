//! `login`: the connection becomes a user's session.

use config::AuthMode;
use protocol::code::{CloseCode, ErrorCode};
use protocol::reply;
use protocol::request::Login;
use shm_table::{LoginRefused, SameUser, State};

use crate::closing::Words;
use crate::connection::{Connection, Flag};
use crate::rate;
use crate::work::Work;

pub(super) fn login(
    work: &mut Work<'_>,
    connection: &mut Connection,
    login: &Login<'_>,
    id: Option<&str>,
) {
    let again = connection.redo && connection.state == State::LoggedIn;
    if connection.state != State::Connected && !again || connection.has(Flag::Echo) {
        let sentence = "this connection is logged in already";
        work.refuse(connection, ErrorCode::AlreadyLoggedIn, sentence, id);
        return;
    }
    let user = match (&login.user_name, work.settings.auth.mode) {
        (Some(user), AuthMode::Open) => user,
        (None, AuthMode::Open) => {
            fail(
                work,
                connection,
                "tokens are not enabled on this server: log in with userName",
            );
            return;
        }
        (_, AuthMode::Jwt) => {
            fail(
                work,
                connection,
                "this server takes tokens only, which this version cannot check",
            );
            return;
        }
    };
    let login = shm_table::Login {
        user,
        device_id: login.device_id.as_deref().unwrap_or_default(),
        device_model: login.device_model.as_deref().unwrap_or_default(),
        policy: policy(work.settings.limits.same_user),
        sessions_per_user: work.settings.limits.sessions_per_user,
    };
    let result = if again {
        work.hands.login_again(connection.handle, &login)
    } else {
        work.hands.login(connection.handle, &login)
    };
    let refused = match result {
        Ok(_) => {
            connection.state = State::LoggedIn;
            work.flows.forget(connection.handle.row);
            work.sign_of_life(connection);
            work.answer(connection, |w| reply::welcome(w, user));
            return;
        }
        Err(LoginRefused::TooManySessions) => "this user has as many sessions as allowed",
        Err(LoginRefused::Full) => "the server has as many users as it can hold",
        Err(LoginRefused::NotConnected) => "the session cannot log in now",
    };
    let now_ms = work.clock.table_ms;
    let rate = &mut connection.stream.rate;
    rate::charge(rate, &work.rate, now_ms, rate::REFUSED_LOGIN);
    work.refuse(connection, ErrorCode::Capacity, refused, id);
}

fn fail(work: &mut Work<'_>, connection: &mut Connection, sentence: &str) {
    work.hands.count(shm_table::Counter::Refused, 1);
    work.close(
        connection,
        CloseCode::AUTH_FAILED,
        Words::Error(ErrorCode::AuthFailed, sentence),
    );
}

fn policy(same_user: config::SameUser) -> SameUser {
    match same_user {
        config::SameUser::Many => SameUser::Many,
        config::SameUser::OnePerDevice => SameUser::OnePerDevice,
        config::SameUser::One => SameUser::One,
    }
}
