//! The read window: where a worker's reads land, in shared memory, so that they survive it.

use std::ops::{Deref, DerefMut};

/// A worker's read window; exclusive to its process.
#[derive(Debug)]
pub struct ReadWindow<'t>(&'t mut [u8]);

impl<'t> ReadWindow<'t> {
    pub(crate) fn new(bytes: &'t mut [u8]) -> Self {
        ReadWindow(bytes)
    }
}

impl Deref for ReadWindow<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0
    }
}

impl DerefMut for ReadWindow<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.0
    }
}
