//! Connections of a slot that cannot be filled: handed over to another slot, or ended. Only the master, while every living process stands
//! still and after the death of their owner is accounted for.
//!
//! Handing over is one store, as the owner of a row is one word. The row then looks like one that a dead process of the *new* slot has left,
//! and what follows is what follows there: the slot's process claims it and goes on at the byte. Input that the dead owner had read
//! and not accounted for stays in the read window of the *old* slot, whose control block goes on naming the row ([`crate::Hands::find_input`]).

use crate::fanout;
use crate::handle::{Link, ProcessId, RowHandle, Slot};
use crate::row::{RowWord, State, Transport};
use crate::seats::Seats;
use crate::table::Table;
use crate::two_copies::Stream;

impl Table {
    /// Makes a row whose owner is dead one of another worker's slot, whose process is then given its descriptor and claims it, or whose
    /// next one is and does. False: it is not such a row, or that slot is not a worker's.
    pub fn hand_over(&self, _seats: &mut Seats<'_>, handle: RowHandle, to: Slot) -> bool {
        let view = self.view();
        let (Some(row), Some(ready)) = (view.row(handle), view.ready(to)) else {
            return false;
        };
        let Some(word) = row.check(handle) else {
            return false;
        };
        if word.state == State::Done || view.lives(word.owner) || view.window(to).is_none() {
            return false;
        }
        let owner = self.one_before(to);
        row.word.set(RowWord { owner, ..word }.pack());
        // What was put into its outbox, or ordered, was announced to the old slot.
        ready.mark(handle.row);
        true
    }

    /// Whether a slot has a fan-out.
    pub fn has_fanouts(&self, slot: Slot) -> bool {
        let control = self.view().controls.get(usize::from(slot));
        control.is_some_and(|control| control.fanouts.get() != 0)
    }

    /// Puts the fan-outs of a slot without a process behind those of another slot, whose process has to look for them afterwards.
    pub fn hand_over_fanouts(&self, _seats: &mut Seats<'_>, from: Slot, to: Slot) {
        let view = self.view();
        let slots = [from, to].map(|slot| view.controls.get(usize::from(slot)));
        let [Some(from), Some(to)] = slots else {
            return;
        };
        let first = from.fanouts.get();
        if first == 0 || std::ptr::eq(from, to) {
            return;
        }
        match fanout::of(&view, to).last() {
            Some(last) => view.arena.heads[last as usize].refs.set(first),
            None => to.fanouts.set(first),
        }
        from.fanouts.set(0);
        // Who waits finds out anew what for.
        to.fanout_waits.put(0);
        to.sleeping.set(0);
    }

    /// Gives up the fan-outs of a slot for which nobody will come: what is left of them is swept up by the next [`Table::recover`].
    pub fn drop_fanouts(&self, _seats: &mut Seats<'_>, of: Slot) {
        if let Some(control) = self.view().controls.get(usize::from(of)) {
            control.fanouts.set(0);
        }
    }

    /// Ends a row whose owner is dead. The next [`Table::recover`] takes it out of everything and returns it. False: it is not such a row.
    pub fn end_unserved(&self, _seats: &mut Seats<'_>, handle: RowHandle) -> bool {
        let view = self.view();
        let Some(row) = view.row(handle) else {
            return false;
        };
        let Some(word) = row.check(handle) else {
            return false;
        };
        if view.lives(word.owner) {
            return false;
        }
        if let Some((user, _)) = Link(row.user.peek()).target() {
            view.users[user].last_seen.raise(row.last_seen.peek());
        }
        row.word.set(
            RowWord {
                state: State::Done,
                ..word
            }
            .pack(),
        );
        true
    }

    /// How and in which state a row's client is connected, if something may be written to its socket now without landing in the middle of
    /// something else. `written`: what the kernel counts.
    pub fn between_messages(&self, handle: RowHandle, written: u64) -> Option<(Transport, State)> {
        let view = self.view();
        let row = view.row(handle)?;
        let word = row.check(handle)?;
        let stream: Stream = row.stream.read();
        let transport = row.transport();
        // On a WebSocket whose request was not answered yet there are no frames.
        let is_open = matches!(word.state, State::Connected | State::LoggedIn);
        let unanswered = transport == Transport::WebSocket && is_open && written == 0;
        let is_between = stream.out_offset == 0 && stream.written == written && !unanswered;
        is_between.then_some((transport, word.state))
    }

    /// A process of a slot that is dead for certain: the one before the present one.
    fn one_before(&self, slot: Slot) -> ProcessId {
        let present = self.view().controls[usize::from(slot)].incarnation.peek() as u16;
        let incarnation = match present.wrapping_sub(1) {
            0 => u16::MAX,
            before => before,
        };
        ProcessId { slot, incarnation }
    }
}
