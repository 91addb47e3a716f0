//! A record that is never torn: two copies and a version.
//!
//! The owner writes the copy that nobody reads and then publishes it with one store. Killed anywhere in
//! between, it leaves the old record whole. Readers never wait for it, alive or dead: they check the
//! version after reading, and try again only if a newer record was published meanwhile.

use bytemuck::{Pod, Zeroable};

use crate::word::{Word64, load_fence, store_fence};

/// A record of `WORDS` 64-bit words, with one writer at a time.
#[repr(C)]
#[derive(Debug)]
pub struct TwoCopies<const WORDS: usize> {
    version: Word64,
    copies: [[Word64; WORDS]; 2],
}

impl<const WORDS: usize> TwoCopies<WORDS> {
    /// A record outside a segment: all zeroes.
    #[cfg(loom)]
    pub fn zeroed() -> Self {
        let copy = || std::array::from_fn(|_| Word64::new(0));
        TwoCopies {
            version: Word64::new(0),
            copies: [copy(), copy()],
        }
    }

    /// The record as the owner left it. Only for the owner, who is the only writer.
    #[inline]
    pub fn read_own<T: Pod>(&self) -> T {
        self.copy((self.version.peek() & 1) as usize)
    }

    /// A whole record, old or new, from any process.
    pub fn read<T: Pod>(&self) -> T {
        loop {
            let before = self.version.get();
            let record = self.copy((before & 1) as usize);
            load_fence();
            if self.version.peek() == before {
                return record;
            }
        }
    }

    /// Replaces the record. Only for the owner.
    #[inline]
    pub fn write<T: Pod>(&self, record: &T) {
        const { assert!(size_of::<T>() == 8 * WORDS) };
        let version = self.version.peek();
        let target = &self.copies[(version & 1 ^ 1) as usize];
        let words: &[[u8; 8]] = bytemuck::cast_slice(bytemuck::bytes_of(record));
        // A reader that sees any of these stores must also see the version published before them.
        store_fence();
        for (word, bytes) in target.iter().zip(words) {
            word.put(u64::from_ne_bytes(*bytes));
        }
        self.version.set(version.wrapping_add(1));
    }

    /// Replaces one word of the published record by that of `record`, with one store. Only for the owner, and only where the
    /// rest of the published record is true with it.
    #[inline]
    pub fn write_word<T: Pod>(&self, record: &T, word: usize) {
        const { assert!(size_of::<T>() == 8 * WORDS) };
        let words: &[[u8; 8]] = bytemuck::cast_slice(bytemuck::bytes_of(record));
        let copy = &self.copies[(self.version.peek() & 1) as usize];
        copy[word].set(u64::from_ne_bytes(words[word]));
    }

    #[inline]
    fn copy<T: Pod>(&self, which: usize) -> T {
        const { assert!(size_of::<T>() == 8 * WORDS) };
        let mut record = T::zeroed();
        let words: &mut [[u8; 8]] = bytemuck::cast_slice_mut(bytemuck::bytes_of_mut(&mut record));
        for (bytes, word) in words.iter_mut().zip(&self.copies[which]) {
            *bytes = word.peek().to_ne_bytes();
        }
        record
    }
}

/// Where the two byte streams of a connection stand: all that must outlive the process that serves it.
///
/// A plain copy of the row's record; it counts once it is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Stream {
    /// Bytes taken from the socket and accounted for, in the kernel's count: a new owner finds out by it what the
    /// last one had taken and not accounted for.
    pub consumed: u64,
    /// Bytes written to the socket, in the kernel's count.
    pub written: u64,
    /// State of the frame or line decoder between reads; the worker's own.
    pub decoder: [u8; 16],
    /// First block of the receive buffer, plus one; 0 = none. The table's own.
    pub received_first: u32,
    /// Last block of the receive buffer, plus one. The table's own.
    pub received_last: u32,
    /// Bytes in the receive buffer. The table's own; free to read.
    pub received_len: u32,
    /// Messages from the client handled so far, wrapping.
    pub ordinal: u32,
    /// Newest outbox entry already put in order, plus one; 0 = none. The table's own.
    pub out_taken: u32,
    /// Oldest outbox entry not yet written completely, plus one; 0 = none. The table's own.
    pub out_first: u32,
    /// Bytes of the oldest entry already written. The table's own.
    pub out_offset: u32,
    /// Close code that was sent or is to be sent; the worker's own.
    pub close_code: u16,
    /// The worker's own, but for [`UNREAD_FLAG`] and [`FANNING_OUT_FLAG`].
    pub flags: u16,
    /// State of the rate limit; the worker's own.
    pub rate: u64,
}

/// A flag of [`Stream::flags`] that the table knows: the connection is not read, because much waits to be written to its client, or
/// because it waits for another worker's turn or for memory ([`crate::Hands::set_congested`]). The audit asks for the reason.
pub const UNREAD_FLAG: u16 = 2;

/// The other flag that the table knows: a fan-out of the session's is under way ([`crate::Hands::begin_fanout`]), and it is not read until that is
/// over ([`crate::Order::FANNED_OUT`]).
pub const FANNING_OUT_FLAG: u16 = 1024;

/// The word of a [`Stream`] that says which entries of the outbox are in order.
pub(crate) const ORDERED_WORD: usize = std::mem::offset_of!(Stream, out_taken) / 8;

const _: () = assert!(
    std::mem::offset_of!(Stream, out_taken) == 8 * ORDERED_WORD
        && std::mem::offset_of!(Stream, out_first) == 8 * ORDERED_WORD + 4
);

/// 64-bit words in a [`Stream`].
pub(crate) const STREAM_WORDS: usize = size_of::<Stream>() / 8;

impl Default for Stream {
    fn default() -> Self {
        Self::zeroed()
    }
}
