//! Measurements that users can run as well: `cargo run --release -p bench -- idle [SESSIONS]`.
//!
//! It measures the executable that `cargo build --release` made, or the one that STEADFAST_BIN names.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)] // a measurement that cannot be taken ends with its place

mod idle;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["idle"] => idle::measure(9_000),
        ["idle", sessions] => idle::measure(sessions.parse().expect("a number of sessions")),
        _ => {
            eprintln!("usage: bench idle [SESSIONS]   memory of idle, logged-in connections");
            std::process::exit(2);
        }
    }
}
