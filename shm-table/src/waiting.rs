//! The audit of waits: between two turns, whatever waits has somebody who will come for it.
//!
//! - A row with output or an order, whose socket takes more, is marked for its owner, and a marked row can be found.
//! - Who sleeps has nothing ready.
//! - Who is not read has a reason that will end: output that is going to be written, or another worker's turn that its owner asks for.
//! - Every connection has a deadline, or the order that follows from it.
//! - A row that is over has been reported, and a letter has a link to come for it.
//!
//! What belongs to a process that is dead, or has yet to take over what its predecessor left, is looked at when that is done.

use crate::control::{Control, ProcessState, Role};
use crate::handle::{LINK, Slot};
use crate::outbox::{self, CLOSED};
use crate::row::{ORDER_BITS, Order, Row, RowWord, State};
use crate::table::Table;
use crate::two_copies::{Stream, UNREAD_FLAG};
use crate::view::View;

impl Table {
    /// Everything that waits for nobody, as sentences; empty when all is well. Meaningful only while every process stands still
    /// between two turns, and has been heard by the master.
    pub fn audit_waiting(&self) -> Vec<String> {
        let view = self.view();
        let mut findings = Vec::new();
        for (slot, control) in (0..).zip(view.controls) {
            audit_slot(&view, slot, control, &mut findings);
        }
        let mut unread = vec![0; view.controls.len()];
        for (index, row) in view.rows.iter().enumerate() {
            let word = row.state();
            if word.state != State::Free && view.lives(word.owner) {
                audit_row(&view, index as u32, row, word, &mut unread, &mut findings);
            }
        }
        for ((slot, control), unread) in (0_usize..).zip(view.controls).zip(unread) {
            let asked_for = control.congested.peek();
            if unread > asked_for {
                findings.push(format!(
                    "slot {slot} does not read {unread} connections with nothing to write, and asks for {asked_for}"
                ));
            }
        }
        findings
    }
}

fn audit_slot(view: &View<'_>, slot: Slot, control: &Control, findings: &mut Vec<String>) {
    let lives = ProcessState::of(control.state.get()) == ProcessState::Running;
    let sleeps = lives && control.sleeping.get() != 0;
    if let Some(ready) = view.ready(slot) {
        for word in ready.hidden_words() {
            findings.push(format!(
                "slot {slot}: rows from {} on are marked where nobody looks",
                word * 64
            ));
        }
        if sleeps && ready.any() {
            findings.push(format!("slot {slot} sleeps with rows ready"));
        }
    }
    if slot == LINK {
        let taken: Stream = view.mailbox.stream.read();
        let has_letters = view.mailbox.out_top.get() as u32 != 0;
        if sleeps && view.mailbox.has_new(&taken) {
            findings.push("the link sleeps with letters in its mailbox".into());
        }
        let is_unused = ProcessState::of(control.state.get()) == ProcessState::Unused;
        if has_letters && (is_unused || Role::of(control.role.peek()) != Role::Link) {
            findings.push("there are letters and no link".into());
        }
    }
}

fn audit_row(
    view: &View<'_>,
    index: u32,
    row: &Row,
    word: RowWord,
    unread: &mut [u32],
    findings: &mut Vec<String>,
) {
    let slot = word.owner.slot;
    let name = |what: &str| format!("row {index} ({}, slot {slot}) {what}", word.state.name());
    let orders = row.orders.get() & ORDER_BITS;
    let has_deadline = view.deadlines[index as usize].peek() != 0;
    let is_due = orders & u64::from(Order::DEADLINE.0) != 0;
    if word.state != State::Done && !has_deadline && !is_due {
        findings.push(name("has no deadline"));
    }
    match word.state {
        State::Done => return findings.push(name("is over, and nobody has said so")),
        // On its way to its worker, who looks for orders when it comes.
        State::Free | State::Seated => return,
        State::Handshake | State::Connected | State::LoggedIn | State::Closing => {}
    }
    let stream: Stream = row.stream.read();
    let top = row.out_top.get() as u32;
    let has_output = top != CLOSED && top != 0;
    let is_marked = view.ready(slot).is_some_and(|ready| ready.is_marked(index));
    if orders != 0 && !is_marked {
        findings.push(name("has an order and is not marked"));
    }
    if has_output && row.blocked.peek() == 0 && !is_marked {
        let entries = outbox::entries(row.out_top.get(), view.nodes, &stream).len();
        findings.push(name(&format!(
            "has {entries} messages to write, room for them, and is not marked"
        )));
    }
    if stream.flags & UNREAD_FLAG != 0 && !has_output {
        unread[usize::from(slot)] += 1;
    }
}
