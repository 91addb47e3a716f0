//! Lines of the TCP port: any bytes, cut anywhere, give the lines that a plain split at `\n` gives,
//! and nothing kept passes the limit.
#![no_main]

use fuzz::Case;
use libfuzzer_sys::fuzz_target;
use protocol::line::{self, Event};

/// The lines seen, and whether it ended with one that was too long.
fn seen<'a>(chunks: impl Iterator<Item = &'a [u8]>, max: usize) -> (Vec<Vec<u8>>, bool) {
    let mut kept = Vec::new();
    let mut lines = Vec::new();
    for chunk in chunks {
        let mut rest = chunk;
        loop {
            let (consumed, event) = line::next(rest, kept.len(), max);
            match event {
                Event::NeedMore => {
                    assert_eq!(consumed, rest.len());
                    break;
                }
                Event::Line(line) => {
                    assert!(kept.is_empty() && line.len() <= max);
                    lines.push(line.to_vec());
                }
                Event::Piece { bytes, end } => {
                    kept.extend_from_slice(bytes);
                    assert!(kept.len() <= max);
                    if end {
                        lines.push(line::trim(&kept).to_vec());
                        kept.clear();
                    }
                }
                Event::TooLong => return (lines, true),
            }
            assert!(consumed > 0);
            rest = &rest[consumed..];
        }
    }
    (lines, false)
}

/// The same by another way, knowing all the bytes.
fn expected(bytes: &[u8], max: usize) -> (Vec<Vec<u8>>, bool) {
    let mut lines = Vec::new();
    let mut parts = bytes.split(|byte| *byte == b'\n').peekable();
    while let Some(part) = parts.next() {
        let returns = part.iter().take_while(|byte| **byte == b'\r').count();
        let line = &part[returns..];
        if line.len() > max {
            return (lines, true);
        }
        if parts.peek().is_some() && !line.is_empty() {
            lines.push(line::trim(line).to_vec());
        }
    }
    (lines, false)
}

fuzz_target!(|data: &[u8]| {
    let Some(case) = Case::read(data) else { return };
    let max = case.message_bytes_max % 64;
    let expected = expected(case.bytes, max);
    assert_eq!(seen([case.bytes].into_iter(), max), expected);
    assert_eq!(seen(case.chunks(), max), expected);
    assert_eq!(seen(case.bytes.chunks(1), max), expected);
});
