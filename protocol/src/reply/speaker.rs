//! What is the same in all messages of one session, put together once.

use super::json::{self, Out};
use super::short::LongPiece;

/// Who speaks: a user, in a session.
#[derive(Debug, Default)]
pub struct Speaker {
    /// A message up to the number in its id.
    pub(super) opening: LongPiece<48>,
    /// What stands behind that number, up to the name of the recipient's field.
    pub(super) introduction: LongPiece<48>,
}

impl Speaker {
    /// A session, by its id, and the name of its user.
    #[inline]
    pub fn new(session: &str, name: &str) -> Self {
        let mut speaker = Speaker::default();
        // Long pieces take everything.
        let mut out = Out::new(&mut speaker.opening);
        let _ = out.put(b"{\"type\":\"message\",\"id\":\"");
        let _ = json::escaped(&mut out, session);
        let _ = out.put(b".");
        let mut out = Out::new(&mut speaker.introduction);
        let _ = out.put(b"\",\"from\":\"");
        let _ = json::escaped(&mut out, name);
        let _ = out.put(b"\",\"");
        speaker
    }
}
