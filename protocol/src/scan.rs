//! The one question that reading and writing JSON strings ask of every byte: does it mean just itself?

const ONES: u64 = u64::MAX / 0xff;
const TOPS: u64 = ONES << 7;

/// How many bytes at the start of `bytes` mean just themselves inside a JSON string: no quote, no backslash, no control
/// character (RFC 8259, section 7).
#[inline]
pub(crate) fn plain_len(bytes: &[u8]) -> usize {
    let (words, rest) = bytes.as_chunks();
    for (index, word) in words.iter().enumerate() {
        let special = special(u64::from_le_bytes(*word));
        if special != 0 {
            return 8 * index + special.trailing_zeros() as usize / 8;
        }
    }
    let is_plain = |byte: &&u8| **byte >= b' ' && **byte != b'"' && **byte != b'\\';
    8 * words.len() + rest.iter().take_while(is_plain).count()
}

/// The top bit of each byte that is special. Bits above the lowest of them may be wrong, as borrows run upwards.
#[inline]
fn special(word: u64) -> u64 {
    let zero = |word: u64| word.wrapping_sub(ONES) & !word;
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    (zero(word ^ (ONES * 0x22)) | zero(word ^ (ONES * 0x5c)) | control) & TOPS
}

#[cfg(test)]
mod tests {
    use super::plain_len;

    #[test]
    fn every_byte_at_every_place() {
        for len in 0..20 {
            for at in 0..len {
                for byte in 0..=255 {
                    let mut text = vec![b'x'; len];
                    text[at] = byte;
                    let plain = byte >= 0x20 && byte != b'"' && byte != b'\\';
                    let expected = if plain { len } else { at };
                    assert_eq!(plain_len(&text), expected, "{byte:#x} at {at} of {len}");
                }
            }
        }
    }

    #[test]
    fn the_first_of_several_counts() {
        assert_eq!(plain_len(b"abc\"\\\n\"xxxxxxxxx"), 3);
        assert_eq!(plain_len(b"\x80\x7f\xff \x1f\"\"\"12345678"), 4);
    }
}
