//! Workers at work in one process: a table in private memory, real sockets, turns by hand.

mod closing;
mod frames;
mod house;
mod limits;
mod messages;
mod random;
mod tcp;
mod websocket;
mod whole;
