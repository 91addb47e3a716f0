//! The read window: where a worker's reads land, in shared memory, so that they survive it.
//!
//! A window belongs to a slot. What the last process of a slot had read and not accounted for stays there until somebody has handled it:
//! its successor, or a worker of another slot to whom the connection was handed over. Until then nobody writes to the window, and the
//! slot's control block says whose input it is.

use std::ops::{Deref, DerefMut, Range};

use crate::arena::{BLOCK_BYTES, Block};

/// A worker's read window; exclusive to its process.
pub struct ReadWindow<'t>(&'t [Block]);

impl<'t> ReadWindow<'t> {
    /// The caller answers for it that no two of one process are of the same blocks.
    pub(crate) fn new(blocks: &'t [Block]) -> Self {
        ReadWindow(blocks)
    }

    fn start(&self) -> *mut u8 {
        self.0.as_ptr().cast_mut().cast()
    }
}

impl Deref for ReadWindow<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the blocks lie next to each other and are bytes in cells; only the window's process writes them, through
        // `deref_mut`, which borrows this value.
        unsafe { std::slice::from_raw_parts(self.start(), self.0.len() * BLOCK_BYTES) }
    }
}

impl DerefMut for ReadWindow<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above; the value is borrowed for as long as the bytes may be written, and another process reads them only
        // while the control block names a row that is not this one's process's (see `Hands::interrupted`), which then does not write.
        unsafe { std::slice::from_raw_parts_mut(self.start(), self.0.len() * BLOCK_BYTES) }
    }
}

/// Copies a part of a window that nobody writes to, because its control block names a row of the caller's. False: it is not within.
pub(crate) fn copy(window: &[Block], part: Range<usize>, into: &mut Vec<u8>) -> bool {
    if part.start > part.end || part.end > window.len() * BLOCK_BYTES {
        return false;
    }
    let start: *const u8 = window.as_ptr().cast();
    // SAFETY: the range is within the blocks (checked above), which lie next to each other and are bytes in cells; nobody writes them
    // meanwhile (the caller's promise).
    let bytes = unsafe { std::slice::from_raw_parts(start.add(part.start), part.len()) };
    into.extend_from_slice(bytes);
    true
}
