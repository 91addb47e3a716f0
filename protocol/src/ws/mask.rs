//! The masking of client payloads: XOR with four bytes over and over, undone in a copy.

use wide::u8x16;

/// So many bytes are taken in one go.
const BLOCK: usize = 16;

/// What `masked` is without its mask, whose first byte meets the first of `masked`; and the mask as the byte behind them meets it. What was
/// in `plain` before is lost, but for its length, which only grows: filling it up again and again would take longer than this.
#[inline]
pub(super) fn unmask<'p>(
    masked: &[u8],
    mask: [u8; 4],
    plain: &'p mut Vec<u8>,
) -> (&'p [u8], [u8; 4]) {
    if plain.len() < masked.len() {
        plain.resize(masked.len(), 0);
    }
    let plain = &mut plain[..masked.len()];
    let turned = turn(mask, masked.len());
    let (Some(last), Some(_)) = (masked.last_chunk(), plain.last_chunk::<BLOCK>()) else {
        for ((to, byte), key) in plain.iter_mut().zip(masked).zip(mask.iter().cycle()) {
            *to = byte ^ key;
        }
        return (plain, turned);
    };
    let wide = repeated(mask);
    let (blocks, _) = masked.as_chunks();
    let (to_blocks, _) = plain.as_chunks_mut();
    for (to, block) in to_blocks.iter_mut().zip(blocks) {
        *to = (u8x16::new(*block) ^ wide).to_array();
    }
    if let Some(to) = plain.last_chunk_mut() {
        // What it repeats of the block before comes out as before.
        *to = (u8x16::new(*last) ^ repeated(turned)).to_array();
    }
    (plain, turned)
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
        for length in 0..80 {
            let expected: Vec<u8> = (0..length).map(|i: u8| i.wrapping_mul(5)).collect();
            let masked: Vec<u8> = expected
                .iter()
                .enumerate()
                .map(|(i, byte)| byte ^ mask[i % 4])
                .collect();
            for cut in 0..=masked.len() {
                let (first, second) = masked.split_at(cut);
                let (bytes, next) = unmask(first, mask, &mut plain);
                let mut both = bytes.to_vec();
                both.extend_from_slice(unmask(second, next, &mut plain).0);
                assert_eq!(both, expected, "{length} bytes cut at {cut}");
            }
        }
    }
}
