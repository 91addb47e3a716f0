//! A worker: it reads, parses, answers and writes the sockets it was handed.
//!
//! It keeps nothing about a session that could not be rebuilt from its row. Private memory per
//! connection is a descriptor and one byte of hints; where the connection stands in its two byte
//! streams, what is half received and what is not yet written lie in the table.
//!
//! The files follow the life of a message: `run` turns, `seats` takes over connections, `adoption` those of a predecessor,
//! `reading` moves bytes in, `handshake`, `websocket` and `lines` find messages in them,
//! `command` has a file per request, `output` moves bytes out, `closing` says goodbye.

#![forbid(unsafe_code)]

mod adoption;
mod clock;
mod closing;
mod command;
mod connection;
mod drain;
mod error;
mod fanout;
mod flows;
mod handshake;
mod health;
mod inbox;
mod lines;
mod memory;
mod orders;
mod output;
mod page;
mod poller;
mod proxy;
mod queue;
mod rate;
mod reading;
mod run;
mod seats;
mod slice;
mod socket;
mod websocket;
mod work;

#[cfg(test)]
mod tests;

pub use error::Error;
pub use run::run;
