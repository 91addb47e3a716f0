//! The text id of a session: 18 characters that no other session has, on any host, before or after.

use std::ops::Deref;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const LENGTH: usize = 18;
const HALF: usize = LENGTH / 2;
const BOOT_BITS: usize = 60;
const SERIAL_BITS: usize = 6 * LENGTH - BOOT_BITS;

/// Id of a session: 60 random bits of the segment and the number of the connection in the segment's life (48 bits: 8,900 years at 1,000
/// connections a second), in the alphabet of base64url (RFC 4648 section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionId([u8; LENGTH]);

impl SessionId {
    pub(crate) fn new(boot: u64, serial: u64) -> Self {
        let boot = boot >> (64 - BOOT_BITS);
        // 108 bits in two halves, as it is made for each message: 128-bit shifts would take three times as long.
        let halves = [
            boot >> (BOOT_BITS - 6 * HALF),
            boot << SERIAL_BITS | serial & ((1 << SERIAL_BITS) - 1),
        ];
        SessionId(std::array::from_fn(|at| {
            let shift = 6 * (HALF - 1 - at % HALF);
            ALPHABET[(halves[at / HALF] >> shift) as usize & 63]
        }))
    }
}

impl Deref for SessionId {
    type Target = str;

    fn deref(&self) -> &str {
        // SAFETY: made of nothing but letters of the alphabet, which are ASCII.
        unsafe { str::from_utf8_unchecked(&self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_connections_have_one_id_in_ten_years() {
        // More than a thousand a second.
        let ten_years = 1 << 39;
        let boot = 0xfedc_ba98_7654_3210;
        let id = |serial: u64| SessionId::new(boot, serial).to_string();
        let mut ids = std::collections::HashSet::new();
        for bit in 0..40 {
            for serial in [
                (1_u64 << bit) - 1,
                1 << bit,
                ten_years - 1 - (1 << bit.min(38)),
            ] {
                ids.insert((serial, id(serial)));
            }
        }
        let texts: std::collections::HashSet<&String> = ids.iter().map(|(_, id)| id).collect();
        assert_eq!(texts.len(), ids.len());
        assert!(texts.iter().all(|id| id.len() == 18));
        let other = SessionId::new(boot ^ 1 << 4, 7).to_string();
        assert_ne!(other, id(7), "60 bits of the segment count");
    }
}
