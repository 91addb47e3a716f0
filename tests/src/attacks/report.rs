//! A line for each cell, and the table for docs/benchmarks.md.

use std::fmt;
use std::time::Duration;

use super::cell::Outcome;
use super::judge::{FLOOR, Kind, too_slow};
use super::list::{Attack, Variant};

/// Rows of the table, at most: all that failed, and the worst of the others.
const WORST: usize = 12;

/// What became of a cell.
pub struct Row {
    name: &'static str,
    does: &'static str,
    label: String,
    hosts: usize,
    p50: Duration,
    p99: Duration,
    login_p99: Duration,
    quiet_p99: Duration,
    refused: u64,
    lost: u64,
    closed: u64,
    connections: u64,
    written: u64,
    read: u64,
    tries: usize,
    /// How the worst kind stands to its bound; above 1 is too slow.
    part: f64,
    /// Why it failed.
    why: Vec<String>,
}

impl Row {
    pub(super) fn of(attack: &Attack, variant: Variant, outcome: &Outcome, tries: usize) -> Row {
        let too_slow = too_slow(&outcome.quiet, &outcome.attacked);
        let mut why: Vec<String> = too_slow
            .iter()
            .map(|(kind, p99, bound)| format!("{} {p99:.0?} of {bound:.0?}", kind.word()))
            .collect();
        why.extend(outcome.harm.told.iter().take(2).cloned());
        why.extend(outcome.faults.iter().cloned());
        if !outcome.harm.is_none() && why.is_empty() {
            why.push("not all came".into());
        }
        if outcome.connections == 0 {
            why.push("no attacker had a connection".into());
        }
        Row {
            name: attack.name,
            does: attack.does,
            label: variant.label(),
            hosts: attack.hosts,
            p50: outcome.attacked.p50(Kind::Message),
            p99: outcome.attacked.p99(Kind::Message),
            login_p99: outcome.attacked.p99(Kind::Login),
            quiet_p99: outcome.quiet.p99(Kind::Message),
            refused: outcome.harm.refused,
            lost: outcome.harm.lost,
            closed: outcome.harm.closed,
            connections: outcome.connections,
            written: outcome.written,
            read: outcome.read,
            tries,
            part: outcome.part_of_bound(),
            why,
        }
    }

    /// Of a cell in which the server could not be started, or not be stopped in order.
    pub(super) fn broken(attack: &Attack, variant: Variant) -> Row {
        Row {
            name: attack.name,
            does: attack.does,
            label: variant.label(),
            hosts: attack.hosts,
            p50: Duration::ZERO,
            p99: Duration::ZERO,
            login_p99: Duration::ZERO,
            quiet_p99: Duration::ZERO,
            refused: 0,
            lost: 0,
            closed: 0,
            connections: 0,
            written: 0,
            read: 0,
            tries: 1,
            part: f64::INFINITY,
            why: vec!["the server was not well: see above".into()],
        }
    }

    /// Whether the neighbours were served as they must be.
    pub fn passed(&self) -> bool {
        self.why.is_empty()
    }

    pub(super) fn is_better_than(&self, other: &Row) -> bool {
        (self.passed(), -self.part) > (other.passed(), -other.part)
    }

    /// What the columns of a line are.
    pub fn head() -> String {
        "attack, form: neighbours' p50 / p99 (a login's p99) and the quiet p99, milliseconds; refused, lost, closed; \
         what the attackers did: verdict"
            .into()
    }

    fn in_words(&self) -> String {
        let across = if self.hosts > 1 { ", across hosts" } else { "" };
        format!("{} ({}{across})", self.name, self.label)
    }
}

fn ms(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1_000.0)
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<44} {:>7} / {:>7} (login {}), quiet {}; {} refused, {} lost, {} closed; {} connections, {:.1} MB out, {:.1} MB in",
            self.in_words(),
            ms(self.p50),
            ms(self.p99),
            ms(self.login_p99),
            ms(self.quiet_p99),
            self.refused,
            self.lost,
            self.closed,
            self.connections,
            self.written as f64 / 1e6,
            self.read as f64 / 1e6,
        )?;
        if self.tries > 1 {
            write!(f, "; the best of {} tries", self.tries)?;
        }
        if self.passed() {
            write!(f, ": ok")
        } else {
            write!(f, ": FAILED: {}", self.why.join("; "))
        }
    }
}

/// The worst cells, as Markdown.
pub fn table(rows: &[Row]) -> String {
    let failed = rows.iter().filter(|row| !row.passed()).count();
    let mut worst: Vec<&Row> = rows.iter().collect();
    let rank = |row: &Row| (row.passed(), row.refused + row.lost + row.closed == 0);
    worst.sort_by(|a, b| rank(a).cmp(&rank(b)).then(b.part.total_cmp(&a.part)));
    worst.truncate(WORST.max(failed));
    let mut text = format!(
        "{failed} of {} cells failed. The worst:\n\n\
         | attack | what it does | p50 ms | p99 ms | quiet p99 ms | times | refused | lost | closed |\n\
         | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
        rows.len()
    );
    for row in worst {
        let quiet = row.quiet_p99.max(FLOOR);
        let times = row.p99.as_secs_f64() / quiet.as_secs_f64();
        text += &format!(
            "| {} | {} | {} | {} | {} | {times:.1} | {} | {} | {} |\n",
            row.in_words(),
            row.does,
            ms(row.p50),
            ms(row.p99),
            ms(row.quiet_p99),
            row.refused,
            row.lost,
            row.closed
        );
    }
    text
}
