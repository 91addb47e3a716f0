//! Nobody can take it from the others: a quick part of the matrix of attacks; `tests/attacks` runs all of it.

use std::time::Duration;

use tests::attacks::Matrix;
use tests::random::Random;

/// The environment may say otherwise: `ATTACK` (`quick`, `all`, or names with commas), `ATTACK_SEED`, `ATTACK_SECONDS` for each.
#[test]
fn neighbours_are_served() {
    let number = |name: &str| {
        let text = std::env::var(name).ok()?;
        let number: Result<f64, _> = text.parse();
        Some(number.unwrap_or_else(|_| panic!("{name}={text} is no number")))
    };
    let which = std::env::var("ATTACK").unwrap_or_else(|_| "quick".into());
    let clock = || (Random::of_the_clock().bits() % 1_000_000_000) as f64;
    let seed = number("ATTACK_SEED").unwrap_or_else(clock) as u64;
    let usual = if which == "quick" { 1.0 } else { 3.0 };
    let attack_for = Duration::from_secs_f64(number("ATTACK_SECONDS").unwrap_or(usual));
    println!("ATTACK={which} ATTACK_SEED={seed}, {attack_for:?} each");
    let matrix = Matrix {
        which,
        seed,
        attack_for,
    };
    let failed = matrix.run();
    assert!(
        failed.is_empty(),
        "{} cells failed (ATTACK_SEED={seed}):\n{}",
        failed.len(),
        failed.join("\n")
    );
}
