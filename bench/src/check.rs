//! Whether what one client sent to another came, each message once and in order.

/// What went wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    pub lost: u64,
    pub doubled: u64,
    pub out_of_order: u64,
    pub corrupt: u64,
}

impl Faults {
    pub fn none(&self) -> bool {
        *self == Faults::default()
    }

    pub fn add(&mut self, other: Faults) {
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.out_of_order += other.out_of_order;
        self.corrupt += other.corrupt;
    }
}

impl std::fmt::Display for Faults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Faults {
            lost,
            doubled,
            out_of_order,
            corrupt,
        } = self;
        write!(
            f,
            "{lost} lost, {doubled} doubled, {out_of_order} out of order, {corrupt} corrupt"
        )
    }
}

/// The messages of one sender as one recipient gets them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stream {
    /// The highest number that came.
    highest: u64,
    /// Which of the 64 numbers up to it came, itself the lowest bit.
    window: u64,
    came: u64,
}

impl Stream {
    /// Takes a message's number, the first being 1.
    #[inline]
    pub fn take(&mut self, number: u64, faults: &mut Faults) {
        if number == self.highest + 1 {
            self.window = self.window << 1 | 1;
            self.highest = number;
            self.came += 1;
            return;
        }
        if number > self.highest {
            let ahead = number - self.highest;
            self.window = self.window.checked_shl(ahead as u32).unwrap_or(0) | 1;
            self.highest = number;
            self.came += 1;
            return;
        }
        let bit = 1_u64
            .checked_shl((self.highest - number) as u32)
            .unwrap_or(0);
        if number == 0 || self.window & bit != 0 || bit == 0 {
            faults.doubled += 1;
        } else {
            self.window |= bit;
            self.came += 1;
            faults.out_of_order += 1;
        }
    }

    /// How many of `sent` messages never came.
    pub fn lost(&self, sent: u64) -> u64 {
        sent.saturating_sub(self.came)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(numbers: &[u64], sent: u64) -> Faults {
        let mut faults = Faults::default();
        let mut stream = Stream::default();
        for number in numbers {
            stream.take(*number, &mut faults);
        }
        faults.lost = stream.lost(sent);
        faults
    }

    #[test]
    fn each_fault_is_found() {
        let all: Vec<u64> = (1..=200).collect();
        assert!(faults(&all, 200).none());
        assert_eq!(faults(&all, 203).lost, 3);
        let without: Vec<u64> = all.iter().copied().filter(|n| n % 50 != 0).collect();
        assert_eq!(faults(&without, 200).lost, 4);
        let twice = [1, 2, 3, 3, 4, 1];
        let found = faults(&twice, 4);
        assert_eq!((found.doubled, found.lost), (2, 0));
        let found = faults(&[1, 3, 2, 5, 4], 5);
        assert_eq!((found.out_of_order, found.lost), (2, 0));
    }
}
