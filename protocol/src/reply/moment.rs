//! A time as messages tell it.

/// Milliseconds since 1970, written out once for all messages that tell them.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    ms: u64,
    digits: [u8; 20],
    len: u8,
}

impl Moment {
    /// So many milliseconds after the start of 1970.
    pub fn new(ms: u64) -> Self {
        let mut buffer = itoa::Buffer::new();
        let text = buffer.format(ms).as_bytes();
        let mut digits = [0; 20];
        // The longest number has twenty digits.
        for (to, digit) in digits.iter_mut().zip(text) {
            *to = *digit;
        }
        Moment {
            ms,
            digits,
            len: text.len() as u8,
        }
    }

    /// Milliseconds since 1970.
    pub fn ms(&self) -> u64 {
        self.ms
    }

    #[inline]
    pub(super) fn digits(&self) -> &[u8] {
        &self.digits[..usize::from(self.len)]
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

    #[test]
    fn every_number_fits() {
        for ms in [0, 7, 1_700_000_000_123, u64::MAX] {
            assert_eq!(Moment::new(ms).digits(), ms.to_string().as_bytes());
        }
    }
}
