//! What a person reads when the server is ready: where to go, and how to stop it.

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use shm_table::Transport;

use crate::master::Master;

/// The text, whole, without a line end behind it.
pub fn text(master: &Master<'_>) -> String {
    let mut out = format!(
        "Steadfast {} is ready, pid {}.",
        env!("CARGO_PKG_VERSION"),
        std::process::id()
    );
    for (transport, bound) in master.listeners.addresses() {
        let address = reachable(bound);
        // Writing to memory does not fail.
        let _ = match transport {
            Transport::WebSocket => write!(out, "\n  chat page   http://{address}/"),
            Transport::Tcp => {
                write!(
                    out,
                    "\n  TCP         nc {} {}   (one JSON object a line)",
                    address.ip(),
                    address.port()
                )
            }
        };
        if bound.ip().is_unspecified() {
            let _ = write!(out, "   (and every other address of this machine)");
        }
    }
    let program = std::env::args().next().unwrap_or_else(|| "master".into());
    let config = master
        .source
        .named_file()
        .map_or_else(String::new, |file| format!(" --config {}", file.display()));
    let terminal = if master.source.is_background() {
        ""
    } else {
        "Ctrl-C, or: "
    };
    let _ = write!(out, "\n  stop        {terminal}{program} stop{config}");
    let _ = write!(out, "\n  look        {program} status{config}");
    out
}

/// An address that a program on this machine can connect to.
fn reachable(bound: SocketAddr) -> SocketAddr {
    match bound {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => (Ipv4Addr::LOCALHOST, v4.port()).into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => (Ipv6Addr::LOCALHOST, v6.port()).into(),
        other => other,
    }
}
