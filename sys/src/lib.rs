//! The system calls that need `unsafe`, behind interfaces that do not: packets that carry descriptors, and the
//! kernel's account of a connection.
//!
//! Everything else the server asks of the system goes through the safe wrappers of `nix` and the standard library, where it is used.

pub mod packet;
pub mod tcp;
