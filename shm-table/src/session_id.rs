//! The text id of a session: 18 characters that no other session has, on any host, before or after.

use std::ops::Deref;

use crate::handle::RowHandle;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const LENGTH: usize = 18;
const HALF: usize = LENGTH / 2;

/// Id of a session: 52 random bits of the segment, the row (24 bits) and its generation (32 bits), in the
/// alphabet of base64url (RFC 4648 section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionId([u8; LENGTH]);

impl SessionId {
    pub(crate) fn new(boot: u64, handle: RowHandle) -> Self {
        let row = u64::from(handle.row & 0xff_ffff);
        let (boot, generation) = (boot >> 12, u64::from(handle.generation));
        // 108 bits in two halves, as it is made for each message: 128-bit shifts would take three times as long.
        let halves = [
            boot << 2 | row >> 22,
            (row << 32 | generation) & ((1 << (6 * HALF)) - 1),
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
