//! The same story where nobody can be started in the dead worker's slot, and a worker of another one takes over; and dies over that.

use std::panic::{AssertUnwindSafe, catch_unwind};

use shm_table::kill_point;

use super::{SURVIVOR, Step, VICTIM, World, die_everywhere, die_in, dies_unnoticed, tell};

/// What becomes of the connections of a worker that died.
#[derive(Clone, Copy)]
pub(super) enum After {
    /// A successor in its slot takes them over.
    Successor,
    /// Nobody can be started there: the survivor takes them over.
    HandOver,
    /// The same, while somebody comes to the slot after all; and the survivor dies over it after so many stores and calls.
    HandOverAndDeath(u64),
}

impl World<'_> {
    /// Whether a message was taken for the reason of two deaths.
    pub(super) fn is_poisoned(&self) -> bool {
        let processes = self.house.table.stats().processes;
        processes.iter().any(|process| {
            process
                .counters
                .iter()
                .any(|&(name, count)| name == "poisoned" && count > 0)
        })
    }

    /// The victim has died.
    pub(super) fn go_on(&mut self, then: After) {
        if matches!(then, After::Successor) {
            return self.house.replace(VICTIM);
        }
        self.server = SURVIVOR;
        let After::HandOverAndDeath(after) = then else {
            return self.house.hand_over(VICTIM, SURVIVOR);
        };
        self.house.recover(VICTIM);
        let rows = self.house.reassign(VICTIM, SURVIVOR);
        self.house.revive(VICTIM);
        self.house.turn(VICTIM);
        kill_point::arm(after);
        let house = &mut self.house;
        let outcome = catch_unwind(AssertUnwindSafe(|| house.give(&rows, SURVIVOR)));
        self.died_again = kill_point::revive();
        if let Err(payload) = outcome {
            let is_death = payload.is::<kill_point::Killed>();
            assert!(self.died_again && is_death, "it panicked");
        }
        if self.died_again {
            self.house.replace(SURVIVOR);
        }
    }
}

#[test]
fn wherever_it_dies_a_worker_of_another_slot_can_go_on() {
    let deaths = die_everywhere(|steps, at, expected| die_in(steps, at, After::HandOver, expected));
    assert!(deaths > 1000);
}

#[test]
fn wherever_the_other_dies_while_it_takes_over_nothing_is_lost() {
    // Everywhere in the taking over, after one of the deaths of each step.
    let deaths = die_everywhere(|steps, at, expected| {
        let whole = (1..)
            .find(|&after| tell(steps, Some((at, after, After::HandOver))).1 == 0)
            .unwrap_or_default();
        let places = [whole / 4, whole / 2, whole.saturating_sub(2)];
        die_taking_over(steps, at, places[at % places.len()].max(1), expected)
    });
    assert!(deaths > 1000);
}

/// Dies after so many stores and calls of one step, and the one that takes over after each of its own; returns how many those were.
fn die_taking_over(steps: &[Step], at: usize, after: u64, expected: &[Vec<String>]) -> u64 {
    for again in 1.. {
        let death = (at, after, After::HandOverAndDeath(again));
        if !dies_unnoticed(steps, death, 2, expected) {
            return again - 1;
        }
    }
    unreachable!()
}
