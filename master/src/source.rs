//! Where the configuration comes from: remembered at the start, so that a reload reads the same file under the same rules.

use std::path::{Path, PathBuf};

use config::{Config, Problems};
use serde::{Deserialize, Serialize};

use crate::kept_config::KeptConfig;

/// The file that is read when none is named.
const DEFAULT_FILE: &str = "config.toml";

/// Where to read the configuration, now and at every reload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    file: PathBuf,
    /// A file that was named must exist.
    named: bool,
    background: bool,
}

impl Source {
    /// `file` as named on the command line; `background`: the server has no terminal to log to.
    pub fn new(file: Option<&Path>, background: bool) -> Self {
        let path = file.unwrap_or(Path::new(DEFAULT_FILE));
        // Only an empty path cannot be made absolute, and that fails with its name when it is read.
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Self {
            file: absolute,
            named: file.is_some(),
            background,
        }
    }

    /// The file, if there is one.
    pub fn file(&self) -> Option<&Path> {
        // Where it cannot be seen whether there is one, reading it says why; it is not taken for missing.
        let may_exist = self.named || self.file.try_exists().unwrap_or(true);
        may_exist.then_some(&*self.file)
    }

    /// The file, if it was named on the command line: whoever gives a command for this server has to name it as well.
    pub fn named_file(&self) -> Option<&Path> {
        self.named.then_some(&*self.file)
    }

    /// Whether the server runs without a terminal.
    pub fn is_background(&self) -> bool {
        self.background
    }

    /// Reads and validates it.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(&self) -> Result<Config, Problems> {
        let config = config::load(self.file(), std::env::vars_os())?;
        Ok(self.completed(config))
    }

    /// Reads and validates it as a server that may have been root once, and held the file.
    ///
    /// # Errors
    /// Everything that is wrong with it, one a line.
    pub fn load_again(&self, kept: Option<&KeptConfig>) -> Result<Config, String> {
        let told = |problems: Problems| problems.to_string();
        let text = kept
            .map(|kept| kept.text(&self.file))
            .transpose()?
            .flatten();
        match (text, kept) {
            (Some(text), _) => config::load_text(&self.file, &text, std::env::vars_os()),
            // It was there at the start: were it not found now, that is not as if there had been none.
            (None, Some(_)) => config::load(Some(&self.file), std::env::vars_os()),
            (None, None) => return self.load().map_err(told),
        }
        .map(|config| self.completed(config))
        .map_err(told)
    }

    fn completed(&self, mut config: Config) -> Config {
        if self.background && config.server.log_file.as_os_str().is_empty() {
            config.server.log_file = config.server.pid_file.with_extension("log");
        }
        config
    }

    /// Whether reading it would wait for nobody, which a server that runs cannot do.
    ///
    /// # Errors
    /// What the file is instead of one.
    pub fn readable_at_once(&self) -> Result<(), String> {
        match self.file().map(|file| (file, std::fs::metadata(file))) {
            Some((file, Ok(found))) if !found.is_file() => Err(format!(
                "{} is no file that can be read at once; put the configuration there as a plain file",
                file.display()
            )),
            // Reading it says why it cannot be read.
            _ => Ok(()),
        }
    }

    /// The pid file alone, whatever else is wrong.
    ///
    /// # Errors
    /// Why it is not known.
    pub fn pid_file(&self) -> Result<PathBuf, Problems> {
        let path = config::pid_file(self.file(), std::env::vars_os())?;
        // Where its folder does not exist there is no server, and the path is as good as another.
        Ok(crate::pid_file::canonical(&path).unwrap_or(path))
    }
}
