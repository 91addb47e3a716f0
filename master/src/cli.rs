//! The command line: what a person may ask of the executable, and the hidden arguments with which it starts itself again.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

/// Steadfast: an instant-messaging server whose connections outlive the processes that serve them.
#[derive(Debug, Parser)]
#[command(name = "master", version, after_help = AFTER_HELP)]
pub struct Cli {
    /// The configuration; without this, config.toml of the current directory if there is one, else built-in defaults
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Start in the background, and return when the server is ready
    #[arg(long)]
    pub daemon: bool,

    /// Started in the background by `--daemon`: standard output tells the one who waits
    #[arg(long, hide = true)]
    pub detached: bool,

    /// Be one of the master's processes; standard input is its channel
    #[arg(long, hide = true, value_enum)]
    pub role: Option<RoleName>,

    /// The process slot, for whoever looks at a list of processes
    #[arg(long, hide = true)]
    pub slot: Option<u8>,

    /// Go on with the server that this process was until now; the descriptor of what it handed over
    #[arg(long, hide = true, value_name = "FD")]
    pub takeover: Option<i32>,

    /// Say whether this executable could take over what is described on standard input
    #[arg(long, hide = true)]
    pub takeover_trial: bool,

    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Asks something of a server that runs, or of a configuration.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the processes, sessions and memory of the running server
    Status {
        /// As one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Have the running server read its configuration again and replace its processes by the executable on disk; no connection drops
    Reload,
    /// Have the master of the running server execute the executable on disk in its own place; no connection drops
    Upgrade,
    /// Compare the table, the connections and the kernel's account of them; status 1 if something does not fit
    Audit,
    /// Stop the running server and wait until it is gone
    Stop,
    /// Validate the configuration
    Check,
}

/// The kinds of processes that the master starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RoleName {
    Worker,
    Timer,
    Link,
}

impl RoleName {
    /// As it stands on the command line and in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Timer => "timer",
            Self::Link => "link",
        }
    }
}

const AFTER_HELP: &str = "Without a command the server starts, in the foreground: Ctrl-C stops it.\n\
    Every key of the configuration can be set as an environment variable, STEADFAST_SECTION_KEY.\n\
    Signals: TERM or INT stop (a second one at once), USR1 reload, USR2 upgrade, HUP open the log file anew.";

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_configuration_may_be_named_before_or_after_the_command() {
        for line in [
            ["master", "--config", "x", "status"],
            ["master", "status", "--config", "x"],
        ] {
            assert_eq!(Cli::parse_from(line).config, Some("x".into()));
        }
    }
}
