//! What members write to each other: a text that says by itself who wrote it to whom, the how-manieth it is, and whether it is whole.

use std::fmt;

use crate::random::Random;

/// Whom a letter is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum To {
    /// One other member.
    Member(usize),
    /// Everyone else in that circle's group.
    Circle(usize),
}

/// What stands at the head of a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Who wrote it.
    pub from: usize,
    /// For whom.
    pub to: To,
    /// The how-manieth from him to them, from 0.
    pub number: u32,
}

impl fmt::Display for To {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            To::Member(member) => write!(f, "m{member}"),
            To::Circle(circle) => write!(f, "c{circle}"),
        }
    }
}

impl Letter {
    /// The text, `filler` random characters long behind its head.
    pub fn text(&self, filler: usize, random: &mut Random) -> String {
        // What JSON writes otherwise, and what UTF-8 writes in more than one byte.
        const ODD: [char; 6] = ['"', '\\', '\n', 'ß', '€', '🦀'];
        let filler: String = (0..filler)
            .map(|_| match random.bits() % 32 {
                odd @ 26.. => ODD[odd as usize - 26],
                letter => char::from(b'a' + letter as u8),
            })
            .collect();
        let head = format!("{} {} {}", self.from, self.to, self.number);
        format!("{head} {:016x} {filler}", sum(&head, &filler))
    }

    /// Reads a text back, or says what is wrong with it.
    pub fn read(text: &str) -> Result<Letter, String> {
        let parts: Vec<&str> = text.splitn(5, ' ').collect();
        let [from, to, number, said, filler] = parts[..] else {
            return Err(format!("no letter: {text:?}"));
        };
        let head = &text[..from.len() + to.len() + number.len() + 2];
        if said != format!("{:016x}", sum(head, filler)) {
            return Err(format!("a corrupt letter: {text:?}"));
        }
        let letter = || {
            let to = match to.split_at_checked(1)? {
                ("m", member) => To::Member(member.parse().ok()?),
                ("c", circle) => To::Circle(circle.parse().ok()?),
                _ => return None,
            };
            Some(Letter {
                from: from.parse().ok()?,
                to,
                number: number.parse().ok()?,
            })
        };
        letter().ok_or_else(|| format!("no letter's head: {head:?}"))
    }
}

/// FNV-1a over both.
fn sum(head: &str, filler: &str) -> u64 {
    let bytes = head.bytes().chain(filler.bytes());
    bytes.fold(0xCBF2_9CE4_8422_2325, |sum, byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_is_read_back_and_a_changed_one_is_not() {
        let letter = Letter {
            from: 3,
            to: To::Circle(12),
            number: 70_000,
        };
        let text = letter.text(200, &mut Random::new(1));
        assert_eq!(Letter::read(&text), Ok(letter));
        for (place, changed) in [(0, "4"), (2, "m"), (text.len(), "x")] {
            let mut other = text.clone();
            other.replace_range(place..(place + 1).min(text.len()), changed);
            assert!(Letter::read(&other).is_err(), "{other:?}");
        }
    }
}
