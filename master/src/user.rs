//! Becoming another user once the listeners are bound: root is needed for little, and not for long.

use std::ffi::CString;
use std::path::Path;

use nix::unistd::{self, Gid, Uid, User};

/// A user to become.
pub struct Target {
    name: CString,
    uid: Uid,
    gid: Gid,
}

impl Target {
    /// Looks a user up by `server.user`; `None` when that is empty, or names who we are already.
    ///
    /// # Errors
    /// A sentence: there is no such user, or only root could become it.
    pub fn find(name: &str) -> Result<Option<Self>, String> {
        if name.is_empty() {
            return Ok(None);
        }
        let user = User::from_name(name)
            .map_err(|e| format!("server.user: the user {name:?} cannot be looked up: {e}"))?
            .ok_or_else(|| format!("server.user: there is no user {name:?} on this machine"))?;
        if user.uid == unistd::geteuid() {
            return Ok(None);
        }
        if !unistd::geteuid().is_root() {
            return Err(format!(
                "server.user: only root can become {name:?}; start as root, or as that user"
            ));
        }
        let name = CString::new(name).map_err(|e| format!("server.user: {e}"))?;
        Ok(Some(Self {
            name,
            uid: user.uid,
            gid: user.gid,
        }))
    }

    /// Gives a file or folder to the user, so that it can still be used afterwards.
    ///
    /// # Errors
    /// A sentence.
    pub fn give(&self, path: &Path) -> Result<(), String> {
        unistd::chown(path, Some(self.uid), Some(self.gid)).map_err(|e| {
            format!(
                "server.user: {} cannot be given to {:?}: {e}",
                path.display(),
                self.name
            )
        })
    }

    /// Becomes the user, with their groups, for good.
    ///
    /// # Errors
    /// A sentence; the process may then be half way and must not go on.
    pub fn become_it(&self) -> Result<(), String> {
        unistd::initgroups(&self.name, self.gid)
            .and_then(|()| unistd::setgid(self.gid))
            .and_then(|()| unistd::setuid(self.uid))
            .map_err(|e| format!("server.user: cannot become {:?}: {e}", self.name))
    }
}
