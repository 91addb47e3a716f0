//! The two vocabularies of failure: error codes, which a client reads inside a message while the
//! connection stays open, and close codes, with which the connection ends.

use std::fmt;

/// The `code` of an `error` message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The message is not JSON.
    BadJson,
    /// It is JSON, but not an object, or a field is missing or not what it should be.
    BadRequest,
    /// No such `type`.
    UnknownType,
    /// The request needs a login first.
    NotLoggedIn,
    /// A second login on one connection.
    AlreadyLoggedIn,
    /// The login was refused; the connection closes with [`CloseCode::AUTH_FAILED`].
    AuthFailed,
    /// The user may not do this.
    Forbidden,
    /// No such group.
    UnknownGroup,
    /// The sender is not in the group.
    NotAMember,
    /// The message is larger than `limits.message_bytes`.
    TooBig,
    /// The session sends faster than it may.
    RateLimited,
    /// The server has no room for this message now; later it may.
    Overloaded,
    /// A limit of the server or of the user is reached: sessions, groups, memberships.
    Capacity,
}

impl ErrorCode {
    /// Every code, in the order of protocol.md.
    pub const ALL: [ErrorCode; 13] = [
        ErrorCode::BadJson,
        ErrorCode::BadRequest,
        ErrorCode::UnknownType,
        ErrorCode::NotLoggedIn,
        ErrorCode::AlreadyLoggedIn,
        ErrorCode::AuthFailed,
        ErrorCode::Forbidden,
        ErrorCode::UnknownGroup,
        ErrorCode::NotAMember,
        ErrorCode::TooBig,
        ErrorCode::RateLimited,
        ErrorCode::Overloaded,
        ErrorCode::Capacity,
    ];

    /// The code as it stands on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            ErrorCode::BadJson => "bad_json",
            ErrorCode::BadRequest => "bad_request",
            ErrorCode::UnknownType => "unknown_type",
            ErrorCode::NotLoggedIn => "not_logged_in",
            ErrorCode::AlreadyLoggedIn => "already_logged_in",
            ErrorCode::AuthFailed => "auth_failed",
            ErrorCode::Forbidden => "forbidden",
            ErrorCode::UnknownGroup => "unknown_group",
            ErrorCode::NotAMember => "not_a_member",
            ErrorCode::TooBig => "too_big",
            ErrorCode::RateLimited => "rate_limited",
            ErrorCode::Overloaded => "overloaded",
            ErrorCode::Capacity => "capacity",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a connection is closed: the number in a WebSocket close frame, and `closeCode` on TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CloseCode(pub u16);

impl CloseCode {
    /// The client logged out, or closed first.
    pub const NORMAL: CloseCode = CloseCode(1000);
    /// The server is stopping.
    pub const GOING_AWAY: CloseCode = CloseCode(1001);
    /// A frame broke the rules.
    pub const PROTOCOL_ERROR: CloseCode = CloseCode(1002);
    /// Data of a kind this endpoint does not take: binary on the chat paths.
    pub const UNSUPPORTED: CloseCode = CloseCode(1003);
    /// A text message that is not UTF-8.
    pub const INVALID_TEXT: CloseCode = CloseCode(1007);
    /// A policy without a code of its own.
    pub const POLICY: CloseCode = CloseCode(1008);
    /// A message larger than `limits.message_bytes`.
    pub const TOO_BIG: CloseCode = CloseCode(1009);
    /// The server met something it could not handle.
    pub const INTERNAL: CloseCode = CloseCode(1011);
    /// The server restarts; come back soon.
    pub const RESTART: CloseCode = CloseCode(1012);
    /// No room now; come back later.
    pub const TRY_AGAIN: CloseCode = CloseCode(1013);
    /// No login within `limits.login_timeout_ms`.
    pub const LOGIN_TIMEOUT: CloseCode = CloseCode(4001);
    /// No sign of life within `limits.heartbeat_timeout_ms`.
    pub const HEARTBEAT_TIMEOUT: CloseCode = CloseCode(4002);
    /// The login was refused.
    pub const AUTH_FAILED: CloseCode = CloseCode(4003);
    /// A newer login of the same user took this session's place.
    pub const REPLACED: CloseCode = CloseCode(4004);
    /// An administrator ended the session.
    pub const KICKED: CloseCode = CloseCode(4005);
    /// The client reads too slowly: `limits.outbox_bytes` was passed.
    pub const SLOW_CONSUMER: CloseCode = CloseCode(4008);
    /// The rate limit was passed again and again.
    pub const RATE_LIMITED: CloseCode = CloseCode(4029);

    /// A short phrase for the close frame and for `kicked`; at most 123 bytes, the room there is.
    pub const fn reason(self) -> &'static str {
        match self {
            CloseCode::NORMAL => "goodbye",
            CloseCode::GOING_AWAY => "the server is stopping",
            CloseCode::PROTOCOL_ERROR => "protocol error",
            CloseCode::UNSUPPORTED => "text messages only",
            CloseCode::INVALID_TEXT => "text is not UTF-8",
            CloseCode::POLICY => "not allowed",
            CloseCode::TOO_BIG => "message too big",
            CloseCode::INTERNAL => "internal error",
            CloseCode::RESTART => "the server restarts",
            CloseCode::TRY_AGAIN => "try again later",
            CloseCode::LOGIN_TIMEOUT => "login timeout",
            CloseCode::HEARTBEAT_TIMEOUT => "heartbeat timeout",
            CloseCode::AUTH_FAILED => "authentication failed",
            CloseCode::REPLACED => "replaced by a newer login",
            CloseCode::KICKED => "kicked by an administrator",
            CloseCode::SLOW_CONSUMER => "slow consumer",
            CloseCode::RATE_LIMITED => "rate limit passed repeatedly",
            _ => "closed",
        }
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Whether a peer may put `code` into a close frame: RFC 6455, 7.4, with what IANA registered since
/// (1012 to 1014). The others of the first 3000 are reserved, or stand for "no code came".
pub const fn may_be_received(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_code_has_its_own_name() {
        let names: std::collections::BTreeSet<_> =
            ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(names.len(), ErrorCode::ALL.len());
        assert_eq!(ErrorCode::NotAMember.to_string(), "not_a_member");
    }

    #[test]
    fn close_codes_a_peer_may_send() {
        for code in [
            1000, 1001, 1002, 1003, 1007, 1009, 1011, 1014, 3000, 3999, 4000, 4999,
        ] {
            assert!(may_be_received(code), "{code}");
        }
        for code in [
            0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535,
        ] {
            assert!(!may_be_received(code), "{code}");
        }
    }

    #[test]
    fn what_we_send_a_peer_may_receive_and_fits_its_frame() {
        for code in 0..=u16::MAX {
            let close = CloseCode(code);
            assert!(close.reason().len() <= 123);
            assert!(
                close.reason() == "closed" || may_be_received(code),
                "{code}"
            );
        }
    }
}
