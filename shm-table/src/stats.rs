//! What `status` shows: processes, sessions, and the fill and high-water mark of every section.

use crate::control::{Control, Counter, ProcessState, Role, TURN_BUCKETS, turn_below_us};
use crate::handle::{Link, ProcessId, RowHandle, Slot};
use crate::pool::{Item, Pool};
use crate::row::State;
use crate::table::Table;
use crate::two_copies::{Stream, UNREAD_FLAG};
use crate::view::View;

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
    /// Milliseconds until the next process is started here, while this one's successors have to wait.
    pub again_in_ms: Option<u64>,
    /// Who holds the index lock that it waits for, if it waits for one.
    pub waits_for: Option<ProcessId>,
    /// Index locks that it holds. Each is held for less than a microsecond, so one that is seen here again and again is stuck.
    pub locks: u32,
    /// Rows that it owns.
    pub sessions: u32,
    /// Its slot's counters.
    pub counters: Vec<(&'static str, u64)>,
    /// Turns of its slot's event loops, by how long they took.
    pub turns: TurnTimes,
}

/// How long turns of an event loop took, from waking to sleeping, the sleep not counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TurnTimes {
    /// So many took less than so many microseconds, and not less than the bound before; the last is everything longer.
    pub below_us: Vec<(u64, u64)>,
    /// The longest, in microseconds.
    pub longest_us: u64,
}

/// A row that is not free, as the kernel must see its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// The row.
    pub handle: RowHandle,
    /// Where the connection is in its life.
    pub state: State,
    /// Whose it is.
    pub owner: ProcessId,
    /// Whether that process lives; otherwise the row waits for its successor, and the counts may be behind.
    pub owner_lives: bool,
    /// Bytes taken from the socket.
    pub consumed: u64,
    /// Bytes given to the socket.
    pub written: u64,
    /// Its owner reads what comes.
    pub is_read: bool,
    /// Its owner waits until the socket takes more.
    pub is_blocked: bool,
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

    /// Who can be the next process in a slot, if [`Table::begin_process`] makes it so. Changes nothing.
    ///
    /// Incarnations wrap; one that a row still names is left out, or a process would take what a predecessor of long ago has left for its own.
    pub fn next_process(&self, slot: Slot) -> ProcessId {
        let view = self.view();
        let control = &view.controls[usize::from(slot)];
        let mut incarnation = control.incarnation.peek() as u16;
        let mut wrapped = control.wrapped.peek() != 0;
        // More than one step only where rows have been left for 65,535 lives of the slot.
        for _ in 0..u16::MAX {
            incarnation = incarnation.wrapping_add(1);
            if incarnation == 0 {
                (incarnation, wrapped) = (1, true);
            }
            let process = ProcessId { slot, incarnation };
            if !wrapped || !is_named(&view, process) {
                return process;
            }
        }
        ProcessId { slot, incarnation }
    }

    /// [`Table::begin_process`] for the [next process](Table::next_process) of a slot.
    pub fn start_process(&self, slot: Slot, role: Role) -> ProcessId {
        let next = self.next_process(slot);
        self.begin_process(next, role);
        next
    }

    /// Begins a process's life in its slot; the master, before that process touches the table, and after the one before
    /// has ended or has let go. What the one before was reading stays noted.
    pub fn begin_process(&self, next: ProcessId, role: Role) {
        let control = &self.view().controls[usize::from(next.slot)];
        if u32::from(next.incarnation) <= control.incarnation.peek() {
            control.wrapped.put(1);
        }
        control.state.put(ProcessState::Starting as u32);
        control.role.put(role as u32);
        control.pid.put(0);
        control.heartbeat.put(self.view().now_ms());
        control.sleeping.put(0);
        control.blocks_in_hand.put(0);
        control.nodes_in_hand.put(0);
        control.waits_for.put(0);
        control.incarnation.set(u32::from(next.incarnation));
    }

    /// Notes that an empty slot is filled at table time `at_ms` and not before, because those who sat there died young.
    pub fn await_start(&self, slot: Slot, role: Role, at_ms: u64) {
        let control = &self.view().controls[usize::from(slot)];
        control.role.put(role as u32);
        control.again_at.put(at_ms);
        control.state.set(ProcessState::Waiting as u32);
    }

    /// The slots that wait for their next process, and for how many milliseconds yet.
    pub fn waiting(&self) -> Vec<(Slot, Role, u64)> {
        let view = self.view();
        let slots = view.controls.iter().enumerate();
        slots
            .filter_map(|(slot, control)| {
                Some((
                    slot as Slot,
                    Role::of(control.role.peek()),
                    again_in(&view, control)?,
                ))
            })
            .collect()
    }

    /// The connection whose input the last process of a slot was reading when it ended; it is the first that a
    /// successor takes over.
    pub fn interrupted(&self, slot: Slot) -> Option<RowHandle> {
        let view = self.view();
        let handle = Link(view.controls[usize::from(slot)].reading.get()).row()?;
        let word = view.row(handle)?.check(handle)?;
        (word.owner.slot == slot && !matches!(word.state, State::Done | State::Seated))
            .then_some(handle)
    }

    /// Every row that is not free, and what the kernel must have counted for its connection while its owner, if that
    /// lives, stands still between two turns.
    pub fn accounts(&self) -> Vec<Account> {
        let view = self.view();
        let rows = view.rows.iter().enumerate();
        rows.filter_map(|(index, row)| {
            let word = row.state();
            let stream: Stream = row.stream.read();
            (word.state != State::Free).then_some(Account {
                handle: RowHandle {
                    row: index as u32,
                    generation: word.generation,
                },
                state: word.state,
                owner: word.owner,
                owner_lives: view.lives(word.owner),
                consumed: stream.consumed,
                written: stream.written,
                is_read: stream.flags & UNREAD_FLAG == 0
                    && !matches!(word.state, State::Seated | State::Done),
                is_blocked: row.blocked.peek() != 0,
            })
        })
        .collect()
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
            control.waits_for.put(0);
            control.state.set(ProcessState::Ended as u32);
        }
    }

    /// Milliseconds since a slot's process gave a sign of life.
    pub fn heartbeat_age_ms(&self, slot: Slot) -> u64 {
        let view = self.view();
        heartbeat_age(&view, &view.controls[usize::from(slot)])
    }

    /// Whether a process has been started in its slot and has neither left it nor been noted as dead.
    pub fn lives(&self, process: ProcessId) -> bool {
        self.view().lives(process)
    }

    /// Who holds the index lock that the process of a slot waits for, if it waits for one, and for how many milliseconds it has found that one
    /// to hold it whenever it looked.
    pub fn waits_for(&self, slot: Slot) -> Option<(ProcessId, u64)> {
        let view = self.view();
        let control = &view.controls[usize::from(slot)];
        let holder = waits_for(control)?;
        let since_ms = control.waits_since.peek();
        // Written in the other order: it has been waiting for this one since then or later.
        (waits_for(control) == Some(holder))
            .then(|| (holder, view.now_ms().saturating_sub(since_ms)))
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

/// True if something in the segment names a process that has ended: a row that nobody has taken over, or the mailbox. What else names its
/// holder has been taken from the dead before there is a successor ([`crate::Recovered`]). A row that is only seated is claimed by any
/// process of its slot.
fn is_named(view: &View<'_>, process: ProcessId) -> bool {
    let owns = |row: &crate::row::Row| {
        let word = row.state();
        word.owner == process && !matches!(word.state, State::Free | State::Seated)
    };
    view.mailbox.owner.peek() == process.bits() || view.rows.iter().any(owns)
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
    let now = view.now_ms();
    now.saturating_sub(control.heartbeat.peek())
}

fn waits_for(control: &Control) -> Option<ProcessId> {
    match control.waits_for.get() {
        0 => None,
        bits => Some(ProcessId::from_bits(bits)),
    }
}

fn again_in(view: &View<'_>, control: &Control) -> Option<u64> {
    (ProcessState::of(control.state.get()) == ProcessState::Waiting)
        .then(|| control.again_at.peek().saturating_sub(view.now_ms()))
}

fn processes(view: &View<'_>, sessions: &[u32]) -> Vec<ProcessStats> {
    let mut processes = Vec::new();
    for (slot, control) in view.controls.iter().enumerate() {
        let state = ProcessState::of(control.state.get());
        if state == ProcessState::Unused {
            continue;
        }
        let incarnation = control.incarnation.peek() as u16;
        let me = ProcessId {
            slot: slot as Slot,
            incarnation,
        };
        let locks = view.user_locks.iter().chain(view.group_locks);
        processes.push(ProcessStats {
            slot: slot as Slot,
            incarnation,
            waits_for: waits_for(control),
            locks: locks.filter(|lock| lock.owner() == Some(me)).count() as u32,
            role: Role::of(control.role.peek()),
            pid: control.pid.peek() as i32,
            state,
            heartbeat_age_ms: heartbeat_age(view, control),
            again_in_ms: again_in(view, control),
            sessions: sessions[slot],
            counters: Counter::ALL
                .iter()
                .map(|&(counter, name)| (name, control.counters[counter as usize].peek()))
                .collect(),
            turns: TurnTimes {
                below_us: (0..TURN_BUCKETS)
                    .map(|bucket| (turn_below_us(bucket), control.turns[bucket].peek()))
                    .collect(),
                longest_us: control.longest_turn_us.peek(),
            },
        });
    }
    processes
}
