//! The bytes of several messages next to each other, for one write.

use crate::arena::BLOCK_BYTES;

/// So many bytes, and not many more, are gathered: as much as two reads take.
const BYTES_MAX: usize = 64 * 1024;

/// Half a block: pieces of at least that many bytes are copied as two of them, which may overlap, and without a call.
const HALF: usize = BLOCK_BYTES / 2;

/// Pieces of blocks, one behind the other.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    /// As long as there is ever need for, once it is used.
    bytes: Vec<u8>,
    len: usize,
}

impl Gathered {
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Nothing more is to be appended.
    pub fn is_full(&self) -> bool {
        self.len >= BYTES_MAX
    }

    /// Appends a piece of a block. False: there is as much as one write should have, and this was not appended.
    #[inline]
    pub fn append(&mut self, piece: &[u8]) -> bool {
        if self.is_full() {
            return false;
        }
        if self.bytes.is_empty() {
            self.bytes.resize(BYTES_MAX + BLOCK_BYTES, 0);
        }
        let end = self.len + piece.len();
        let Some(to) = self.bytes.get_mut(self.len..end) else {
            debug_assert!(false, "a piece longer than a block");
            return false;
        };
        match (piece.first_chunk::<HALF>(), piece.last_chunk::<HALF>()) {
            (Some(first), Some(last)) if piece.len() <= BLOCK_BYTES => {
                if let Some(to) = to.first_chunk_mut() {
                    *to = *first;
                }
                if let Some(to) = to.last_chunk_mut() {
                    *to = *last;
                }
            }
            _ => to.copy_from_slice(piece),
        }
        self.len = end;
        true
    }

    /// What was appended since it was cleared.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_every_length_come_one_behind_the_other() {
        let block: Vec<u8> = (0..=255).collect();
        let mut gathered = Gathered::default();
        for round in 0..2 {
            gathered.clear();
            let mut expected = Vec::new();
            let mut len = round;
            while !gathered.is_full() {
                len = (len + 7) % (BLOCK_BYTES + 1);
                assert!(gathered.append(&block[..len]));
                expected.extend_from_slice(&block[..len]);
            }
            assert_eq!(gathered.bytes(), expected);
            assert!(!gathered.append(b"x"));
            assert!(expected.len() >= BYTES_MAX);
        }
    }
}
