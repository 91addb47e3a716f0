//! What is the same in all messages of one session, put together once.

use super::json::{self, Out};

/// Who speaks: a user, in a session.
#[derive(Debug, Default)]
pub struct Speaker {
    name: String,
    /// A message up to the number in its id.
    pub(super) opening: Vec<u8>,
    /// What stands behind that number, up to the name of the recipient's field.
    pub(super) introduction: Vec<u8>,
}

impl Speaker {
    /// Becomes a session and its user, in the room that there is.
    pub fn become_one(&mut self, session: &str, name: &str) {
        self.name.clear();
        self.name.push_str(name);
        self.opening.clear();
        self.introduction.clear();
        let mut out = Out::new(&mut self.opening);
        // A vector takes everything.
        let _ = out.put(b"{\"type\":\"message\",\"id\":\"");
        let _ = json::escaped(&mut out, session);
        let _ = out.put(b".");
        let mut out = Out::new(&mut self.introduction);
        let _ = out.put(b"\",\"from\":\"");
        let _ = json::escaped(&mut out, name);
        let _ = out.put(b"\",\"");
    }

    /// The user's name.
    pub fn name(&self) -> &str {
        &self.name
    }
}
