//! The settings of a running server: read again, whole, and either taken over as far as they may change live, or refused with nothing
//! changed.

use std::io;
use std::time::Instant;

use role::{ToRole, logging};

use crate::limits;
use crate::master::Master;
use crate::shortage::REST;

impl Master<'_> {
    /// Reads the configuration again and takes over what may change live; what a person should know about it.
    ///
    /// # Errors
    /// What is wrong with it; nothing has changed then.
    pub fn renew_settings(&mut self) -> Result<String, String> {
        self.source.readable_at_once()?;
        let new = self.source.load_again(self.kept_config.as_ref())?;
        let changes = self.config.changes(&new);
        let merged = self.config.with_live_changes(&new);
        limits::raise_descriptors(&merged)?;
        if !changes.live.is_empty() {
            self.config = merged;
            logging::set_level(self.config.server.log_level);
            self.tell_everyone(&ToRole::Settings(Box::new(self.config.clone())));
        }
        let mut text = match changes.live.as_slice() {
            [] => "no key changed that a running server takes over".to_owned(),
            keys => format!("changed: {}", keys.join(", ")),
        };
        if !changes.needs_restart.is_empty() {
            let keys = changes.needs_restart.join(", ");
            tracing::warn!(
                keys,
                "these keys differ in the configuration and take effect at the next start"
            );
            text = format!("{text}; at the next start: {keys}");
        }
        Ok(text)
    }

    /// Opens the log file anew and hands it to every role: they may not be allowed to.
    pub fn reopen_logs(&mut self) {
        self.logs_again_at = None;
        let handed = match logging::reopen() {
            Ok(false) => return,
            Ok(true) => self.hand_log_round().map_err(|e| (e.to_string(), e)),
            Err(e) => Err((e.to_string(), e.error)),
        };
        if let Err((why, error)) = handed {
            if self.shortage.note("hand the log round", &error) {
                self.logs_again_at = Some(Instant::now() + REST);
            } else {
                tracing::error!(error = why, "the log file stays the old one");
            }
        }
    }

    /// Who does not get it stays with the old one.
    fn hand_log_round(&mut self) -> io::Result<()> {
        for member in self.posts.iter_mut().flat_map(|post| post.staff()) {
            let log = logging::duplicate()?.into_iter().collect();
            member.channel.queue_with(ToRole::ReopenLog, log);
        }
        Ok(())
    }
}
