//! Each load on each server in turn, several rounds of it, as a table: the medians, and how many times the first server's figure each is,
//! round by round (the middle one, the least and the most). Only figures of one run can be compared.

use std::path::PathBuf;
use std::time::Duration;

use crate::check::Faults;
use crate::connect;
use crate::fanout::Fanout;
use crate::pairs::{Pairs, Partners};
use crate::run::Span;
use crate::subject::{Kind, Needs, Subject};

/// What is compared, and how long.
pub struct Plan {
    /// Names and servers; all ratios are to the first.
    pub subjects: Vec<(String, Kind)>,
    pub rounds: usize,
    pub seconds: f64,
    /// Only loads with this in their names.
    pub only: String,
    /// Where the table goes as well.
    pub write: Option<PathBuf>,
}

/// Connections of the load `idle`.
const HELD: usize = 8_000;

enum What {
    Pairs(Pairs),
    Fanout(Fanout),
    Connect,
    Idle,
}

struct Load {
    name: &'static str,
    what: What,
    /// The most that ours may take: times what the floor takes, or bytes.
    target: &'static str,
}

fn loads() -> Vec<Load> {
    let pairs = |name, connections, size, window, target| Load {
        name,
        what: What::Pairs(Pairs {
            connections,
            size,
            window,
            rate: None,
            partners: Partners::Neighbours,
        }),
        target,
    };
    let fanout = |name, senders, window, target| Load {
        name,
        what: What::Fanout(Fanout {
            members: 1_000,
            senders,
            size: 64,
            window,
        }),
        target,
    };
    vec![
        pairs(
            "pairs, 100 connections, 64 B, window 1: us a message",
            100,
            64,
            1,
            "1.1",
        ),
        pairs(
            "pairs, 100 connections, 64 B, window 16: us a message",
            100,
            64,
            16,
            "1.8",
        ),
        pairs(
            "pairs, 2,000 connections, 64 B, window 1: us a message",
            2_000,
            64,
            1,
            "1.15",
        ),
        pairs(
            "pairs, 2,000 connections, 64 B, window 16: us a message",
            2_000,
            64,
            16,
            "2",
        ),
        pairs(
            "pairs, 100 connections, 1 KiB, window 16: us a message",
            100,
            1_024,
            16,
            "2.5",
        ),
        fanout(
            "fan-out to 1,000, 64 B, 4 senders, window 4: us a delivery",
            4,
            4,
            "1.1",
        ),
        fanout(
            "fan-out to 1,000, 64 B, 1 sender, window 1: us a delivery",
            1,
            1,
            "1.0",
        ),
        Load {
            name: "connect and login: us a connection",
            what: What::Connect,
            target: "1.5",
        },
        Load {
            name: "idle, logged in: bytes a connection",
            what: What::Idle,
            target: "1024 B",
        },
    ]
}

impl Load {
    fn measure(&self, kind: &Kind, seconds: f64, faults: &mut Faults) -> f64 {
        let span = Span {
            warm_up: Duration::from_secs_f64(seconds / 4.0),
            measured: Duration::from_secs_f64(seconds),
        };
        let start = |connections: usize, groups: usize| {
            let needs = Needs {
                groups,
                memberships: groups * connections,
                ..Needs::connections(connections)
            };
            Subject::start(kind, needs)
        };
        let outcome = match &self.what {
            What::Pairs(pairs) => pairs.run(&start(pairs.connections, 0), span),
            What::Fanout(fanout) => fanout.run(&start(fanout.members, 1), span),
            What::Connect => {
                let newcomers = connect::Newcomers::usual(8_000);
                return newcomers.connect(&start(2_000, 0)).us_each();
            }
            What::Idle => {
                // The table is there before the first connection, so it does not show in what grows.
                let reserved = match kind {
                    Kind::Steadfast(_) => crate::idle::reserved_bytes(HELD as u32) as f64,
                    Kind::Floor | Kind::Plain => 0.0,
                };
                let grown = connect::idle(&start(HELD + 64, 0), HELD, Duration::from_secs(1));
                return grown.bytes_each + reserved;
            }
        };
        faults.add(outcome.faults);
        outcome.us_each()
    }
}

/// Runs the plan, prints the table, and says what was lost, doubled, out of order or corrupt in all of it.
pub fn run(plan: &Plan) -> Faults {
    let mut faults = Faults::default();
    let mut table = String::from("| load |");
    for (name, _) in &plan.subjects {
        table += &format!(" {name} |");
    }
    for (name, _) in plan.subjects.iter().skip(1) {
        table += &format!(" {name}, times |");
    }
    table += " reach |\n| --- |";
    table += &" ---: |".repeat(2 * plan.subjects.len());
    println!("{table}");
    for load in loads() {
        if !load.name.contains(&plan.only) {
            continue;
        }
        let mut figures = vec![Vec::new(); plan.subjects.len()];
        for _ in 0..plan.rounds {
            for ((_, kind), figures) in plan.subjects.iter().zip(&mut figures) {
                figures.push(load.measure(kind, plan.seconds, &mut faults));
            }
        }
        let mut row = format!("| {} |", load.name);
        for figures in &figures {
            let figure = median(figures.clone());
            let digits = if figure < 100.0 { 3 } else { 0 };
            row += &format!(" {figure:.digits$} |");
        }
        for others in &figures[1..] {
            // Round by round: what else the machine does changes from one to the next, and is much the same within one.
            let mut times: Vec<f64> = others.iter().zip(&figures[0]).map(|(a, b)| a / b).collect();
            times.sort_by(f64::total_cmp);
            let (least, most) = (times[0], times[times.len() - 1]);
            row += &format!(" {:.2} ({least:.2} to {most:.2}) |", median(times));
        }
        row += &format!(" {} |", load.target);
        println!("{row}");
        table += &format!("\n{row}");
    }
    println!("\n{faults}");
    if let Some(path) = &plan.write {
        std::fs::write(path, table + "\n")
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    faults
}

/// The middle one.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
