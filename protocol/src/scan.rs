//! The one question that reading and writing JSON strings ask of every byte: does it mean just itself?

const ONES: u64 = u64::MAX / 0xff;
const TOPS: u64 = ONES << 7;

/// Strings longer than this (and eight) are looked at a block at a time.
const SHORT: usize = 16;
const BLOCK: usize = 32;

/// How many bytes at the start of `bytes` mean just themselves inside a JSON string: no quote, no backslash, no control
/// character (RFC 8259, section 7).
#[inline]
pub(crate) fn plain_len(bytes: &[u8]) -> usize {
    // Most names and words end within the first eight bytes.
    match bytes.split_first_chunk() {
        Some((word, rest)) => first_special(*word).unwrap_or_else(|| 8 + longer_len(rest)),
        None => tiny_len(bytes),
    }
}

fn longer_len(bytes: &[u8]) -> usize {
    let Some((head, rest)) = bytes.split_at_checked(SHORT) else {
        return short_len(bytes);
    };
    match short_len(head) {
        SHORT => SHORT + long_len(rest),
        special => special,
    }
}

fn long_len(bytes: &[u8]) -> usize {
    let (blocks, _) = bytes.as_chunks::<BLOCK>();
    // Without a way out in the middle the compiler takes a block in few steps.
    let is_plain = |block: &[u8; BLOCK]| {
        let special = |byte: u8| u8::from(byte < b' ' || byte == b'"' || byte == b'\\');
        block.iter().fold(0, |any, byte| any | special(*byte)) == 0
    };
    let plain = BLOCK * blocks.iter().take_while(|block| is_plain(block)).count();
    plain + short_len(&bytes[plain..])
}

#[inline]
fn short_len(bytes: &[u8]) -> usize {
    let (words, rest) = bytes.as_chunks();
    for (index, word) in words.iter().enumerate() {
        if let Some(at) = first_special(*word) {
            return 8 * index + at;
        }
    }
    if rest.is_empty() {
        return bytes.len();
    }
    if let Some(last) = bytes.last_chunk() {
        // What it repeats of the words before is plain.
        return first_special(*last).map_or(bytes.len(), |at| bytes.len() - 8 + at);
    }
    tiny_len(bytes)
}

/// The same for less than eight bytes.
#[inline]
fn tiny_len(bytes: &[u8]) -> usize {
    if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        let [a, b, c, d] = *first;
        let [e, f, g, h] = *last;
        return match first_special([a, b, c, d, e, f, g, h]) {
            Some(at @ 0..4) => at,
            Some(at) => bytes.len() + at - 8,
            None => bytes.len(),
        };
    }
    let is_plain = |byte: &&u8| **byte >= b' ' && **byte != b'"' && **byte != b'\\';
    bytes.iter().take_while(is_plain).count()
}

#[inline]
fn first_special(word: [u8; 8]) -> Option<usize> {
    let special = special(u64::from_le_bytes(word));
    (special != 0).then(|| special.trailing_zeros() as usize / 8)
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
        for len in (0..20).chain([31, 48, 49, 63, 64, 79, 80, 90]) {
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
