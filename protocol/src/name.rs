//! What a user, a group, a device or a device model may be called: 1 to 64 bytes of UTF-8 without
//! control characters, and nothing else is asked of it.

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
}

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadName::Empty => f.write_str("is empty"),
            BadName::TooLong { bytes } => {
                write!(f, "is {bytes} bytes long, at most {BYTES_MAX} are allowed")
            }
            BadName::ControlCharacter => f.write_str("contains a control character"),
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
