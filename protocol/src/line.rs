//! Lines of the TCP port: one message each, ended by `\n`, a `\r` before it dropped, cut wherever
//! the network cut them. Nothing longer than the limit is ever handed out.
//!
//! There is no state here: where a line stands between two reads is how much of it the caller keeps.

/// What [`next`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// All of the input is used; read more.
    NeedMore,
    /// A whole line where it lies, without its end.
    Line(&'a [u8]),
    /// Part of a line: append it to what is kept of this line.
    Piece {
        /// The bytes, perhaps none.
        bytes: &'a [u8],
        /// The line is complete with them; [`trim`] the whole, then treat it as a [`Event::Line`].
        end: bool,
    },
    /// The line is longer than allowed. There is no telling where the next one starts: answer and
    /// close.
    TooLong,
}

/// Takes the next line, or what there is of it, from `input`, and says how many bytes that used.
/// Call again with the rest until [`Event::NeedMore`]; nothing is left over then.
///
/// `assembled` is how many bytes of the present line the caller already keeps, 0 at a line's start.
/// `line_bytes_max` counts the line without its `\n` but with a `\r`, so that the limit holds for
/// what is kept even while the end is not in sight.
///
/// Empty lines are passed over: old clients end a message with `\r\n\r\n`.
pub fn next(input: &[u8], assembled: usize, line_bytes_max: usize) -> (usize, Event<'_>) {
    let skipped = if assembled == 0 {
        ends_before(input)
    } else {
        0
    };
    let rest = &input[skipped..];
    if rest.is_empty() {
        return (skipped, Event::NeedMore);
    }
    let room = line_bytes_max.saturating_sub(assembled);
    match memchr::memchr(b'\n', rest) {
        Some(bytes) if bytes > room => (input.len(), Event::TooLong),
        None if rest.len() > room => (input.len(), Event::TooLong),
        Some(bytes) if assembled == 0 => (skipped + bytes + 1, Event::Line(trim(&rest[..bytes]))),
        Some(bytes) => (
            skipped + bytes + 1,
            Event::Piece {
                bytes: &rest[..bytes],
                end: true,
            },
        ),
        None => (
            input.len(),
            Event::Piece {
                bytes: rest,
                end: false,
            },
        ),
    }
}

/// A line without the one `\r` that may stand at its end.
pub fn trim(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// How many bytes of line ends `input` begins with. A `\r` counts even when its `\n` has not come
/// yet; otherwise the cut between the two would turn an empty line into a message.
fn ends_before(input: &[u8]) -> usize {
    input
        .iter()
        .take_while(|byte| matches!(byte, b'\r' | b'\n'))
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Feeds chunks as a worker does; `None` stands for a line that was too long.
    fn lines(chunks: &[&[u8]], max: usize) -> Vec<Option<Vec<u8>>> {
        let mut kept = Vec::new();
        let mut found = Vec::new();
        for chunk in chunks {
            let mut rest = *chunk;
            loop {
                let (consumed, event) = next(rest, kept.len(), max);
                match event {
                    Event::NeedMore => break,
                    Event::Line(line) => found.push(Some(line.to_vec())),
                    Event::Piece { bytes, end } => {
                        kept.extend_from_slice(bytes);
                        assert!(kept.len() <= max);
                        if end {
                            found.push(Some(trim(&kept).to_vec()));
                            kept.clear();
                        }
                    }
                    Event::TooLong => {
                        found.push(None);
                        return found;
                    }
                }
                rest = &rest[consumed..];
            }
        }
        found
    }

    fn found(input: &str, max: usize) -> Vec<Option<String>> {
        let text = |line: Vec<u8>| String::from_utf8(line).unwrap();
        lines(&[input.as_bytes()], max)
            .into_iter()
            .map(|line| line.map(text))
            .collect()
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn lines_end_with_a_line_feed_and_lose_one_return() {
        assert_eq!(
            found("a\nbc\r\nd\r\r\ne", 10),
            [some("a"), some("bc"), some("d\r")]
        );
    }

    #[test]
    fn empty_lines_are_passed_over() {
        assert_eq!(found("\n\r\na\r\n\r\nb\n\n\n", 10), [some("a"), some("b")]);
    }

    #[test]
    fn the_limit_counts_without_the_line_feed() {
        assert_eq!(found("1234\n12345\n", 4), [some("1234"), None]);
        assert_eq!(found("12345", 4), [None]);
        assert_eq!(found("1234\r\n", 4), [None]);
        assert_eq!(found("1234\r\n", 5), [some("1234")]);
    }

    #[test]
    fn a_piece_may_end_with_nothing_more() {
        assert_eq!(
            next(b"\nx", 3, 8),
            (
                1,
                Event::Piece {
                    bytes: b"",
                    end: true
                }
            )
        );
        assert_eq!(next(b"", 3, 8), (0, Event::NeedMore));
        assert_eq!(next(b"\r\n", 0, 8), (2, Event::NeedMore));
    }

    proptest! {
        #[test]
        fn the_cuts_of_the_network_change_nothing(
            input in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), Just(b'x')], 0..60),
            cuts in proptest::collection::vec(0usize..60, 0..8),
            max in 0usize..12,
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut < input.len()).collect();
            cuts.sort_unstable();
            let mut chunks = Vec::new();
            let mut from = 0;
            for cut in cuts {
                chunks.push(&input[from..cut]);
                from = cut;
            }
            chunks.push(&input[from..]);
            prop_assert_eq!(lines(&chunks, max), lines(&[&input], max));
        }
    }
}
