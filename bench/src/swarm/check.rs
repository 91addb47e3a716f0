//! Whether everything that was sent came, once and in order.

use std::ops::AddAssign;

/// What went wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Sent and never seen.
    pub lost: u64,
    /// Seen again.
    pub doubled: u64,
    /// Behind one with a higher number.
    pub disordered: u64,
    /// Not as it was sent, or at somebody whom it was not for.
    pub corrupt: u64,
    /// Anything else that is no message: errors, acknowledgements nobody asked for.
    pub strange: u64,
    /// Connections that ended by themselves.
    pub ended: u64,
}

impl Faults {
    /// Whether there was none.
    pub fn none(&self) -> bool {
        *self == Faults::default()
    }
}

impl AddAssign for Faults {
    fn add_assign(&mut self, other: Faults) {
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.disordered += other.disordered;
        self.corrupt += other.corrupt;
        self.strange += other.strange;
        self.ended += other.ended;
    }
}

impl std::fmt::Display for Faults {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.none() {
            return write!(out, "nothing lost, doubled, out of order or corrupt");
        }
        let Faults { lost, doubled, disordered, corrupt, strange, ended } = self;
        write!(
            out,
            "FAULTS: {lost} lost, {doubled} doubled, {disordered} out of order, {corrupt} corrupt, {strange} unexpected, {ended} connections ended"
        )
    }
}

/// What one recipient has of one sender. Numbers start at 0.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stream {
    /// The number behind the highest that was seen.
    next: u64,
    /// Bit `n`: whether number `next - 1 - n` was seen.
    window: u64,
    /// Different numbers that were seen.
    arrived: u64,
}

impl Stream {
    /// Notes a number; whether it came for the first time.
    pub fn note(&mut self, number: u64, faults: &mut Faults) -> bool {
        if number >= self.next {
            let ahead = number - self.next + 1;
            self.window = if ahead < 64 { self.window << ahead | 1 } else { 1 };
            self.next = number + 1;
            self.arrived += 1;
            return true;
        }
        let back = self.next - 1 - number;
        let first = if back < 64 {
            let bit = 1 << back;
            let unseen = self.window & bit == 0;
            self.window |= bit;
            unseen
        } else {
            // Too long ago for the bits. It is new only if one from so long ago is still missing.
            let within = self.next.min(64) as u32 - self.window.count_ones();
            self.next - self.arrived > u64::from(within)
        };
        if first {
            self.arrived += 1;
            faults.disordered += 1;
        } else {
            faults.doubled += 1;
        }
        first
    }

    /// Different numbers that came.
    pub fn arrived(&self) -> u64 {
        self.arrived
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(numbers: impl IntoIterator<Item = u64>, sent: u64) -> Faults {
        let (mut stream, mut faults) = (Stream::default(), Faults::default());
        for number in numbers {
            stream.note(number, &mut faults);
        }
        faults.lost += sent - stream.arrived();
        faults
    }

    #[test]
    fn all_in_order_is_no_fault() {
        assert!(faults(0..1000, 1000).none());
    }

    #[test]
    fn each_fault_is_found() {
        let found = |lost, doubled, disordered| Faults {
            lost,
            doubled,
            disordered,
            ..Faults::default()
        };
        assert_eq!(faults([0, 2, 3], 4), found(1, 0, 0));
        assert_eq!(faults([0, 1, 2], 4), found(1, 0, 0));
        assert_eq!(faults([1, 2, 3], 4), found(1, 0, 0));
        assert_eq!(faults([0, 1, 1, 2, 3], 4), found(0, 1, 0));
        assert_eq!(faults([0, 1, 3, 2], 4), found(0, 0, 1));
        assert_eq!(faults([1, 0, 0, 3], 4), found(1, 1, 1));
    }

    #[test]
    fn what_came_long_ago_is_told_from_what_is_missing() {
        let found = faults((0..200).chain([3]), 200);
        assert_eq!((found.doubled, found.disordered, found.lost), (1, 0, 0));
        let found = faults((0..200).filter(|number| *number != 3).chain([3, 3]), 200);
        assert_eq!((found.doubled, found.disordered, found.lost), (1, 1, 0));
        assert_eq!(faults([0, 100, 200], 201).lost, 198);
    }
}
