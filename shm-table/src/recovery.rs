//! After the death of processes: everything they held comes back, and all that can be derived is derived anew.
//!
//! The rows, the membership slots and the outboxes are the truth, and each of them changes by single stores, so
//! whatever instruction was a process's last one, they are whole. The master stops every living process for
//! the few milliseconds that this takes (they stand between two turns, or wait for a lock that a dead one
//! holds), and then marks what is reachable and gives back the rest. No process has to keep a record of what
//! it is about to do, so the hot path pays nothing for this.

use crate::fanout;
use crate::groups::Groups;
use crate::handle::{LINK, Link, ProcessId, RowHandle};
use crate::outbox;
use crate::pool::{Hold, Item, Pool};
use crate::row::{Row, State};
use crate::seats::Seats;
use crate::table::Table;
use crate::two_copies::Stream;
use crate::users::Users;
use crate::view::View;

use crate::arena::BLOCK_BYTES;

/// What a recovery did.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// Rows that the dead had finished without saying so: the master closes their descriptors and frees them.
    pub rows: Vec<RowHandle>,
    /// Rows that wait for a successor of the dead.
    pub kept: u32,
    /// Arena blocks that came back.
    pub blocks: u32,
    /// Outbox entries that came back.
    pub nodes: u32,
    /// Memberships that ended.
    pub memberships: u32,
    /// Index locks that the dead held.
    pub locks: u32,
}

impl Table {
    /// Asks those who wait for a lock to stand still; before every process is told to pause. Only the master.
    pub fn request_pause(&self) {
        self.view().header.pause.set(1);
    }

    /// Ends what `request_pause` began.
    pub fn end_pause(&self) {
        self.view().header.pause.set(0);
    }

    /// Brings the table in order after the death of `dead`. Only the master, while every living process stands
    /// still; it wakes all of them afterwards, as each has rows to look at. `seats` is the proof that the caller is the master; it frees the rows afterwards.
    pub fn recover(&self, _seats: &mut Seats<'_>, dead: &[ProcessId]) -> Recovered {
        let view = self.view();
        let mut recovered = Recovered::default();
        for &process in dead {
            self.process_ended(process);
        }
        settle_rows(&view, &mut recovered);
        view.mailbox.settle_after_death(&view);
        for lock in view.user_locks.iter().chain(view.group_locks) {
            if lock.owner().is_some() {
                lock.force_open();
                recovered.locks += 1;
            }
        }
        rebuild_users(&view);
        rebuild_groups(&view, &mut recovered);
        sweep(&view, &mut recovered);
        mark_all_ready(&view);
        for control in view.controls {
            control.sleeping.set(0);
        }
        recovered
    }
}

/// Rows whose owner is dead keep everything; what their owner had done and not yet recorded is recorded.
fn settle_rows(view: &View<'_>, recovered: &mut Recovered) {
    for (index, row) in view.rows.iter().enumerate() {
        let word = row.state();
        // One that had begun to leave the index leaves it now, and its entry remembers when the user was here: the dead one's, and one whose
        // owner waits in the middle of that for a lock that a dead one held.
        let left = (word.state == State::Closing)
            .then(|| Link(row.user.peek()).target())
            .flatten();
        if let Some((user, _)) = left {
            view.users[user].last_seen.raise(row.last_seen.peek());
        }
        if word.state == State::Free || view.lives(word.owner) {
            continue;
        }
        if word.state == State::Done {
            recovered.rows.push(RowHandle {
                row: index as u32,
                generation: word.generation,
            });
            continue;
        }
        recovered.kept += 1;
        // Nobody knows whether its socket takes more; whoever takes it over finds out.
        row.blocked.put(0);
        settle_outbox(view, row);
    }
}

/// An outbox that its owner had emptied without committing that: the committed record must not refer to entries that
/// are about to be swept up. Their bytes count as written; where they were dropped instead, the successor finds that the kernel
/// counted less.
fn settle_outbox(view: &View<'_>, row: &Row) {
    let mut stream: Stream = row.stream.read();
    if !outbox::is_behind(row.out_top.get(), view.nodes, &stream) {
        return;
    }
    let websocket = row.transport() == crate::Transport::WebSocket;
    let bytes: u64 = outbox::ordered(view.nodes, &stream)
        .map(|node| outbox::entry_bytes(&view.nodes[node as usize], &view.arena, websocket) as u64)
        .sum();
    stream.written += bytes.saturating_sub(stream.out_offset.into());
    stream.out_taken = 0;
    stream.out_first = 0;
    stream.out_offset = 0;
    row.stream.write(&stream);
}

/// True if a row's streams and sessions count.
pub(crate) fn in_use(state: State) -> bool {
    matches!(
        state,
        State::Handshake | State::Connected | State::LoggedIn | State::Closing
    )
}

fn rebuild_users(view: &View<'_>) {
    let users = Users(*view);
    for bucket in view.user_buckets {
        bucket.put(0);
    }
    let mut free = Vec::new();
    for (index, user) in view.users.iter().enumerate() {
        match Hold::of(user.hold().peek()) {
            Hold::Shared => {
                user.sessions.put(0);
                user.count.put(0);
                users.chain(index as u32);
            }
            Hold::Held(_) => {
                user.end_life();
                free.push(index as u32);
            }
            Hold::Free => free.push(index as u32),
        }
    }
    view.user_pool().rebuild(free.into_iter());
    for (index, row) in view.rows.iter().enumerate() {
        row.user.put(0);
        let word = row.state();
        if word.state != State::LoggedIn {
            continue;
        }
        let name = row.user_name.read();
        // Whoever is logged in has an entry, or one was free when the login began and still is.
        if let Some(user) = users.find_or_insert(word.owner, &name, view.hash(&name)) {
            users.insert(
                user,
                RowHandle {
                    row: index as u32,
                    generation: word.generation,
                },
            );
        }
    }
}

fn rebuild_groups(view: &View<'_>, recovered: &mut Recovered) {
    let groups = Groups(*view);
    for bucket in view.group_buckets {
        bucket.put(0);
    }
    for row in view.rows {
        row.memberships.put(0);
        row.membership_count.put(0);
    }
    for group in view.groups {
        group.chunks.put(0);
        group.partial.put(0);
        group.count.put(0);
    }
    let mut free_chunks = Vec::new();
    let mut memberships = 0;
    for (index, chunk) in view.chunks.iter().enumerate() {
        let group = Link(chunk.group.peek()).target();
        let group = group.filter(|&(group, generation)| {
            view.groups[group].generation.peek() == generation
                && Hold::of(view.groups[group].hold().peek()) == Hold::Shared
        });
        let shared = Hold::of(chunk.hold().peek()) == Hold::Shared;
        let mut used = 0;
        if let (true, Some((group, _))) = (shared, group) {
            for (slot, membership) in chunk.slots.iter().enumerate() {
                let Some(handle) = Link(membership.row.peek()).row() else {
                    continue;
                };
                let row = &view.rows[handle.row as usize];
                if row
                    .check(handle)
                    .is_none_or(|word| word.state != State::LoggedIn)
                {
                    membership.row.put(0);
                    recovered.memberships += 1;
                    continue;
                }
                used |= 1 << slot;
                let number = (index * crate::groups::CHUNK_SLOTS + slot) as u32;
                membership.next.put(row.memberships.peek());
                row.memberships.put(number + 1);
                row.membership_count.put(row.membership_count.peek() + 1);
                memberships += 1;
                view.groups[group]
                    .count
                    .put(view.groups[group].count.peek() + 1);
            }
            if used != 0 {
                chunk.used.put(used);
                groups.attach(group, index as u32);
                continue;
            }
        }
        if Hold::of(chunk.hold().peek()) != Hold::Free {
            chunk
                .generation
                .put(chunk.generation.peek().wrapping_add(1));
        }
        free_chunks.push(index as u32);
    }
    view.chunk_pool().rebuild(free_chunks.into_iter());
    let mut free_groups = Vec::new();
    for (index, group) in view.groups.iter().enumerate() {
        if group.count.peek() != 0 {
            groups.chain(index as u32);
            continue;
        }
        if Hold::of(group.hold().peek()) != Hold::Free {
            group.end_life();
        }
        free_groups.push(index as u32);
    }
    view.group_pool().rebuild(free_groups.into_iter());
    view.header.groups_changes.add(1);
    view.header.memberships_used.set(memberships);
}

/// What the outboxes and receive buffers of the rows in use, and the fan-outs, refer to.
pub(crate) struct Reachable {
    pub nodes: Vec<bool>,
    /// Per block: how many outbox entries and fan-outs refer to it as a message's first; or `u32::MAX` for a block further
    /// on, in a receive buffer, or of a fan-out's list.
    pub blocks: Vec<u32>,
}

impl Reachable {
    pub fn of(view: &View<'_>) -> Self {
        let mut reachable = Reachable {
            nodes: vec![false; view.nodes.len()],
            blocks: vec![0; view.arena.heads.len()],
        };
        for row in view.rows.iter().filter(|row| in_use(row.state().state)) {
            let stream: Stream = row.stream.read();
            reachable.add_outbox(view, row.out_top.get(), &stream);
            reachable.add_received(view, &stream);
        }
        let stream: Stream = view.mailbox.stream.read();
        reachable.add_outbox(view, view.mailbox.out_top.get(), &stream);
        for control in view.controls {
            for first in fanout::of(view, control) {
                reachable.add_message(view, fanout::head(view, first).message);
                reachable.add_chain(view, first + 1);
            }
        }
        reachable
    }

    fn add_outbox(&mut self, view: &View<'_>, top: u64, stream: &Stream) {
        for node in outbox::entries(top, view.nodes, stream) {
            self.nodes[node as usize] = true;
            let message = view.nodes[node as usize].message.peek();
            if message != 0 {
                self.add_message(view, message - 1);
            }
        }
    }

    /// One reference more to a message.
    fn add_message(&mut self, view: &View<'_>, first: u32) {
        self.blocks[first as usize] += 1;
        self.add_chain(view, view.arena.heads[first as usize].next.peek());
    }

    /// Blocks that are not a message's first, from `block` (plus one) on.
    fn add_chain(&mut self, view: &View<'_>, mut block: u32) {
        while block != 0 {
            self.blocks[(block - 1) as usize] = u32::MAX;
            block = view.arena.heads[(block - 1) as usize].next.peek();
        }
    }

    fn add_received(&mut self, view: &View<'_>, stream: &Stream) {
        let mut block = stream.received_first;
        for _ in 0..(stream.received_len as usize).div_ceil(BLOCK_BYTES) {
            self.blocks[(block - 1) as usize] = u32::MAX;
            block = view.arena.heads[(block - 1) as usize].next.peek();
        }
    }
}

/// Gives back every block and entry that is neither reachable nor in a living process's hands.
fn sweep(view: &View<'_>, recovered: &mut Recovered) {
    let reachable = Reachable::of(view);
    for (head, &refs) in view.arena.heads.iter().zip(&reachable.blocks) {
        if refs != 0 && refs != u32::MAX {
            head.refs.put(refs);
        }
    }
    recovered.blocks = sweep_pool(view, view.arena.pool(), |index| {
        reachable.blocks[index] != 0
    });
    recovered.nodes = sweep_pool(view, view.node_pool(), |index| reachable.nodes[index]);
    for row in view.rows.iter().filter(|row| in_use(row.state().state)) {
        let stream: Stream = row.stream.read();
        let held = outbox_cost(view, row, &stream);
        row.sent.put(row.queued().wrapping_sub(held));
    }
    view.mailbox.count_anew(view);
}

/// What the entries of a row's outbox count together.
pub(crate) fn outbox_cost(view: &View<'_>, row: &Row, stream: &Stream) -> u64 {
    outbox::entries(row.out_top.get(), view.nodes, stream)
        .iter()
        .map(|&node| outbox::entry_cost(&view.nodes[node as usize], &view.arena))
        .sum()
}

fn sweep_pool<T: Item>(
    view: &View<'_>,
    pool: Pool<'_, T>,
    reachable: impl Fn(usize) -> bool,
) -> u32 {
    pool.sweep(|index, hold| match hold {
        Hold::Held(holder) if view.lives(holder) => false,
        _ => !reachable(index),
    })
}

/// A dead process may have been about to mark a row; a row too many costs a look.
fn mark_all_ready(view: &View<'_>) {
    if view.header.linked.peek() != 0
        && let Some(link) = view.ready(LINK)
    {
        for row in 0..view.rows.len() as u32 {
            link.mark(row);
        }
    }
    for (index, row) in view.rows.iter().enumerate() {
        let word = row.state();
        // One that is seated may have an order already.
        if !matches!(word.state, State::Free | State::Done)
            && let Some(ready) = view.ready(word.owner.slot)
        {
            ready.mark(index as u32);
        }
    }
}
