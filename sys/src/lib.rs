//! The system calls that need `unsafe`, behind interfaces that do not: packets that carry descriptors, the kernel's
//! account of a connection, descriptors that go through an execution, whose children are whose, and writing that never waits for a reader.
//!
//! Everything else the server asks of the system goes through the safe wrappers of `nix` and the standard library, where it is used.

pub mod children;
pub mod files;
pub mod inherit;
pub mod outlet;
pub mod packet;
pub mod tcp;
