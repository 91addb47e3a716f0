//! The audit: compares rows, indexes, outboxes and pools, and says what does not fit.

use crate::groups::Groups;
use crate::handle::RowHandle;
use crate::pool::{Hold, Item, Pool};
use crate::recovery::{Reachable, in_use, outbox_cost};
use crate::row::State;
use crate::table::Table;
use crate::users::Users;
use crate::view::View;

impl Table {
    /// Everything that does not fit, as sentences; empty when all is well. Meaningful while every process
    /// stands still.
    pub fn audit(&self) -> Vec<String> {
        let view = self.view();
        let mut findings = Vec::new();
        for (name, locks) in [("user", view.user_locks), ("group", view.group_locks)] {
            for (stripe, lock) in locks.iter().enumerate() {
                if let Some(owner) = lock.owner() {
                    findings.push(format!("{name} lock {stripe} is held by {owner:?}"));
                }
            }
        }
        audit_users(&view, &mut findings);
        audit_groups(&view, &mut findings);
        view.mailbox.audit(&view, &mut findings);
        let reachable = Reachable::of(&view);
        audit_pool(&view, "block", view.arena.pool(), &mut findings, |index| {
            reachable.blocks[index] != 0
        });
        audit_pool(&view, "node", view.node_pool(), &mut findings, |index| {
            reachable.nodes[index]
        });
        audit_hands(&view, &reachable, &mut findings);
        for (block, &refs) in reachable.blocks.iter().enumerate() {
            let recorded = view.arena.heads[block].refs.peek();
            if refs != 0 && refs != u32::MAX && refs != recorded {
                findings.push(format!(
                    "block {block} is referred to {refs} times, recorded {recorded}"
                ));
            }
        }
        audit_outboxes(&view, &mut findings);
        findings
    }
}

/// What a living process holds and nobody can reach is what it has in hand: it would not come back before the process dies.
fn audit_hands(view: &View<'_>, reachable: &Reachable, findings: &mut Vec<String>) {
    let mut blocks = vec![0; view.controls.len()];
    let mut nodes = blocks.clone();
    let count = |counts: &mut Vec<u32>, word: u32, is_reachable: bool| {
        if let Hold::Held(holder) = Hold::of(word)
            && view.lives(holder)
            && !is_reachable
        {
            counts[usize::from(holder.slot)] += 1;
        }
    };
    for (index, head) in view.arena.heads.iter().enumerate() {
        count(
            &mut blocks,
            head.hold().peek(),
            reachable.blocks[index] != 0,
        );
    }
    for (index, node) in view.nodes.iter().enumerate() {
        count(&mut nodes, node.hold().peek(), reachable.nodes[index]);
    }
    for (slot, control) in view.controls.iter().enumerate() {
        for (what, held, in_hand) in [
            ("blocks", blocks[slot], control.blocks_in_hand.peek()),
            ("nodes", nodes[slot], control.nodes_in_hand.peek()),
        ] {
            if held != in_hand {
                findings.push(format!(
                    "slot {slot} holds {held} {what} and has {in_hand} in hand"
                ));
            }
        }
    }
}

/// What a row counts as waiting is what its entries occupy.
fn audit_outboxes(view: &View<'_>, findings: &mut Vec<String>) {
    for (index, row) in view.rows.iter().enumerate() {
        let word = row.state();
        let counts = in_use(word.state) && view.lives(word.owner);
        let held = outbox_cost(view, row, &row.stream.read());
        if counts && row.pending() != held {
            let pending = row.pending();
            findings.push(format!(
                "row {index} counts {pending} bytes that wait, and its entries occupy {held}"
            ));
        }
    }
}

fn audit_users(view: &View<'_>, findings: &mut Vec<String>) {
    let users = Users(*view);
    let mut listed = 0;
    let mut logged_in = 0;
    for (index, row) in view.rows.iter().enumerate() {
        let word = row.state();
        let handle = RowHandle {
            row: index as u32,
            generation: word.generation,
        };
        if word.state != State::LoggedIn {
            continue;
        }
        logged_in += 1;
        let name = row.user_name.read();
        let mut sessions = Vec::new();
        if let Some(user) = users.find(&name, view.hash(&name)) {
            users.sessions(user, &mut sessions);
        }
        if sessions.iter().filter(|&&found| found == handle).count() != 1 {
            findings.push(format!(
                "row {index} is not once among the sessions of {name:?}"
            ));
        }
    }
    audit_pool(view, "user", view.user_pool(), findings, |index| {
        let user = &view.users[index];
        let name = user.name.read();
        let chained = Hold::of(user.hold().peek()) == Hold::Shared
            && users
                .find(&name, user.hash.peek())
                .and_then(|link| link.target())
                == Some((index, user.generation.peek()));
        listed += if chained { user.count.peek() } else { 0 };
        chained
    });
    if listed != logged_in {
        findings.push(format!(
            "{logged_in} rows are logged in, {listed} sessions are counted"
        ));
    }
}

fn audit_groups(view: &View<'_>, findings: &mut Vec<String>) {
    let groups = Groups(*view);
    let mut memberships = 0;
    let mut in_chain = vec![false; view.chunks.len()];
    audit_pool(view, "group", view.group_pool(), findings, |index| {
        let group = &view.groups[index];
        let name = group.name.read();
        let found = groups.find(&name, group.hash.peek());
        let chained = Hold::of(group.hold().peek()) == Hold::Shared
            && found.and_then(|link| link.target()) == Some((index, group.generation.peek()));
        if chained {
            let mut link = crate::handle::Link(group.chunks.peek());
            while let Some((chunk, _)) = link.target() {
                in_chain[chunk] = true;
                link = crate::handle::Link(view.chunks[chunk].next.peek());
            }
            memberships += group.count.peek();
        }
        chained
    });
    audit_pool(view, "chunk", view.chunk_pool(), findings, |index| {
        in_chain[index]
    });
    let mut of_rows = 0;
    for (index, row) in view.rows.iter().enumerate() {
        let mut number = row.memberships.peek();
        let mut count = 0;
        while number != 0 && count <= view.chunks.len() * crate::groups::CHUNK_SLOTS {
            let membership = groups.membership(number - 1);
            let named = crate::handle::Link(membership.row.peek()).row();
            if named.map(|handle| handle.row) != Some(index as u32) {
                findings.push(format!(
                    "membership {} is in the list of row {index}",
                    number - 1
                ));
            }
            count += 1;
            number = membership.next.peek();
        }
        of_rows += count as u32;
    }
    let used = view.header.memberships_used.peek();
    if memberships != used || of_rows != used {
        findings.push(format!(
            "memberships: {used} counted, {memberships} in groups, {of_rows} in the lists of rows"
        ));
    }
}

/// Every item must be free and in the stack, or in a living process's hands, or reachable.
fn audit_pool<T: Item>(
    view: &View<'_>,
    name: &str,
    pool: Pool<'_, T>,
    findings: &mut Vec<String>,
    mut reachable: impl FnMut(usize) -> bool,
) {
    let stacked = pool.stacked();
    for (index, item) in pool.items.iter().enumerate() {
        let hold = Hold::of(item.hold().peek());
        let in_hand = matches!(hold, Hold::Held(holder) if view.lives(holder));
        let reachable = reachable(index);
        let free = stacked[index];
        if free == (reachable || in_hand) || free != (hold == Hold::Free) {
            findings.push(format!(
                "{name} {index}: {hold:?}, in the stack: {free}, reachable: {reachable}"
            ));
        }
    }
    let count = stacked.iter().filter(|&&free| free).count();
    if count != pool.head.free() as usize {
        findings.push(format!(
            "{name}: {count} free, {} counted",
            pool.head.free()
        ));
    }
}
