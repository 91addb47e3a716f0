//! Content that is JSON and that some receiver could not read all the same, and with it not the whole message that it stands in.
//!
//! - Numbers: what a double cannot hold is an error to Go and serde_json; Python refuses integers of more than 4300 digits, Jackson numbers of more
//!   than 1000 characters; and whoever computes exactly can be kept busy by an exponent.
//! - Half a surrogate pair in an escape is no character: an error to serde_json, Foundation and PHP.
//! - Depth: .NET reads 64 levels, of which the message itself is one; serde_json 128, PHP 512, Python about 1000.

use crate::scan::plain_len;

/// How deep arrays and objects may nest.
pub const DEPTH_MAX: usize = 63;
/// The longest number, in characters.
pub const NUMBER_BYTES_MAX: usize = 400;
/// The largest exponent, and the largest below zero.
pub const EXPONENT_MAX: u32 = 999;

/// As many digits always make a double.
const DIGITS: usize = 300;
/// Looked at together. A run of so many digits contains a whole one.
const BLOCK: usize = 64;

/// What is wrong with `raw`, which is known to be JSON, as a sentence that begins with the field.
#[inline]
pub(super) fn fault(raw: &str) -> Option<&'static str> {
    if is_plainly_fine(raw.as_bytes()) {
        return None;
    }
    look(raw)
}

/// Whether there is nothing in it that a closer look could object to. A few instructions for every sixteen bytes.
fn is_plainly_fine(bytes: &[u8]) -> bool {
    let Some(behind) = bytes.get(1..) else {
        return true;
    };
    let marks = |(a, b): (&u8, &u8)| {
        let escape = (*a == b'\\') & (*b == b'u');
        let exponent = (a.wrapping_sub(b'0') < 10) & (*b | 0x20 == b'e');
        u8::from(escape | exponent)
    };
    if bytes
        .iter()
        .zip(behind)
        .fold(0, |any, pair| any | marks(pair))
        != 0
    {
        return false;
    }
    if bytes.len() > 2 * DEPTH_MAX {
        let opens = |byte: &u8| usize::from((*byte == b'[') | (*byte == b'{'));
        if bytes.iter().map(opens).sum::<usize>() > DEPTH_MAX {
            return false;
        }
    }
    let is_digits = |block: &[u8; BLOCK]| {
        let other = |byte: &u8| u8::from((byte.wrapping_sub(b'0') > 9) & (*byte != b'.'));
        block.iter().fold(0, |any, byte| any | other(byte)) == 0
    };
    bytes.len() <= DIGITS || !bytes.as_chunks().0.iter().any(is_digits)
}

#[cold]
fn look(raw: &str) -> Option<&'static str> {
    let bytes = raw.as_bytes();
    let (mut at, mut depth) = (0, 0_usize);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => match string_end(bytes, at + 1) {
                Ok(end) => at = end,
                Err(fault) => return Some(fault),
            },
            b'-' | b'0'..=b'9' => {
                let of_number = |b: &&u8| b.is_ascii_digit() || b"+-.eE".contains(b);
                let len = bytes.iter().skip(at).take_while(of_number).count();
                if let Some(fault) = number_fault(raw.get(at..at + len)?) {
                    return Some(fault);
                }
                at += len;
            }
            b'[' | b'{' => {
                depth += 1;
                if depth > DEPTH_MAX {
                    return Some(
                        "is nested more than 63 levels deep, which some programs cannot read",
                    );
                }
                at += 1;
            }
            b']' | b'}' => {
                depth = depth.saturating_sub(1);
                at += 1;
            }
            _ => at += 1,
        }
    }
    None
}

/// Where a string ends whose inside begins at `at`.
fn string_end(bytes: &[u8], mut at: usize) -> Result<usize, &'static str> {
    const HALF: &str =
        "has half of a surrogate pair in an escape (such as \\ud800 alone), which is no character";
    loop {
        at += plain_len(bytes.get(at..).unwrap_or_default());
        match (bytes.get(at), bytes.get(at + 1)) {
            (Some(b'\\'), Some(b'u')) => {
                let length = match unit(bytes, at) {
                    Some(0xd800..=0xdbff) => match unit(bytes, at + 6) {
                        Some(0xdc00..=0xdfff) => 12,
                        _ => return Err(HALF),
                    },
                    Some(0xdc00..=0xdfff) => return Err(HALF),
                    _ => 6,
                };
                at += length;
            }
            (Some(b'\\'), _) => at += 2,
            _ => return Ok(at + 1),
        }
    }
}

/// What an escape `\uXXXX` stands for.
fn unit(bytes: &[u8], at: usize) -> Option<u16> {
    let digits = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

fn number_fault(number: &str) -> Option<&'static str> {
    if number.len() > NUMBER_BYTES_MAX {
        return Some("has a number of more than 400 characters, which some programs cannot read");
    }
    let exponent = number.split(['e', 'E']).nth(1).unwrap_or_default();
    let size = exponent
        .trim_start_matches(['+', '-'])
        .trim_start_matches('0');
    let fits = size.is_empty() || size.parse::<u32>().is_ok_and(|size| size <= EXPONENT_MAX);
    if !fits || !number.parse::<f64>().is_ok_and(f64::is_finite) {
        return Some(
            "has a number that is out of the range of a double, which some programs cannot read",
        );
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_every_program_reads_is_fine() {
        let (digits, open, close) = ("9".repeat(300), "[".repeat(63), "]".repeat(63));
        for raw in [
            "0",
            "-1.5e+3",
            "1e308",
            "1e-999",
            "1E0000000000000000001",
            "\"\\ud83e\\udd80\"",
            "\"\\\\ud800\"",
            "\"1e9999\"",
            "\"3e4f\"",
            "null",
            "{\"\\u0041\":[1e5,{\"e\":\"\\\\\"}]}",
            "\"[[[[\"",
            "",
            "\"\\uD83E\\uDD80\\u0000\"",
            &digits,
            &format!("0.{}1", "0".repeat(390)),
            &format!("{open}{close}"),
            &format!("[{}0]", "[],".repeat(500)),
            &format!("\"{}\"", "1".repeat(5_000)),
            &format!("\"{}\"", "[".repeat(5_000)),
        ] {
            assert_eq!(fault(raw), None, "{raw}");
        }
    }

    #[test]
    fn what_some_program_cannot_read_is_a_fault() {
        let (digits, open, close) = ("9".repeat(401), "[".repeat(64), "]".repeat(64));
        for raw in [
            "1e309",
            "-1e400",
            "1e1000",
            "1e-1000",
            "1E+99999999999999999999",
            "[0,1e999999]",
            "\"\\ud800\"",
            "\"\\udc00\"",
            "\"\\ud800x\"",
            "\"\\ud800\\n\"",
            "\"\\ud800\\ud800\\udc00\"",
            "{\"\\uDFFF\":1}",
            "[\"\\\\\\ud83e\"]",
            &digits,
            &"9".repeat(310),
            &format!("[1,{digits}]"),
            &format!("-{digits}.5"),
            &format!("0.{digits}"),
            &format!("{open}{close}"),
            &format!("[{}[]{}]", "{\"a\":[".repeat(31), "]}".repeat(31)),
        ] {
            assert!(fault(raw).is_some(), "{raw}");
            let spread = format!("{{\"a\": \"{}\", \"b\":{raw}}}", "x".repeat(70));
            assert!(fault(&spread).is_some(), "{spread}");
        }
    }

    fn json() -> impl Strategy<Value = String> {
        let number = "-?(0|[1-9][0-9]{0,9})(\\.[0-9]{1,5})?([eE][+-]?[0-9]{1,4})?";
        let text = "\"([a-z0-9eu ]|\\\\u[dD][89aAcCdDfF][0-9]{2}|\\\\u00[0-9]{2}|\\\\\\\\|\\\\\"|\\\\n){0,9}\"";
        let long = (290..410_usize).prop_map(|len| "7".repeat(len));
        let leaf = prop_oneof![number, text, long, Just("null".to_owned())];
        leaf.prop_recursive(70, 90, 3, |inner| {
            prop_oneof![
                4 => inner.clone().prop_map(|it| format!("[{it}]")),
                1 => proptest::collection::vec(inner.clone(), 0..3).prop_map(|list| format!("[{}]", list.join(","))),
                1 => inner.prop_map(|it| format!("{{\"k\":{it}}}")),
            ]
        })
    }

    proptest! {
        /// serde_json is as strict as programs are, but for depth and tiny numbers.
        #[test]
        fn what_is_accepted_is_read_by_a_strict_parser(raw in json()) {
            prop_assume!(serde_json::from_str::<&serde_json::value::RawValue>(&raw).is_ok());
            prop_assert_eq!(fault(&raw).is_some(), look(&raw).is_some(), "{}", raw);
            let message = format!("{{\"content\":{raw}}}");
            let read = serde_json::from_str::<serde_json::Value>(&message);
            if fault(&raw).is_none() {
                prop_assert!(read.is_ok(), "{}: {:?}", raw, read);
            }
        }
    }
}
