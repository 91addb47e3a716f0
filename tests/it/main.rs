//! Black-box tests of the real executable over real sockets: one module per subject.
//!
//! They say what `protocol.md`, `config.md` and the limits promise to clients and operators, and know nothing of the code.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on fails, with the place and the reason"
)]

mod attacks;
mod audit;
mod back;
mod broadcast;
mod capacity;
mod chaos;
mod closed_loop;
mod closing;
mod cluster_churn;
mod cluster_deaths;
mod cluster_load;
mod cluster_messages;
mod cluster_outages;
mod cluster_partition;
mod cluster_policy;
mod cluster_shares;
mod cluster_storms;
mod commands;
mod content;
mod control;
mod corners;
mod counters;
mod deadlines;
mod doors;
mod echo;
mod errors;
mod exhausted;
mod fanout;
mod flood;
mod fragments;
mod frames;
mod front;
mod full;
mod garbage;
mod groups;
mod http;
mod identity;
mod keeping;
mod keeping_ends;
mod keeping_full;
mod login;
mod logs;
mod order;
mod origin;
mod page;
mod poison;
mod presence;
mod private;
mod proxy_protocol;
mod reload;
mod reload_processes;
mod same_user;
mod shares;
mod shares_groups;
mod shares_input;
mod shares_rows;
mod shutdown;
mod silence;
mod slow;
mod soak;
mod start;
mod stopped;
mod stranded;
mod supervision;
mod unread;
mod upgrade;
mod upgrade_room;
mod victim;

use tests::client::BOTH;
use tests::{Server, Settings, Transport};

/// Runs a test on each transport, each time against a server of its own with these settings.
fn both(settings: &Settings, test: impl Fn(&Server, Transport)) {
    for transport in BOTH {
        println!("on {transport:?}");
        test(&Server::start(settings.clone()), transport);
    }
}
