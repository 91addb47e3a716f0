//! Random histories of two workers, cut off anywhere.

use std::panic::{AssertUnwindSafe, catch_unwind};

use std::io::Write;

use shm_table::{Hands, RowHandle, Seats, State, Step, Table, Transport, Urgency, kill_point};

use crate::common::{connect, finish_fanouts, login, read_all, send, worker};
use crate::{LIMITS, envelope, long_body};

/// A small generator (SplitMix64), so that a failing history can be named by its seed.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % sides as u64) as usize
    }
}

fn random_step(dice: &mut Dice, hands: &mut Hands<'_>, rows: &[RowHandle], all: &[RowHandle]) {
    let row = rows[dice.roll(rows.len())];
    let group = ["a", "b", "c"][dice.roll(3)];
    match dice.roll(10) {
        0..3 => drop(hands.join(row, group, LIMITS)),
        3 => drop(hands.leave(row, group)),
        4 => {
            let mut members = Vec::new();
            hands.members_of(group, &mut members);
            send(hands, &members, &long_body()[..dice.roll(700)]);
        }
        5 => {
            let to = [all[dice.roll(all.len())], all[dice.roll(all.len())]];
            send(hands, &to[..1 + dice.roll(2)], b"hello");
        }
        6 => begin_fanout(dice, hands, row, all),
        7 => match hands.fan_out(1 + dice.roll(20) as u32) {
            Step::None | Step::Done(_) | Step::Waits => {}
            Step::Over => hands.end_fanout(),
        },
        8 => {
            if hands
                .state(row)
                .is_some_and(|state| state == State::LoggedIn)
            {
                read_all(hands, row, 1 + dice.roll(2000));
            }
        }
        _ => {
            if dice.roll(4) == 0 {
                hands.set_state(row, State::Closing);
                hands.finish(row);
            }
        }
    }
}

fn begin_fanout(dice: &mut Dice, hands: &mut Hands<'_>, sender: RowHandle, all: &[RowHandle]) {
    let body = &long_body()[..dice.roll(700)];
    let write = |w: &mut Vec<u8>| w.write_all(body);
    let Ok(message) = hands.compose(Urgency::Message, write, |_| envelope()) else {
        return;
    };
    let to = all.repeat(1 + dice.roll(3));
    if let Ok(prepared) = hands.prepare_fanout(message, &to) {
        hands.begin_fanout(prepared, sender, 1, b"");
    }
}

#[test]
fn random_histories_with_groups_of_several_chunks_end_in_order_wherever_they_are_cut() {
    for seed in 0..400 {
        let mut dice = Dice(seed);
        let table = Table::private(&shm_table::Capacity {
            sessions: 48,
            arena_bytes: 256 * 1024,
            groups: 4,
            memberships: 140,
            workers: 2,
            hosts: 0,
        });
        if seed % 2 == 1 {
            table.begin_near_wrap();
        }
        let mut seats = Seats::new(&table);
        let (victim, mut hands) = worker(&table, 0);
        let (survivor_id, mut survivor) = worker(&table, 1);
        let mut sit = |hands: &mut Hands<'_>, worker, user: &str| -> Vec<RowHandle> {
            (0..24)
                .map(|n| {
                    let row = connect(&mut seats, hands, worker, Transport::Tcp);
                    login(hands, row, &format!("{user}{}", n % 9));
                    row
                })
                .collect()
        };
        let rows = sit(&mut hands, victim, "v");
        let others = sit(&mut survivor, survivor_id, "s");
        let all = [&rows[..], &others].concat();
        for _ in 0..150 {
            random_step(&mut dice, &mut survivor, &others, &all);
            random_step(&mut dice, &mut hands, &rows, &all);
        }
        kill_point::arm(1 + dice.roll(300) as u64);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            for _ in 0..200 {
                random_step(&mut dice, &mut hands, &rows, &all);
            }
        }));
        let killed = kill_point::revive();
        assert!(killed || outcome.is_ok(), "seed {seed}: it panicked");
        let members = |hands: &Hands<'_>| {
            ["a", "b", "c"].map(|group| {
                let mut found = Vec::new();
                hands.members_of(group, &mut found);
                found.retain(|row| others.contains(row));
                found.sort_by_key(|handle| handle.row);
                found
            })
        };
        let before = members(&survivor);
        for row in table.recover(&mut seats, &[victim]).rows {
            seats.free(row);
        }
        assert_eq!(table.audit(), Vec::<String>::new(), "seed {seed}");
        assert_eq!(members(&survivor), before, "seed {seed}");
        // A successor takes over and everybody goes on for a while.
        let (_, mut successor) = worker(&table, 0);
        let kept: Vec<RowHandle> = rows
            .iter()
            .copied()
            .filter(|&row| successor.claim(row, State::Connected, 0).is_ok())
            .collect();
        for _ in 0..50 {
            random_step(&mut dice, &mut survivor, &others, &all);
            if !kept.is_empty() {
                random_step(&mut dice, &mut successor, &kept, &all);
            }
        }
        assert_eq!(table.audit(), Vec::<String>::new(), "seed {seed}");
        for row in kept {
            successor.finish(row);
            seats.free(row);
        }
        for &row in &others {
            if survivor.state(row) == Some(State::LoggedIn) {
                read_all(&mut survivor, row, 1000);
                assert_eq!(survivor.outbox_bytes(row), 0, "seed {seed}");
            }
            survivor.finish(row);
            seats.free(row);
        }
        for hands in [&mut successor, &mut survivor] {
            finish_fanouts(hands, 5, |_, _| {});
            hands.let_go();
        }
        for section in table.stats().sections {
            assert_eq!(section.used, 0, "seed {seed}: {} left over", section.name);
        }
        assert_eq!(
            table.audit(),
            Vec::<String>::new(),
            "seed {seed}: at the end"
        );
    }
}
