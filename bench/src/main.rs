//! Measurements that users can run as well: `cargo run --release -p bench -- idle [SESSIONS]`.
//!
//! They measure the executable that `cargo build --release` made, or the one that STEADFAST_BIN names, or those on the command line.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)] // a measurement that cannot be taken ends with its place

mod cluster;
mod idle;
mod light;
mod load;
mod pause;

const USAGE: &str = "\
usage: bench idle [SESSIONS]                 memory of idle, logged-in connections
       bench load BIN [OTHER_BIN [ROUNDS [PART_OF_A_LOAD'S_NAME]]]
                                             processor time per message, of one executable or two side by side
       bench cluster                         messages between two hosts, over each bus
       bench pause [SESSIONS]                how long messages take while processes are replaced";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["idle"] => idle::measure(9_000),
        ["idle", sessions] => idle::measure(number(sessions)),
        ["cluster"] => cluster::measure(),
        ["pause"] => [1_000, 10_000].into_iter().for_each(pause::measure),
        ["pause", sessions] => pause::measure(number(sessions)),
        ["load", one] => load::measure(&[one], 5, ""),
        ["load", one, other] => load::measure(&[one, other], 5, ""),
        ["load", one, other, rounds] => load::measure(&[one, other], number(rounds), ""),
        ["load", one, other, rounds, part] => load::measure(&[one, other], number(rounds), part),
        _ => {
            eprintln!("{USAGE}");
            std::process::exit(2);
        }
    }
}

fn number<T: std::str::FromStr>(text: &str) -> T {
    let number = text.parse().ok();
    number.unwrap_or_else(|| panic!("{text:?} is no number"))
}
