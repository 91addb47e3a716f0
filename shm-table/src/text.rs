//! Short strings in the segment: names of users, groups and devices.

use std::ops::Deref;

use crate::word::Word32;
use crate::word::Word64;

/// The top bit of each byte of a word.
const TOPS: u64 = 0x8080_8080_8080_8080;

/// Longest text a [`Text`] holds, in bytes.
pub const TEXT_BYTES_MAX: usize = 64;

/// Room for a string of up to 64 bytes, written before the thing it belongs to is published.
///
/// A reader that is not the owner may see a mixture of two lives of the thing; it validates the
/// generation after it has read.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Text {
    len: Word32,
    reserved: Word32,
    words: [Word64; 8],
}

impl Text {
    /// Writes `text`, cut at [`TEXT_BYTES_MAX`]; callers have checked the length.
    pub fn put(&self, text: &str) {
        let bytes = &text.as_bytes()[..text.len().min(TEXT_BYTES_MAX)];
        for (word, chunk) in self.words.iter().zip(bytes.chunks(8)) {
            let mut full = [0; 8];
            full[..chunk.len()].copy_from_slice(chunk);
            word.put(u64::from_le_bytes(full));
        }
        self.len.put(bytes.len() as u32);
    }

    /// Makes the text empty, with one store.
    pub fn clear(&self) {
        self.len.put(0);
    }

    /// The first bytes as a number: texts are in the order of these where they differ.
    pub fn first_bytes(&self) -> u64 {
        let len = self.len.peek();
        let first = self.words[0].peek().swap_bytes();
        match len {
            0 => 0,
            // What stands behind the end is an earlier text's.
            1..8 => first & (u64::MAX << (64 - 8 * len)),
            _ => first,
        }
    }

    /// True if the text is `other`, without copying it out.
    pub fn is(&self, other: &str) -> bool {
        let bytes = other.as_bytes();
        if self.len.peek() as usize != bytes.len() {
            return false;
        }
        let (chunks, rest) = bytes.as_chunks();
        let mut words = self.words.iter();
        let begins = chunks
            .iter()
            .zip(words.by_ref())
            .all(|(chunk, word)| word.peek() == u64::from_le_bytes(*chunk));
        let mut ends = || {
            words.next().is_none_or(|word| {
                let mask = (1 << (8 * rest.len())) - 1;
                word.peek() & mask == short_word(rest)
            })
        };
        begins && ends()
    }

    /// A copy; empty if what was read is not UTF-8, which only a reader of a dying row can meet.
    pub fn read(&self) -> Name {
        let mut bytes = [0; TEXT_BYTES_MAX];
        let len = (self.len.peek() as usize).min(TEXT_BYTES_MAX);
        let words = self.words.iter().take(len.div_ceil(8));
        let mut all = 0;
        for (chunk, word) in bytes.as_chunks_mut().0.iter_mut().zip(words) {
            let word = word.peek();
            all |= word;
            *chunk = word.to_le_bytes();
        }
        // Most names are ASCII.
        let valid = all & TOPS == 0 || str::from_utf8(&bytes[..len]).is_ok();
        Name {
            len: if valid { len as u8 } else { 0 },
            bytes,
        }
    }
}

/// Less than eight bytes as the low end of a word.
#[inline]
fn short_word(bytes: &[u8]) -> u64 {
    match (bytes.first_chunk(), bytes.last_chunk()) {
        (Some(first), Some(last)) => {
            let (first, last) = (u32::from_le_bytes(*first), u32::from_le_bytes(*last));
            u64::from(first) | u64::from(last) << (8 * (bytes.len() - 4))
        }
        _ => bytes
            .iter()
            .rev()
            .fold(0, |word, byte| word << 8 | u64::from(*byte)),
    }
}

/// The first and the last `N` bytes.
#[inline]
fn ends<const N: usize>(bytes: &[u8]) -> Option<(&[u8; N], &[u8; N])> {
    bytes.first_chunk().zip(bytes.last_chunk())
}

/// A copy of a name in the table: UTF-8, at most [`TEXT_BYTES_MAX`] bytes.
#[derive(Clone, Copy)]
pub struct Name {
    len: u8,
    bytes: [u8; TEXT_BYTES_MAX],
}

impl Name {
    /// A text, cut after at most [`TEXT_BYTES_MAX`] bytes, between two characters.
    pub fn cut(text: &str) -> Self {
        let end = (0..=text.len().min(TEXT_BYTES_MAX))
            .rfind(|&end| text.is_char_boundary(end))
            .unwrap_or(0);
        let mut bytes = [0; TEXT_BYTES_MAX];
        bytes[..end].copy_from_slice(&text.as_bytes()[..end]);
        Name {
            len: end as u8,
            bytes,
        }
    }
}

impl Name {
    /// Whether it is `other`.
    #[inline]
    pub fn is(&self, other: &str) -> bool {
        let other = other.as_bytes();
        let len = usize::from(self.len);
        if other.len() != len {
            return false;
        }
        let own = &self.bytes[..len];
        // By both ends, which overlap, and without a call, as most names are short.
        match len {
            4..8 => ends::<4>(own) == ends::<4>(other),
            8..=16 => ends::<8>(own) == ends::<8>(other),
            _ => own == other,
        }
    }
}

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        // SAFETY: both functions that make a `Name` take `len` bytes that they have seen to be UTF-8, and nothing changes one.
        unsafe { str::from_utf8_unchecked(&self.bytes[..usize::from(self.len)]) }
    }
}

impl std::fmt::Debug for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_itself_and_no_other() {
        let letters: String = ('!'..='~').cycle().take(TEXT_BYTES_MAX).collect();
        for len in 0..=TEXT_BYTES_MAX {
            let text = Text {
                len: Word32::new(0),
                reserved: Word32::new(0),
                words: std::array::from_fn(|_| Word64::new(u64::MAX)),
            };
            text.put(&letters[..len]);
            assert!(text.is(&letters[..len]), "{len}");
            let name = text.read();
            assert_eq!(&*name, &letters[..len]);
            assert!(name.is(&letters[..len]), "{len}");
            for at in 0..len {
                let mut other = letters[..len].to_owned();
                other.replace_range(at..=at, " ");
                assert!(!text.is(&other), "{len}, {at}");
                assert!(!name.is(&other), "{len}, {at}");
            }
            assert_eq!(text.is(""), len == 0);
        }
    }
}
