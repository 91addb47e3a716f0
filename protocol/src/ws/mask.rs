//! The masking of client payloads: XOR with four bytes over and over, undone in a copy.

/// Makes `plain` what `masked` is without its mask, whose first byte meets the first of `masked`.
/// Returns the mask as the byte behind them meets it.
pub(super) fn unmask(masked: &[u8], mask: [u8; 4], plain: &mut Vec<u8>) -> [u8; 4] {
    // Not cleared first: every byte is written below, and so only a vector that was shorter has to
    // be filled up.
    plain.resize(masked.len(), 0);
    let [a, b, c, d] = mask;
    // Eight at a time; the compiler makes wider steps of it where the processor has them.
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (to_words, to_rest) = plain.as_chunks_mut();
    let (words, rest) = masked.as_chunks();
    for (to, word) in to_words.iter_mut().zip(words) {
        *to = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for ((to, byte), key) in to_rest.iter_mut().zip(rest).zip(mask.iter().cycle()) {
        *to = byte ^ key;
    }
    let mut next = mask;
    next.rotate_left(masked.len() % 4);
    next
}

#[cfg(test)]
mod tests {
    use super::unmask;

    #[test]
    fn every_length_and_every_cut() {
        let mask = [0x11, 0x22, 0x44, 0x88];
        // One vector for all: what it held before does not matter.
        let mut plain = vec![0xff; 20];
        for length in 0..40 {
            let expected: Vec<u8> = (0..length).map(|i| i * 5).collect();
            let masked: Vec<u8> = expected
                .iter()
                .enumerate()
                .map(|(i, byte)| byte ^ mask[i % 4])
                .collect();
            for cut in 0..=masked.len() {
                let (first, second) = masked.split_at(cut);
                let next = unmask(first, mask, &mut plain);
                let mut both = plain.clone();
                unmask(second, next, &mut plain);
                both.extend_from_slice(&plain);
                assert_eq!(both, expected, "{length} bytes cut at {cut}");
            }
        }
    }
}
