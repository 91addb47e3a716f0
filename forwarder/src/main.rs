//! The forwarder: relays frames between hosts that have no broker.
#![forbid(unsafe_code)]
fn main() {}
