//! Becoming another user once the listeners are bound: root is needed for little, and not for long.

use std::ffi::CString;

use nix::unistd::{self, User};
use sys::files::Account;

/// A user to become.
pub struct Target {
    name: CString,
    /// Whose everything is that is made before.
    pub account: Account,
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
            account: Account {
                uid: user.uid,
                gid: user.gid,
            },
        }))
    }

    /// Becomes the user, with their groups, for good.
    ///
    /// # Errors
    /// A sentence; the process may then be half way and must not go on.
    pub fn become_it(&self) -> Result<(), String> {
        unistd::initgroups(&self.name, self.account.gid)
            .and_then(|()| unistd::setgid(self.account.gid))
            .and_then(|()| unistd::setuid(self.account.uid))
            .map_err(|e| format!("server.user: cannot become {:?}: {e}", self.name))
    }
}
