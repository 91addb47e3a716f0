//! The forwarder: hosts that have no broker meet here. It relays frames between them, and when one has died it clears its entries out of the directory.
//!
//! Several may run, and they do not know each other: every host is connected to all of them. One keeps nothing that is missed when it is killed.
#![forbid(unsafe_code)]

mod cleaning;
mod cli;

use clap::Parser;
use role::logging;
use std::{os::fd::AsFd, path::PathBuf, process::ExitCode};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let log = config::Server {
        log_level: cli.log_level.into(),
        log_file: PathBuf::new(),
        ..config::Server::default()
    };
    // Standard error, which is not waited for; without a file there is nothing to fail.
    if let Err(error) = logging::init(&log, "forwarder", None) {
        return failed(&error.to_string());
    }
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("the runtime cannot be made: {error}")),
    };
    match runtime.block_on(run(cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => failed(&sentence),
    }
}

fn failed(sentence: &str) -> ExitCode {
    tracing::error!("{sentence}");
    ExitCode::FAILURE
}

async fn run(cli: cli::Cli) -> Result<(), String> {
    let secret = cli.secret()?;
    let lease = std::time::Duration::from_millis(cli.lease_ms);
    let mut stops = Stops::new()?;
    let relay = bus::relay::Relay::open(&bus::relay::Settings {
        listen: cli.listen.clone(),
        namespace: cli.namespace.clone(),
        secret,
        lease,
        tls_cert_file: cli.tls_cert.clone().unwrap_or_default(),
        tls_key_file: cli.tls_key.clone().unwrap_or_default(),
    })
    .await?;
    let cleaning = cleaning::keep(&cli, relay.watch(), relay.name().to_owned())?;
    // Whoever started it with port 0 reads the address here; that nobody reads is no reason to end, nor to wait.
    let address = format!("listening on {}", relay.address());
    logging::print(std::io::stdout().as_fd(), &address);
    tracing::info!(
        "hosts of {} can connect to {}",
        cli.namespace,
        relay.address()
    );
    tokio::select! {
        () = relay.run() => {}
        () = cleaning => {}
        () = stops.next() => tracing::info!("stopped by a signal"),
    }
    Ok(())
}

/// The signals that end it.
struct Stops([tokio::signal::unix::Signal; 2]);

impl Stops {
    fn new() -> Result<Self, String> {
        let one =
            |kind| signal(kind).map_err(|error| format!("signals cannot be received: {error}"));
        Ok(Self([
            one(SignalKind::terminate())?,
            one(SignalKind::interrupt())?,
        ]))
    }

    async fn next(&mut self) {
        let [terminate, interrupt] = &mut self.0;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
}
