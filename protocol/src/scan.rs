//! The one question that reading and writing JSON strings ask of every byte: does it mean just itself?

use wide::u8x16;

const ONES: u64 = u64::MAX / 0xff;
const TOPS: u64 = ONES << 7;

/// What the processor's registers take at once.
const BLOCK: usize = 16;
/// Strings longer than a few blocks are looked at so many bytes at a time.
const STRIDE: usize = 64;

/// How many bytes at the start of `bytes` mean just themselves inside a JSON string: no quote, no backslash, no control
/// character (RFC 8259, section 7).
#[inline]
pub(crate) fn plain_len(bytes: &[u8]) -> usize {
    // Most names and words end within the first block.
    match bytes.split_first_chunk() {
        Some((block, rest)) => first_special(block).unwrap_or_else(|| BLOCK + longer_len(rest)),
        None => short_len(bytes),
    }
}

fn longer_len(bytes: &[u8]) -> usize {
    let (strides, _) = bytes.as_chunks::<STRIDE>();
    // Without a way out in the middle the compiler takes a stride in few steps.
    let is_plain =
        |stride: &[u8; STRIDE]| stride.iter().fold(0, |any, byte| any | mark(*byte)) == 0;
    let plain = STRIDE * strides.iter().take_while(|stride| is_plain(stride)).count();
    let rest = &bytes[plain..];
    let (blocks, _) = rest.as_chunks();
    for (index, block) in blocks.iter().enumerate() {
        if let Some(at) = first_special(block) {
            return plain + BLOCK * index + at;
        }
    }
    let whole = BLOCK * blocks.len();
    plain + whole + short_len(&rest[whole..])
}

#[inline]
fn mark(byte: u8) -> u8 {
    u8::from((byte < b' ') | (byte == b'"') | (byte == b'\\'))
}

#[inline]
fn first_special(block: &[u8; BLOCK]) -> Option<usize> {
    let bytes = u8x16::new(*block);
    let quote = bytes.cmp_eq(u8x16::splat(b'"'));
    let backslash = bytes.cmp_eq(u8x16::splat(b'\\'));
    let control = bytes.cmp_eq(bytes.min(u8x16::splat(0x1f)));
    let marks = (quote | backslash | control).move_mask();
    (marks != 0).then(|| marks.trailing_zeros() as usize)
}

/// The same for less than a block.
#[inline]
fn short_len(bytes: &[u8]) -> usize {
    match (bytes.first_chunk(), bytes.last_chunk()) {
        (Some(first), Some(last)) => first_special_of(*first)
            // What the last repeats of the first is plain.
            .or_else(|| first_special_of(*last).map(|at| bytes.len() - 8 + at))
            .unwrap_or(bytes.len()),
        _ => tiny_len(bytes),
    }
}

/// The same for less than eight bytes.
#[inline]
fn tiny_len(bytes: &[u8]) -> usize {
    if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        let [a, b, c, d] = *first;
        let [e, f, g, h] = *last;
        return match first_special_of([a, b, c, d, e, f, g, h]) {
            Some(at @ 0..4) => at,
            Some(at) => bytes.len() + at - 8,
            None => bytes.len(),
        };
    }
    bytes.iter().take_while(|byte| mark(**byte) == 0).count()
}

#[inline]
fn first_special_of(word: [u8; 8]) -> Option<usize> {
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

/// How many bytes at the start of `bytes` are a JSON number without fraction or exponent; `None` for another number, and for none.
#[inline]
pub(crate) fn integer_len(bytes: &[u8]) -> Option<usize> {
    let sign = usize::from(bytes.first() == Some(&b'-'));
    let digits = bytes.get(sign..)?;
    let len = digits.iter().take_while(|b| b.is_ascii_digit()).count();
    let leading_zero = len > 1 && digits.first() == Some(&b'0');
    let goes_on = matches!(digits.get(len), Some(b'.' | b'e' | b'E'));
    (len > 0 && !leading_zero && !goes_on).then_some(sign + len)
}

/// Whether two pieces of some bytes are the same: looked at here and not by a call.
#[inline]
pub(crate) fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    match a.len() {
        0 => true,
        1..4 => a.iter().zip(b).all(|(a, b)| a == b),
        4..8 => ends::<4>(a) == ends::<4>(b),
        8..16 => ends::<8>(a) == ends::<8>(b),
        16..=32 => ends::<16>(a) == ends::<16>(b),
        _ => a == b,
    }
}

/// The first and the last `N` bytes.
#[inline]
fn ends<const N: usize>(bytes: &[u8]) -> Option<(&[u8; N], &[u8; N])> {
    bytes.first_chunk().zip(bytes.last_chunk())
}

#[cfg(test)]
mod tests {
    use super::{plain_len, same};

    #[test]
    fn bytes_are_the_same_or_differ_anywhere() {
        for len in 0..70 {
            let one: Vec<u8> = (0..len).collect();
            assert!(same(&one, &one.clone()));
            assert!(!same(&one, &[&one[..], b"x"].concat()));
            for at in 0..one.len() {
                let mut other = one.clone();
                other[at] ^= 0x80;
                assert!(!same(&one, &other), "{at} of {len}");
            }
        }
    }

    #[test]
    fn every_byte_at_every_place() {
        for len in (0..40).chain([48, 63, 64, 79, 80, 81, 90, 144, 150]) {
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
