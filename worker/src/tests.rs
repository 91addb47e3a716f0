//! Workers at work in one process: a table in private memory, real sockets, turns by hand.

mod closing;
mod fanout;
mod frames;
mod house;
#[cfg(feature = "kill-points")]
mod kill;
mod leaving;
mod limits;
mod messages;
mod proxy;
mod random;
mod rates;
mod slices;
mod tcp;
mod websocket;
mod whole;
mod wires;
