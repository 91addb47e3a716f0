//! What the load and the yardsticks have in common: frames, and the layout of the requests that the load sends.
#![forbid(unsafe_code)]

pub mod layout;
pub mod place;
pub mod wire;
