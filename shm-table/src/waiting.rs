//! The audit of waits: between two turns, whatever waits has somebody who will come for it.
//!
//! - A row with output or an order, whose socket takes more, is marked for its owner, and a marked row can be found.
//! - Who sleeps has nothing ready.
//! - Who is not read has a reason that will end: output that is going to be written, another worker's turn or memory that its owner asks for, or a
//!   fan-out that some slot has.
//! - A fan-out is in the list of a slot whose process does not sleep over it, unless it waits for something that its process looks for.
//! - Every connection has a deadline, or the order that follows from it.
//! - A row that is over has been reported, and a letter has a link to come for it.
//!
//! What belongs to a process that is dead, or has yet to take over what its predecessor left, is looked at when that is done.

use crate::control::{Control, ProcessState, Role};
use crate::fanout;
use crate::handle::{LINK, RowHandle, Slot};
use crate::outbox::{self, CLOSED};
use crate::row::{ORDER_BITS, Order, Row, RowWord, State};
use crate::table::Table;
use crate::two_copies::{FANNING_OUT_FLAG, Stream, UNREAD_FLAG};
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
        let senders = view.controls.iter().flat_map(|it| fanout::of(&view, it));
        let senders: Vec<_> = senders
            .map(|first| fanout::head(&view, first).sender)
            .collect();
        for (index, row) in view.rows.iter().enumerate() {
            let word = row.state();
            if word.state != State::Free && view.lives(word.owner) {
                let senders = &senders;
                let unread = &mut unread;
                audit_row(
                    &view,
                    index as u32,
                    row,
                    word,
                    senders,
                    unread,
                    &mut findings,
                );
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
    if sleeps && control.fanouts.get() != 0 && control.fanout_waits.peek() == 0 {
        findings.push(format!("slot {slot} sleeps with a fan-out to do"));
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
    senders: &[RowHandle],
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
    if word.state != State::Closing && stream.flags & FANNING_OUT_FLAG != 0 {
        let handle = RowHandle {
            row: index,
            generation: word.generation,
        };
        if orders & u64::from(Order::FANNED_OUT.0) == 0 && !senders.contains(&handle) {
            findings.push(name("is not read, and nobody has its fan-out"));
        }
    } else if stream.flags & UNREAD_FLAG != 0 && !has_output {
        unread[usize::from(slot)] += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Capacity, Envelope, FIRST_WORKER, Hands, HandsSettings, Newcomer, ProcessId, Seats,
        Transport, Urgency,
    };

    fn table() -> Table {
        Table::private(&Capacity {
            sessions: 100,
            arena_bytes: 64 * 1024,
            groups: 4,
            memberships: 16,
            workers: 2,
            hosts: 2,
        })
    }

    fn process(table: &Table, slot: Slot, role: Role) -> (ProcessId, Hands<'_>) {
        let me = table.start_process(slot, role);
        let settings = HandsSettings { outbox_bytes: 8192 };
        let hands = table.hands(me, settings, Box::new(|| {}));
        hands.ready();
        (me, hands)
    }

    /// A worker with one connection, with which all is well.
    fn worker(table: &Table) -> (Hands<'_>, Seats<'_>, RowHandle) {
        let (me, mut hands) = process(table, FIRST_WORKER, Role::Worker);
        let mut seats = Seats::new(table);
        let newcomer = Newcomer {
            transport: Transport::Tcp,
            peer: "127.0.0.1:1".parse().unwrap(),
            worker: me,
            deadline_ms: 1_000_000,
            consumed_at_accept: 0,
            written_at_accept: 0,
        };
        let row = seats.seat(&newcomer).unwrap();
        assert_eq!(table.audit_waiting(), [""; 0], "seated");
        hands.claim(row, State::Connected, 0).unwrap();
        assert_eq!(table.audit_waiting(), [""; 0]);
        (hands, seats, row)
    }

    fn send(hands: &mut Hands<'_>, row: RowHandle) {
        let message = hands.compose(
            Urgency::Answer,
            |w| {
                w.push(b'x');
                Ok(())
            },
            |_| Envelope::default(),
        );
        hands.deliver_closing(message.unwrap(), row).unwrap();
    }

    fn finding(table: &Table, expected: &str) {
        let found = table.audit_waiting();
        assert!(
            found.len() == 1 && found[0].contains(expected),
            "{expected}: {found:?}"
        );
    }

    #[test]
    fn output_and_orders_must_be_marked_where_somebody_looks() {
        let table = table();
        let (mut hands, _seats, row) = worker(&table);
        send(&mut hands, row);
        assert_eq!(table.audit_waiting(), [""; 0]);
        assert_eq!(hands.next_ready(), Some(row));
        finding(&table, "has 1 messages to write");
        hands.set_blocked(row, true);
        assert_eq!(table.audit_waiting(), [""; 0], "the kernel tells");

        hands.order(row, Order::KICKED);
        assert_eq!(table.audit_waiting(), [""; 0]);
        assert_eq!(hands.next_ready(), None, "the end of a round");
        assert_eq!(hands.next_ready(), Some(row));
        finding(&table, "has an order and is not marked");
        let orders = hands.orders(row);
        hands.obeyed(row, orders);
        assert_eq!(table.audit_waiting(), [""; 0]);

        table.view().ready(FIRST_WORKER).unwrap().rows[1].or(1);
        finding(&table, "rows from 64 on are marked where nobody looks");
    }

    #[test]
    fn who_sleeps_has_nothing_to_do() {
        let table = table();
        let (hands, _seats, row) = worker(&table);
        let (_, mut other) = process(&table, FIRST_WORKER + 1, Role::Worker);
        let (_, link) = process(&table, LINK, Role::Link);
        assert!(hands.about_to_sleep() && link.about_to_sleep());
        assert_eq!(table.audit_waiting(), [""; 0]);
        other.order(row, Order::SHUTDOWN);
        finding(&table, "slot 4 sleeps with rows ready");
        other.doorbells_to_ring();
        assert_eq!(table.audit_waiting(), [""; 0]);

        other.hand_over(row, 1 << 20, |_| Ok(())).unwrap();
        finding(&table, "the link sleeps with letters");
        other.doorbells_to_ring();
        assert_eq!(table.audit_waiting(), [""; 0]);
        hands.awake();
    }

    #[test]
    fn a_fan_out_is_worked_on_and_its_sender_waits_for_one_that_is_there() {
        let table = table();
        let (mut hands, _seats, row) = worker(&table);
        let mut stream = hands.stream(row).unwrap();
        stream.flags |= FANNING_OUT_FLAG | UNREAD_FLAG;
        hands.commit(row, &stream);
        finding(&table, "nobody has its fan-out");
        hands.order(row, Order::FANNED_OUT);
        assert_eq!(table.audit_waiting(), [""; 0], "it is told");
        let orders = hands.orders(row);
        hands.obeyed(row, orders);
        while hands.next_ready().is_some() {}

        let message = hands.compose(Urgency::Message, |_| Ok(()), |_| Envelope::default());
        let prepared = hands.prepare_fanout(message.unwrap(), &[row, row]).unwrap();
        hands.begin_fanout(prepared, row, 1, b"");
        assert_eq!(table.audit_waiting(), [""; 0]);
        assert!(!hands.about_to_sleep(), "there is something to do");
        let sleeping = &table.view().controls[usize::from(FIRST_WORKER)].sleeping;
        sleeping.set(1);
        finding(&table, "slot 4 sleeps with a fan-out");
        hands.set_fanout_waits(true);
        assert_eq!(table.audit_waiting(), [""; 0], "it is asked for");
        sleeping.set(0);
        assert!(hands.about_to_sleep());
        hands.awake();
    }

    #[test]
    fn letters_need_a_link() {
        let table = table();
        let (mut hands, _seats, row) = worker(&table);
        let (_, link) = process(&table, LINK, Role::Link);
        hands.hand_over(row, 1 << 20, |_| Ok(())).unwrap();
        assert_eq!(table.audit_waiting(), [""; 0]);
        drop(link);
        table.view().controls[usize::from(LINK)]
            .role
            .put(Role::None as u32);
        finding(&table, "letters and no link");
    }

    #[test]
    fn who_is_not_read_has_a_reason() {
        let table = table();
        let (mut hands, _seats, row) = worker(&table);
        let mut stream = hands.stream(row).unwrap();
        stream.flags |= UNREAD_FLAG;
        hands.commit(row, &stream);
        finding(&table, "does not read 1 connections");
        hands.set_congested(1);
        assert_eq!(table.audit_waiting(), [""; 0]);
        hands.set_congested(0);
        send(&mut hands, row);
        assert_eq!(table.audit_waiting(), [""; 0]);
    }

    #[test]
    fn every_connection_has_a_deadline_and_whoever_is_over_was_reported() {
        let table = table();
        let (mut hands, mut seats, row) = worker(&table);
        hands.set_deadline(row, 0);
        finding(&table, "has no deadline");
        hands.order(row, Order::DEADLINE);
        assert_eq!(table.audit_waiting(), [""; 0]);
        hands.finish(row);
        finding(&table, "is over, and nobody has said so");
        assert!(seats.free(row));
        assert_eq!(table.audit_waiting(), [""; 0]);
    }
}
