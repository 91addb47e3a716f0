//! What a user, a group, a device or a device model may be called: 1 to 64 bytes of UTF-8 without
//! control characters. Of users and groups more may be asked, see [`Rule::Safe`].

mod safe;

use std::borrow::Cow;
use std::fmt;

/// The longest name, in bytes of UTF-8.
pub const BYTES_MAX: usize = 64;

/// Why a name is not one. Displays as the rest of a sentence that began with the field's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadName {
    /// It has no bytes.
    Empty,
    /// It has more than [`BYTES_MAX`] bytes.
    TooLong {
        /// How many it has.
        bytes: usize,
    },
    /// It has a character of Unicode's category Cc in it.
    ControlCharacter,
    /// It has a space at an end, or two together.
    Space,
    /// It has a character in it that makes it look like another name, or like none.
    Character {
        /// Which.
        character: char,
        /// Why not, as the rest of a sentence.
        what: &'static str,
    },
}

/// Which names users and groups may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Any of 1 to [`BYTES_MAX`] bytes without control characters.
    Any,
    /// Those in which everything can be seen: without characters that are invisible, unassigned, private or odd spaces, or space at an end.
    /// Whatever way one is written (NFC or not), it is the same name.
    Safe,
}

/// The name that is meant by what came from a client.
///
/// # Errors
/// It is none.
#[inline]
pub fn read(name: Cow<'_, str>, rule: Rule) -> Result<Cow<'_, str>, BadName> {
    match rule {
        Rule::Any => check(&name).map(|()| name),
        Rule::Safe => safe::read(name),
    }
}

/// Whether this certainly is a name, and stays as it is. What is not certain is for [`read`].
#[inline]
pub(crate) fn stays(name: &str, rule: Rule) -> bool {
    match rule {
        Rule::Any => check(name).is_ok(),
        Rule::Safe => safe::is_plain(name) || safe::is_ordinary(name),
    }
}

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadName::Empty => f.write_str("is empty"),
            BadName::TooLong { bytes } => {
                write!(f, "is {bytes} bytes long, at most {BYTES_MAX} are allowed")
            }
            BadName::ControlCharacter => f.write_str("contains a control character"),
            BadName::Space => f.write_str("has a space at an end, or two together"),
            BadName::Character { character, what } => {
                write!(f, "contains U+{:04X}, which {what}", u32::from(*character))
            }
        }
    }
}

impl std::error::Error for BadName {}

/// Checks a name as it came from a client or a configuration.
pub fn check(name: &str) -> Result<(), BadName> {
    if name.is_empty() {
        return Err(BadName::Empty);
    }
    if name.len() > BYTES_MAX {
        return Err(BadName::TooLong { bytes: name.len() });
    }
    let plain = name.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if !plain && name.chars().any(char::is_control) {
        return Err(BadName::ControlCharacter);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_people_use_are_good() {
        for name in [
            "a",
            "Иван",
            "李雷",
            "a b",
            "🦀",
            "x@example.com",
            "\"quoted\"",
        ] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn length_is_counted_in_bytes() {
        assert_eq!(check(""), Err(BadName::Empty));
        assert_eq!(check(&"x".repeat(64)), Ok(()));
        assert_eq!(check(&"x".repeat(65)), Err(BadName::TooLong { bytes: 65 }));
        assert_eq!(check(&"é".repeat(32)), Ok(()));
        assert_eq!(check(&"é".repeat(33)), Err(BadName::TooLong { bytes: 66 }));
    }

    #[test]
    fn control_characters_are_refused() {
        for name in ["a\nb", "\0", "tab\t", "\u{7f}", "\u{85}", "\u{9f}x"] {
            assert_eq!(check(name), Err(BadName::ControlCharacter), "{name:?}");
        }
    }
}
