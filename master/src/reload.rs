//! Reload: the configuration is read again, whole, and either taken over as far as it may change live, or refused with nothing changed.

use std::rc::Rc;

use role::{ToRole, logging};

use crate::image::Image;
use crate::limits;
use crate::master::Master;

impl Master<'_> {
    /// Reads the configuration again. The answer is what a person should know about it.
    ///
    /// # Errors
    /// What is wrong with it; the server goes on as before.
    pub fn reload(&mut self) -> Result<String, String> {
        let result = self.try_reload();
        match &result {
            Ok(text) => tracing::info!("reload: {text}"),
            Err(reason) => tracing::error!("reload refused, everything stays as it was: {reason}"),
        }
        result
    }

    fn try_reload(&mut self) -> Result<String, String> {
        if self.phase.is_stopping() {
            return Err("the server is stopping".into());
        }
        let new = self
            .source
            .load()
            .map_err(|problems| problems.to_string())?;
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

    /// What a post's next candidate executes.
    pub fn image_for(&self, _index: usize) -> Rc<Image> {
        Rc::clone(&self.image)
    }

    /// Opens the log files anew, here and in every role.
    pub fn reopen_logs(&mut self) {
        logging::reopen();
        self.tell_everyone(&ToRole::ReopenLog);
    }
}
