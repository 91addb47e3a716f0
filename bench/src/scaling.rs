//! `scaling`: what a second worker brings, and what it costs that a message crosses from one worker to the other.

use crate::check::Faults;
use crate::pairs::{Pairs, Partners};
use crate::run::Span;
use crate::subject::{self, Kind, Needs, Subject};

const CONNECTIONS: usize = 96;

/// Measures both, and says what was lost, doubled, out of order or corrupt.
///
/// On a machine with two cores the load takes from two workers whatever time it needs, and leaves its own in their caches; so messages a
/// second say nothing, and two workers are compared with one that has the load on its core as well. On cores of their own they deliver what
/// the processor time of a message lets them.
pub fn run(kind: &Kind, rounds: usize, span: Span) -> Faults {
    let mut faults = Faults::default();
    println!(
        "| pairs, {CONNECTIONS} connections, 64 B | one worker, alone on its core | one, the load on its core | two, within | two, half across | two, across | times as much with two | across to within |"
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    for window in [1, 16] {
        let cases = [
            (1, false, Partners::NextButOne),
            (1, true, Partners::NextButOne),
            (2, true, Partners::NextButOne),
            (2, true, Partners::Both),
            (2, true, Partners::Neighbours),
        ];
        let mut figures = vec![Vec::new(); cases.len()];
        for _ in 0..rounds {
            for ((workers, shares, partners), figures) in cases.iter().zip(&mut figures) {
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
                let subject = Subject::start(kind, needs);
                if *shares && *workers == 1 {
                    // Where the worker is.
                    subject::pin(Some(0));
                }
                let outcome = pairs.run(&subject, span);
                faults.add(outcome.faults);
                figures.push(outcome.us_each());
            }
        }
        let us: Vec<f64> = figures.into_iter().map(crate::compare::median).collect();
        println!(
            "| window {window}: us a message | {:.3} | {:.3} | {:.3} | {:.3} | {:.3} | {:.2} | {:.2} |",
            us[0],
            us[1],
            us[2],
            us[3],
            us[4],
            2.0 * us[1] / us[3],
            us[4] / us[2]
        );
    }
    println!("\n{faults}");
    faults
}
