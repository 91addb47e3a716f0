//! The executable: the server, the commands for it, and every process of it.
//!
//! `main` decides what this process is; everything else has a file of its own.
#![forbid(unsafe_code)]

mod audit;
mod channels;
mod cli;
mod control;
mod control_client;
mod control_conversation;
mod control_socket;
mod daemon;
mod greeting;
mod image;
mod kept_config;
mod launch;
mod limits;
mod listeners;
mod master;
mod member;
mod network;
mod patience;
mod pid_file;
mod poller;
mod post;
mod process;
mod recovery;
mod refusals;
mod reload;
mod seating;
mod segment;
mod settings;
mod shares;
mod shortage;
mod signals;
mod source;
mod standstill;
mod status;
mod status_cluster;
mod status_turns;
mod stop;
mod stranded;
mod succession;
mod supervision;
mod upgrade;
mod upgrade_handover;
mod upgrade_state;
mod upgrade_takeover;
mod upgrade_trial;
mod user;
mod vault;

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;

use ::role::{ToMaster, logging};
use clap::Parser;

use crate::cli::{Cli, Command, RoleName};
use crate::source::Source;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(role) = cli.role {
        return run_role(role);
    }
    if cli.takeover_trial {
        return upgrade_trial::run();
    }
    if let Some(memory) = cli.takeover {
        return run_on(memory);
    }
    let config = cli.config.as_deref();
    let result = match cli.command {
        Some(Command::Check) => check(config),
        Some(Command::Status { json }) => {
            pid_file(config).and_then(|path| control_client::status(&path, json))
        }
        Some(Command::Reload) => pid_file(config).and_then(|path| control_client::reload(&path)),
        Some(Command::Upgrade) => pid_file(config).and_then(|path| control_client::upgrade(&path)),
        Some(Command::Audit) => pid_file(config).and_then(|path| control_client::audit(&path)),
        Some(Command::Stop) => pid_file(config).and_then(|path| control_client::stop(&path)),
        None if cli.daemon => executable().and_then(|path| daemon::start(&path, config)),
        None if cli.detached => return run_detached(config),
        None => executable()
            .and_then(|path| {
                launch::serve(path, Source::new(config, false), |master| {
                    greet(&greeting::text(master))
                })
            })
            .map(|()| String::new()),
    };
    match result {
        Ok(text) => {
            if !text.is_empty() {
                say(&text);
            }
            ExitCode::SUCCESS
        }
        Err(reason) => {
            complain(&reason);
            ExitCode::FAILURE
        }
    }
}

/// Is one of the master's processes until that asks it to end.
fn run_role(name: RoleName) -> ExitCode {
    let start = match role::start(name.as_str()) {
        Ok(start) => start,
        Err(error) => {
            // Which is the log already, and does not wait for a reader.
            logging::print(io::stderr().as_fd(), &format!("{}: {error}", name.as_str()));
            return ExitCode::from(error.exit_status());
        }
    };
    let channel = Rc::clone(&start.channel);
    // The reason and whether another such process would fail in the same way.
    let result = match name {
        RoleName::Worker => worker::run(start).map_err(|e| (e.to_string(), e.cannot_work())),
        RoleName::Timer => timer::run(start).map_err(|e| (e.to_string(), e.cannot_work())),
        RoleName::Link => link::run(start).map_err(|e| (e.to_string(), e.cannot_work())),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err((reason, cannot_work)) => {
            tracing::error!(reason, "this process ends");
            // Where the channel itself is the reason, its end says it.
            let _ = channel.send(&ToMaster::Failed(reason));
            ExitCode::from(if cannot_work {
                role::EXIT_CANNOT_WORK
            } else {
                role::EXIT_FAILED
            })
        }
    }
}

/// Is the server that `--daemon` has started.
fn run_detached(config: Option<&Path>) -> ExitCode {
    let source = Source::new(config, true);
    let result = daemon::detach()
        .map_err(|e| format!("cannot leave the terminal: {e}"))
        .and_then(|()| executable())
        .and_then(|path| {
            launch::serve(path, source, |master| {
                daemon::tell(Ok(&greeting::text(master)))
            })
        });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            tracing::error!("{reason}");
            daemon::tell(Err(&reason));
            ExitCode::FAILURE
        }
    }
}

/// Is the server that this process was already, as another executable.
fn run_on(memory: i32) -> ExitCode {
    match upgrade_takeover::run(memory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            // In the background this is the log.
            complain(&reason);
            ExitCode::FAILURE
        }
    }
}

fn check(config: Option<&Path>) -> Result<String, String> {
    let source = Source::new(config, false);
    source.load().map_err(|problems| problems.to_string())?;
    Ok(match source.file() {
        Some(file) => format!("{}: valid", file.display()),
        None => "there is no config.toml here; the built-in defaults are valid".into(),
    })
}

/// Where the server of this configuration keeps its pid file. Other mistakes in the configuration do not matter for that: a server can
/// be stopped with them.
fn pid_file(config: Option<&Path>) -> Result<PathBuf, String> {
    Source::new(config, false)
        .pid_file()
        .map_err(|problems| problems.to_string())
}

/// The path of this executable: at a later start of a role, whatever lies there then is executed.
fn executable() -> Result<PathBuf, String> {
    std::env::current_exe().map_err(|e| format!("the path of this executable is not known: {e}"))
}

/// Says where to go, if whoever would read that takes it: a server does not wait for a reader.
fn greet(text: &str) {
    if !logging::print(io::stdout().as_fd(), text) {
        tracing::warn!("standard output did not take the greeting");
    }
}

/// Tells why this process ends, which a server does without waiting for a reader.
fn complain(reason: &str) {
    let reason = format!("master: {reason}");
    // Where there is no standard error there is nobody to tell.
    let _ = match logging::has_begun() {
        true => logging::print(io::stderr().as_fd(), &reason),
        false => writeln!(io::stderr(), "{reason}").is_ok(),
    };
}

fn say(text: &str) {
    // A closed standard output must not end a server.
    let _ = writeln!(io::stdout(), "{text}").and_then(|()| io::stdout().flush());
}
