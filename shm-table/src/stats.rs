//! What `status` shows: processes, sessions, and the fill and high-water mark of every section.

use crate::control::{Control, Counter, ProcessState, Role};
use crate::handle::{ProcessId, Slot};
use crate::pool::{Item, Pool};
use crate::row::State;
use crate::table::Table;
use crate::view::{View, monotonic_ms};

/// Fill of one section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectionStats {
    /// The section's name.
    pub name: &'static str,
    /// Elements that fit.
    pub capacity: u64,
    /// Elements in use now.
    pub used: u64,
    /// The most that were ever in use; for blocks and nodes, those kept at hand by the workers count.
    pub high_water: u64,
}

/// One process slot.
#[derive(Clone, Debug)]
pub struct ProcessStats {
    /// The slot.
    pub slot: Slot,
    /// Which occupant of the slot.
    pub incarnation: u16,
    /// What it is.
    pub role: Role,
    /// Its process id; 0 while it is being started.
    pub pid: i32,
    /// How it is.
    pub state: ProcessState,
    /// Milliseconds since its last sign of life.
    pub heartbeat_age_ms: u64,
    /// Rows that it owns.
    pub sessions: u32,
    /// Its slot's counters.
    pub counters: Vec<(&'static str, u64)>,
}

/// The state of the table at one moment.
#[derive(Clone, Debug)]
pub struct Stats {
    /// Every section.
    pub sections: Vec<SectionStats>,
    /// Every slot that was ever used.
    pub processes: Vec<ProcessStats>,
    /// Rows in each state, by the state's name.
    pub sessions_by_state: Vec<(&'static str, u32)>,
}

impl Table {
    /// Counts. Walks all rows: for people and monitoring, not for the message path.
    pub fn stats(&self) -> Stats {
        let view = self.view();
        let header = view.header;
        let mut by_state = [0; State::ALL.len()];
        let mut by_slot = vec![0; view.controls.len()];
        for row in view.rows {
            let word = row.state();
            by_state[word.state as usize] += 1;
            let count = by_slot.get_mut(usize::from(word.owner.slot));
            if let (Some(count), true) = (count, word.state != State::Free) {
                *count += 1;
            }
        }
        let in_hand = |count: fn(&Control) -> u32| -> u64 {
            view.controls
                .iter()
                .map(|control| u64::from(count(control)))
                .sum()
        };
        let remembered = view
            .users
            .iter()
            .filter(|user| user.count.peek() == 0)
            .count() as u64;
        let users = section("users", view.user_pool(), 0);
        let free_users = u64::from(view.user_pool().head.free());
        Stats {
            sections: vec![
                SectionStats {
                    name: "sessions",
                    capacity: view.rows.len() as u64,
                    used: u64::from(header.seated.peek()),
                    high_water: u64::from(header.seated_high_water.peek()),
                },
                // Entries that only remember when somebody was last seen give way to whoever logs in.
                SectionStats {
                    used: users
                        .used
                        .saturating_sub(remembered.saturating_sub(free_users)),
                    ..users
                },
                section("groups", view.group_pool(), 0),
                SectionStats {
                    name: "memberships",
                    capacity: u64::from(header.memberships.peek()),
                    used: u64::from(header.memberships_used.peek()),
                    high_water: u64::from(header.memberships_high_water.peek()),
                },
                section("membership_chunks", view.chunk_pool(), 0),
                section(
                    "arena_blocks",
                    view.arena.pool(),
                    in_hand(|c| c.blocks_in_hand.peek()),
                ),
                section(
                    "outbox_entries",
                    view.node_pool(),
                    in_hand(|c| c.nodes_in_hand.peek()),
                ),
            ],
            processes: processes(&view, &by_slot),
            sessions_by_state: State::ALL
                .iter()
                .map(|&state| (state.name(), by_state[state as usize]))
                .collect(),
        }
    }

    /// Begins a process's life in a slot; the master, before it starts the process.
    pub fn start_process(&self, slot: Slot, role: Role) -> ProcessId {
        let control = &self.view().controls[usize::from(slot)];
        let incarnation = match (control.incarnation.peek() as u16).wrapping_add(1) {
            0 => 1,
            next => next,
        };
        control.state.put(ProcessState::Starting as u32);
        control.role.put(role as u32);
        control.pid.put(0);
        control.heartbeat.put(self.view().now_ms());
        control.sleeping.put(0);
        control.blocks_in_hand.put(0);
        control.nodes_in_hand.put(0);
        control.reading.put(0);
        control.incarnation.set(u32::from(incarnation));
        ProcessId { slot, incarnation }
    }

    /// Notes a started process's pid.
    pub fn set_pid(&self, process: ProcessId, pid: i32) {
        let control = &self.view().controls[usize::from(process.slot)];
        if control.holds(process) {
            control.pid.put(pid as u32);
        }
    }

    /// Notes that a process is dead; the master, after `waitpid(2)` has said so. From here on nothing counts
    /// as held by it.
    pub fn process_ended(&self, process: ProcessId) {
        let control = &self.view().controls[usize::from(process.slot)];
        if control.holds(process) {
            control.blocks_in_hand.put(0);
            control.nodes_in_hand.put(0);
            control.sleeping.put(0);
            control.state.set(ProcessState::Ended as u32);
        }
    }

    /// Milliseconds since a slot's process gave a sign of life.
    pub fn heartbeat_age_ms(&self, slot: Slot) -> u64 {
        let view = self.view();
        heartbeat_age(&view, &view.controls[usize::from(slot)])
    }

    /// Says that the server ends (or no longer does).
    pub fn set_draining(&self, draining: bool) {
        self.view().header.draining.set(u32::from(draining));
    }

    /// True while the server ends.
    pub fn draining(&self) -> bool {
        self.view().header.draining.get() != 0
    }
}

fn section<T: Item>(name: &'static str, pool: Pool<'_, T>, in_hand: u64) -> SectionStats {
    let capacity = u64::from(pool.capacity());
    SectionStats {
        name,
        capacity,
        used: capacity
            .saturating_sub(u64::from(pool.head.free()))
            .saturating_sub(in_hand),
        high_water: u64::from(pool.head.high_water()),
    }
}

fn heartbeat_age(view: &View<'_>, control: &Control) -> u64 {
    let now = monotonic_ms().saturating_sub(view.header.epoch_ms.peek());
    now.saturating_sub(control.heartbeat.peek())
}

fn processes(view: &View<'_>, sessions: &[u32]) -> Vec<ProcessStats> {
    let mut processes = Vec::new();
    for (slot, control) in view.controls.iter().enumerate() {
        let state = ProcessState::of(control.state.get());
        if state == ProcessState::Unused {
            continue;
        }
        processes.push(ProcessStats {
            slot: slot as Slot,
            incarnation: control.incarnation.peek() as u16,
            role: Role::of(control.role.peek()),
            pid: control.pid.peek() as i32,
            state,
            heartbeat_age_ms: heartbeat_age(view, control),
            sessions: sessions[slot],
            counters: Counter::ALL
                .iter()
                .map(|&(counter, name)| (name, control.counters[counter as usize].peek()))
                .collect(),
        });
    }
    processes
}
