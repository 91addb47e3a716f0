//! The read windows: whose input lies in which, and what of it a dead process had not accounted for.

use super::Hands;
use crate::handle::{FIRST_WORKER, Link, RowHandle, Slot};
use crate::row::State;
use crate::window;

/// A read window with input of a row in it that a dead process had read: of the slot that process had, which need not be the one of the
/// process that goes on with the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    slot: Slot,
    /// Which byte of the row's input (wrapping) the window's first byte is.
    at: u64,
}

impl Hands<'_> {
    /// Notes whose input is about to land in the read window, and which byte of that input (wrapping) the window's
    /// first byte is; before each read, when nothing in the window counts any more.
    #[inline]
    pub fn note_reading(&mut self, handle: RowHandle, window_at: u64) {
        self.asked_for = None;
        let control = self.control;
        // Killed between the two, this process has not read anything of that row yet.
        control.window_at.put(window_at);
        control.reading.put(handle.link().0);
    }

    /// Notes that all input in the read window is accounted for by a committed stream.
    #[inline]
    pub fn reading_done(&self) {
        self.control.reading.put(0);
    }

    /// Finds the window with input of an own row that a dead process had in it when it ended. Nobody writes to it until
    /// [`Hands::release_input`].
    pub fn find_input(&self, handle: RowHandle) -> Option<Found> {
        // The own one first: nearly always it is there, or nowhere.
        let others = FIRST_WORKER..self.view.controls.len() as Slot;
        std::iter::once(self.me.slot)
            .chain(others)
            .find_map(|slot| {
                let control = &self.view.controls[usize::from(slot)];
                let is_it = Link(control.reading.get()) == handle.link();
                is_it.then(|| Found {
                    slot,
                    at: control.window_at.peek(),
                })
            })
    }

    /// True if the window is that of this process's own slot.
    pub fn is_own(&self, found: Found) -> bool {
        found.slot == self.me.slot
    }

    /// Appends to `into` the `len` bytes of a row's input from byte `from` (wrapping) on. False: they are not in the window.
    #[must_use]
    pub fn copy_input(&self, found: Found, from: u64, len: u64, into: &mut Vec<u8>) -> bool {
        let part = || {
            let start = usize::try_from(from.wrapping_sub(found.at)).ok()?;
            Some(start..start.checked_add(usize::try_from(len).ok()?)?)
        };
        self.view
            .window(found.slot)
            .zip(part())
            .is_some_and(|(window, part)| window::copy(window, part, into))
    }

    /// Notes that all input of an own row is accounted for by a committed stream, in whatever window it lay: the slot's own process may
    /// write there again.
    pub fn release_input(&self, handle: RowHandle) {
        for control in &self.view.controls[usize::from(FIRST_WORKER)..] {
            if Link(control.reading.peek()) == handle.link() {
                // Nobody else changes it as long as it names this row.
                let _ = control.reading.exchange(handle.link().0, 0);
            }
        }
    }

    /// The row whose input is in this slot's read window and which this process does not have: one that it has yet to claim, or one that was
    /// handed over to another slot and has not been taken over there. Until then the window must not be written.
    pub fn interrupted(&self) -> Option<RowHandle> {
        let control = self.control;
        let handle = Link(control.reading.get()).row()?;
        let word = self.view.row(handle)?.check(handle)?;
        let unclaimed = word.owner != self.me;
        (unclaimed && !matches!(word.state, State::Seated | State::Done)).then_some(handle)
    }

    /// Notes that the input of an own row, from `consumed` on, was being handled when a process died. True: so it was
    /// noted before, for the same place.
    pub fn suspect(&self, handle: RowHandle, consumed: u64) -> bool {
        let Some((row, _)) = self.mine(handle) else {
            return false;
        };
        let place = consumed.wrapping_add(1);
        if row.suspect.peek() == place {
            return true;
        }
        row.suspect.set(place);
        false
    }
}
