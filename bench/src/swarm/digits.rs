//! Numbers of a fixed width as text and back, eight characters in one step: both happen once per message.

const ONES: u64 = 0x0101_0101_0101_0101;

/// Eight decimal digits.
fn eight(number: u32) -> [u8; 8] {
    let (mut digits, mut left) = ([0; 8], number);
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (left % 10) as u8;
        left /= 10;
    }
    digits
}

/// Reads eight decimal digits; `None` if one is something else.
fn read_eight(text: [u8; 8]) -> Option<u32> {
    let text = u64::from_le_bytes(text);
    let high = text & (ONES * 0xF0);
    // A character past '9' would carry into its upper half if six were added to the lower one.
    let carried = (text & (ONES * 0x0F)) + ONES * 6;
    if high != ONES * 0x30 || carried & (ONES * 0xF0) != 0 {
        return None;
    }
    let digits = text & (ONES * 0x0F);
    // Neighbours are joined three times: to pairs, to fours, to the whole. The first digit is the lowest byte.
    let pairs = (digits * 10 + (digits >> 8)) & 0x00FF_00FF_00FF_00FF;
    let fours = (pairs * 100 + (pairs >> 16)) & 0x0000_FFFF_0000_FFFF;
    Some((fours * 10_000 + (fours >> 32)) as u32)
}

/// Ten decimal digits of a number below 10^10.
pub fn ten(number: u64) -> [u8; 10] {
    let (upper, lower) = (number / 100_000_000, number % 100_000_000);
    let mut text = [0; 10];
    text[0] = b'0' + (upper / 10 % 10) as u8;
    text[1] = b'0' + (upper % 10) as u8;
    text[2..].copy_from_slice(&eight(lower as u32));
    text
}

/// Reads what [`ten`] wrote.
pub fn read_ten(text: &[u8; 10]) -> Option<u64> {
    let (first, rest) = text.split_first_chunk::<2>()?;
    let upper = read_few(first)?;
    let lower = read_eight(rest.try_into().ok()?)?;
    Some(u64::from(upper) * 100_000_000 + u64::from(lower))
}

/// Reads a few decimal digits.
pub fn read_few(text: &[u8]) -> Option<u32> {
    text.iter().try_fold(0_u32, |number, character| {
        let digit = character.wrapping_sub(b'0');
        (digit < 10).then(|| number.wrapping_mul(10).wrapping_add(u32::from(digit)))
    })
}

/// Sixteen hexadecimal digits.
pub fn hex(number: u64) -> [u8; 16] {
    let mut text = [0; 16];
    text[..8].copy_from_slice(&half_hex((number >> 32) as u32));
    text[8..].copy_from_slice(&half_hex(number as u32));
    text
}

fn half_hex(number: u32) -> [u8; 8] {
    // One digit into each byte, the first of the text into the lowest.
    let mut spread = u64::from(number.swap_bytes());
    spread = (spread | spread << 16) & 0x0000_FFFF_0000_FFFF;
    spread = (spread | spread << 8) & 0x00FF_00FF_00FF_00FF;
    spread = (spread >> 4 | spread << 8) & (ONES * 0x0F);
    // From ten on, the letters: 'a' is 39 further than the character behind '9'.
    let letters = (spread + ONES * 6) >> 4 & ONES;
    (spread + ONES * 0x30 + letters * 39).to_le_bytes()
}

/// Reads what [`hex`] wrote. Other characters give some number: whoever asks knows what times there can be.
pub fn read_hex(text: &[u8; 16]) -> u64 {
    let (upper, lower) = text.split_at(8);
    let half = |half: &[u8]| u64::from(read_half_hex(half.try_into().unwrap_or_default()));
    half(upper) << 32 | half(lower)
}

fn read_half_hex(text: [u8; 8]) -> u32 {
    let text = u64::from_le_bytes(text);
    let digits = (text & (ONES * 0x0F)) + (text >> 6 & ONES) * 9;
    let bytes = (digits << 4 | digits >> 8) & 0x00FF_00FF_00FF_00FF;
    let pairs = (bytes | bytes >> 8) & 0x0000_FFFF_0000_FFFF;
    ((pairs | pairs >> 16) as u32).swap_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        for number in [0, 1, 9, 10, 12_345_678, 99_999_999, 100_000_000, 9_999_999_999] {
            let text = ten(number);
            assert_eq!(String::from_utf8(text.into()).unwrap(), format!("{number:010}"));
            assert_eq!(read_ten(&text), Some(number));
        }
    }

    #[test]
    fn what_is_no_digit_is_found_wherever_it_stands() {
        for at in 0..10 {
            for wrong in [b'/', b':', b'a', b' ', b'?', b'@', 0, 0xFF, 0xB5] {
                let mut text = ten(1_234_567_890);
                text[at] = wrong;
                assert_eq!(read_ten(&text), None, "{wrong} at {at}");
            }
        }
        assert_eq!(read_few(b"000012"), Some(12));
        assert_eq!(read_few(b"00 012"), None);
    }

    #[test]
    fn hexadecimal_comes_back() {
        for number in [0, 9, 10, 15, 16, 0x0123_4567_89AB_CDEF, 0xFEDC_BA98_7654_3210, u64::MAX] {
            let text = hex(number);
            assert_eq!(String::from_utf8(text.into()).unwrap(), format!("{number:016x}"));
            assert_eq!(read_hex(&text), number);
        }
    }
}
