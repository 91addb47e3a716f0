//! `scaling`: what a second worker brings, and what it costs that a message crosses from one worker to the other.

use crate::check::Faults;
use crate::pairs::{Pairs, Partners};
use crate::run::Span;
use crate::subject::{Kind, Needs, Subject};

const CONNECTIONS: usize = 96;

/// Measures both, and says what was lost, doubled, out of order or corrupt.
///
/// On a machine with two cores the load takes from the workers whatever time it needs, so messages a second say nothing; two workers on
/// cores of their own deliver what the processor time of a message lets them.
pub fn run(kind: &Kind, rounds: usize, span: Span) -> Faults {
    let mut faults = Faults::default();
    println!(
        "| pairs, {CONNECTIONS} connections, 64 B | one worker | two, within | two, half across | two, across | times as much with two | across to within |"
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    for window in [1, 16] {
        let cases = [
            (1, Partners::NextButOne),
            (2, Partners::NextButOne),
            (2, Partners::Both),
            (2, Partners::Neighbours),
        ];
        let mut figures = vec![Vec::new(); cases.len()];
        for _ in 0..rounds {
            for ((workers, partners), figures) in cases.iter().zip(&mut figures) {
                let needs = Needs {
                    workers: *workers,
                    ..Needs::connections(CONNECTIONS)
                };
                let pairs = Pairs {
                    connections: CONNECTIONS,
                    size: 64,
                    window,
                    rate: None,
                    partners: *partners,
                };
                let outcome = pairs.run(&Subject::start(kind, needs), span);
                faults.add(outcome.faults);
                figures.push(outcome.us_each());
            }
        }
        let us: Vec<f64> = figures.into_iter().map(crate::compare::median).collect();
        println!(
            "| window {window}: us a message | {:.3} | {:.3} | {:.3} | {:.3} | {:.2} | {:.2} |",
            us[0],
            us[1],
            us[2],
            us[3],
            2.0 * us[0] / us[2],
            us[3] / us[1]
        );
    }
    println!("\n{faults}");
    faults
}
