//! The text id of a session: 18 characters that no other session has, on any host, before or after.

use std::ops::Deref;

use crate::handle::RowHandle;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const LENGTH: usize = 18;

/// Id of a session: 52 random bits of the segment, the row (24 bits) and its generation (32 bits), in the
/// alphabet of base64url (RFC 4648 section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionId([u8; LENGTH]);

impl SessionId {
    pub(crate) fn new(boot: u64, handle: RowHandle) -> Self {
        let bits = u128::from(boot >> 12) << 56
            | u128::from(handle.row & 0xff_ffff) << 32
            | u128::from(handle.generation);
        SessionId(std::array::from_fn(|at| {
            ALPHABET[(bits >> (6 * (LENGTH - 1 - at))) as usize & 63]
        }))
    }
}

impl Deref for SessionId {
    type Target = str;

    fn deref(&self) -> &str {
        // The alphabet is ASCII; an empty text cannot come of it.
        str::from_utf8(&self.0).unwrap_or_default()
    }
}
