//! The masking of client payloads: XOR with four bytes over and over, done in place.

/// Unmasks `bytes`, whose first byte meets the first byte of `mask`. Returns the mask as the byte
/// behind them meets it.
pub(super) fn unmask(bytes: &mut [u8], mask: [u8; 4]) -> [u8; 4] {
    let [a, b, c, d] = mask;
    // Eight at a time; the compiler makes wider steps of it where the processor has them.
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let mut words = bytes.chunks_exact_mut(8);
    for word in &mut words {
        let mut eight = [0; 8];
        eight.copy_from_slice(word);
        word.copy_from_slice(&(u64::from_ne_bytes(eight) ^ wide).to_ne_bytes());
    }
    for (byte, key) in words.into_remainder().iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
    let mut next = mask;
    next.rotate_left(bytes.len() % 4);
    next
}

#[cfg(test)]
mod tests {
    use super::unmask;

    #[test]
    fn every_length_and_every_cut() {
        let mask = [0x11, 0x22, 0x44, 0x88];
        for length in 0..40 {
            let plain: Vec<u8> = (0..length).map(|i| i * 5).collect();
            let expected: Vec<u8> = plain
                .iter()
                .enumerate()
                .map(|(i, byte)| byte ^ mask[i % 4])
                .collect();
            for cut in 0..=plain.len() {
                let mut bytes = plain.clone();
                let (first, second) = bytes.split_at_mut(cut);
                let next = unmask(first, mask);
                unmask(second, next);
                assert_eq!(bytes, expected, "{length} bytes cut at {cut}");
            }
        }
    }
}
