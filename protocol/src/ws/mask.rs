//! The masking of client payloads: XOR with four bytes over and over, undone in a copy.

use wide::u8x16;

/// So many bytes are taken in one go.
const STRIDE: usize = 64;

/// Makes `plain` what `masked` is without its mask, whose first byte meets the first of `masked`.
/// Returns the mask as the byte behind them meets it.
pub(super) fn unmask(masked: &[u8], mask: [u8; 4], plain: &mut Vec<u8>) -> [u8; 4] {
    // Not cleared first: every byte is written below, and so only a vector that was shorter has to
    // be filled up.
    plain.resize(masked.len(), 0);
    let wide = repeated(mask);
    let (strides, rest) = masked.as_chunks::<STRIDE>();
    let (to_strides, to_rest) = plain.as_chunks_mut::<STRIDE>();
    for (to, stride) in to_strides.iter_mut().zip(strides) {
        unmask_blocks(stride, wide, to);
    }
    unmask_blocks(rest, wide, to_rest);
    if let (Some(last), Some(to)) = (masked.last_chunk(), plain.last_chunk_mut()) {
        // What it repeats of the block before comes out as before.
        let turned = repeated(turn(mask, masked.len()));
        *to = (u8x16::new(*last) ^ turned).to_array();
    } else {
        for ((to, byte), key) in plain.iter_mut().zip(masked).zip(mask.iter().cycle()) {
            *to = byte ^ key;
        }
    }
    turn(mask, masked.len())
}

#[inline]
fn unmask_blocks(masked: &[u8], wide: u8x16, plain: &mut [u8]) {
    let (blocks, _) = masked.as_chunks();
    let (to_blocks, _) = plain.as_chunks_mut();
    for (to, block) in to_blocks.iter_mut().zip(blocks) {
        *to = (u8x16::new(*block) ^ wide).to_array();
    }
}

fn repeated([a, b, c, d]: [u8; 4]) -> u8x16 {
    u8x16::new([a, b, c, d, a, b, c, d, a, b, c, d, a, b, c, d])
}

/// The mask as the byte behind `bytes` bytes meets it.
#[inline]
fn turn(mask: [u8; 4], bytes: usize) -> [u8; 4] {
    let bits = 8 * (bytes as u32 % 4);
    u32::from_le_bytes(mask).rotate_right(bits).to_le_bytes()
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
