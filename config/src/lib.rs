//! Reads the configuration of a server, or says what is wrong with it: the file, the line, the key and the reason.
//!
//! - A [`Config`] that [`load`] returns is whole: every key has a value inside its range, every path is absolute.
//! - An unknown key is an error, and so is an unknown `STEADFAST_...` variable: a misspelt limit must not go unnoticed.
//! - All problems of a file are reported at once, not one at a time.
//! - Nothing here changes the world: a file is read, and that is all.
#![forbid(unsafe_code)]

mod change;
mod check;
mod defaults;
mod environment;
mod file;
mod load;
mod network;
mod problem;
mod types;

pub use change::Changes;
pub use load::{load, load_text, pid_file};
pub use network::Network;
pub use problem::{Place, Problem, Problems};
pub use types::*;
