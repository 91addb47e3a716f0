//! A time as messages tell it.

use std::io::Write;

use super::short::Piece;

/// Milliseconds since 1970, written out once for all messages that tell them.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    ms: u64,
    /// The end of a message.
    pub(super) closing: Piece<32>,
}

impl Moment {
    /// So many milliseconds after the start of 1970.
    pub fn new(ms: u64) -> Self {
        let mut closing = Piece::default();
        // The longest number has twenty digits.
        let _ = write!(closing, ",\"time\":{ms}}}");
        Moment { ms, closing }
    }

    /// Milliseconds since 1970.
    pub fn ms(&self) -> u64 {
        self.ms
    }
}

impl Default for Moment {
    fn default() -> Self {
        Moment::new(0)
    }
}

#[cfg(test)]
mod tests {
    use super::Moment;
    use crate::reply::short::Sink;

    #[test]
    fn every_number_fits() {
        for ms in [0, 7, 1_700_000_000_123, u64::MAX] {
            let mut text = Vec::new();
            text.put_piece(&Moment::new(ms).closing).unwrap();
            assert_eq!(text, format!(",\"time\":{ms}}}").as_bytes());
        }
    }
}
