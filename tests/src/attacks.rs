//! Nobody can take it from the others: whatever one client, one user or one address does, a neighbour's messages are delivered, none is
//! refused, and their p99 stays within ten times the quiet one.
//!
//! A *cell* is one attack in one form (transport, number of connections, before or after the login) against a server as shipped, with
//! neighbours who check what they get ([`neighbours`]) and attackers who get what processor time is left ([`crowd`]). [`judge`] says when a cell passes.
//! `tests/attacks` runs all of them.

mod across;
mod cell;
mod connections;
pub mod crowd;
mod floods;
pub mod judge;
pub mod list;
pub mod neighbours;
mod newcomer;
mod partial;
mod report;
mod requests;
mod speech;
mod unread;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use self::cell::Control;
use self::list::{Attack, QUICK, Variant};
use self::report::Row;

/// How often a cell is tried that fails by time alone.
const TRIES: usize = 3;

/// What is tried, and for how long each.
pub struct Matrix {
    /// `all`, `quick`, or the beginning of names.
    pub which: String,
    /// What attackers do at random follows from it.
    pub seed: u64,
    /// How long each attack lasts.
    pub attack_for: Duration,
}

impl Matrix {
    /// Tries every cell, prints a line for each and the worst in a table, and returns those that failed.
    pub fn run(&self) -> Vec<String> {
        if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
            // Each connection is a descriptor here and in the server.
            let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
        }
        let attacks = list::all();
        let cells = self.cells(&attacks);
        assert!(!cells.is_empty(), "there is no attack {}", self.which);
        // Of one host, and of two; started when first needed.
        let mut controls = [None, None];
        let mut rows = Vec::new();
        println!("{}", Row::head());
        for (attack, variant) in cells {
            let control = &mut controls[attack.hosts - 1];
            let control = control.get_or_insert_with(|| Control::start(attack.hosts));
            let row = self.cell(attack, variant, control);
            println!("{row}");
            rows.push(row);
        }
        println!("\n{}", report::table(&rows));
        let failed = rows.iter().filter(|row| !row.passed());
        failed.map(Row::to_string).collect()
    }

    fn cells<'a>(&self, attacks: &'a [Attack]) -> Vec<(&'a Attack, Variant)> {
        if self.which == "quick" {
            let find = |name| attacks.iter().find(|attack| attack.name == name);
            let cell = |(name, variant)| Some((find(name)?, variant));
            return QUICK.into_iter().filter_map(cell).collect();
        }
        let wanted = |attack: &&Attack| {
            self.which == "all" || self.which.split(',').any(|name| attack.name == name)
        };
        let chosen = attacks.iter().filter(wanted);
        chosen
            .flat_map(|attack| {
                attack
                    .variants
                    .iter()
                    .map(move |variant| (attack, *variant))
            })
            .collect()
    }

    /// The best of some tries: a machine makes a latency longer, never shorter.
    fn cell(&self, attack: &Attack, variant: Variant, control: &Control) -> Row {
        let mut best: Option<Row> = None;
        for tries in 1..=TRIES {
            let run = || cell::run(attack, variant, self.seed, self.attack_for, control);
            let Ok(outcome) = catch_unwind(AssertUnwindSafe(run)) else {
                return Row::broken(attack, variant);
            };
            let row = Row::of(attack, variant, &outcome, tries);
            if best.as_ref().is_none_or(|best| row.is_better_than(best)) {
                best = Some(row);
            }
            if !outcome.may_be_chance() {
                break;
            }
        }
        best.expect("there was a try")
    }
}
