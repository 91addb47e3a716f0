//! Writing into room of a fixed length: for messages whose place is ready before their length is known.

use std::io::{self, ErrorKind, Write};

/// A writer that fails where its room ends. Pieces are short, so that they are copied here and not by a call.
pub(super) struct Short<'r> {
    room: &'r mut [u8],
    at: usize,
}

impl<'r> Short<'r> {
    pub fn new(room: &'r mut [u8]) -> Self {
        Short { room, at: 0 }
    }

    /// Bytes written.
    pub fn written(&self) -> usize {
        self.at
    }
}

impl Write for Short<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let rest = self.room.get_mut(self.at..).unwrap_or_default();
        let to = rest.get_mut(..bytes.len()).ok_or(ErrorKind::WriteZero)?;
        copy(bytes, to);
        self.at += bytes.len();
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A writer of messages.
pub(super) trait Sink: Write {
    /// Writes a piece.
    #[inline]
    fn put_piece<const N: usize>(&mut self, piece: &Piece<N>) -> io::Result<()> {
        self.write_all(piece.bytes())
    }

    /// Writes a piece of any length.
    #[inline]
    fn put_long<const N: usize>(&mut self, long: &LongPiece<N>) -> io::Result<()> {
        self.put_piece(&long.start)?;
        match long.rest.is_empty() {
            true => Ok(()),
            false => self.write_all(&long.rest),
        }
    }

    /// Writes a number in decimal digits.
    #[inline]
    fn put_number(&mut self, number: u32) -> io::Result<()> {
        self.write_all(itoa::Buffer::new().format(number).as_bytes())
    }
}

impl Sink for Vec<u8> {}

impl Sink for Short<'_> {
    #[inline]
    fn put_piece<const N: usize>(&mut self, piece: &Piece<N>) -> io::Result<()> {
        let room = self.room.get_mut(self.at..).unwrap_or_default();
        match room.first_chunk_mut() {
            Some(room) => {
                *room = piece.bytes;
                self.at += piece.len;
                Ok(())
            }
            None => self.write_all(piece.bytes()),
        }
    }

    #[inline]
    fn put_number(&mut self, number: u32) -> io::Result<()> {
        let room = self.room.get_mut(self.at..).unwrap_or_default();
        match (digits(number), room.first_chunk_mut()) {
            (Some((digits, len)), Some(room)) => {
                *room = digits;
                self.at += len;
                Ok(())
            }
            _ => self.write_all(itoa::Buffer::new().format(number).as_bytes()),
        }
    }
}

/// The decimal digits of a number of at most eight, from the first on, and how many there are. In one register: what is stored byte by
/// byte and then loaded as a whole makes the processor wait.
#[inline]
fn digits(number: u32) -> Option<([u8; 8], usize)> {
    if number >= 100_000_000 {
        return None;
    }
    let number = u64::from(number);
    // Two numbers of four digits, then four of two, then eight of one, the first lowest; divisions are multiplications by the
    // inverse, exact in the range.
    let fours = (number / 10_000) | ((number % 10_000) << 32);
    let hundreds = ((fours * 10_486) >> 20) & 0x0000_007f_0000_007f;
    let twos = hundreds | ((fours - 100 * hundreds) << 16);
    let tens = ((twos * 103) >> 10) & 0x000f_000f_000f_000f;
    let ones = tens | ((twos - 10 * tens) << 8);
    // The last digit stays, be it 0.
    let zeros = ones.trailing_zeros().min(63) / 8;
    let text = (ones | 0x3030_3030_3030_3030) >> (8 * zeros);
    Some((text.to_le_bytes(), 8 - zeros as usize))
}

/// Up to `N` bytes with room behind them: copied as a whole, by a length that is known beforehand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Piece<N> {
    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl<const N: usize> Default for Piece<N> {
    fn default() -> Self {
        Piece {
            bytes: [0; N],
            len: 0,
        }
    }
}

impl<const N: usize> Write for Piece<N> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    /// All of it, or an error.
    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut short = Short {
            room: &mut self.bytes,
            at: self.len,
        };
        short.write_all(bytes)?;
        self.len = short.at;
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A piece of any length: what has no room in it stands behind it.
#[derive(Debug, Default)]
pub(super) struct LongPiece<const N: usize> {
    start: Piece<N>,
    rest: Vec<u8>,
}

impl<const N: usize> Write for LongPiece<N> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.rest.is_empty() || self.start.write_all(bytes).is_err() {
            self.rest.extend_from_slice(bytes);
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Copies to what is as long: both ends, which overlap, of a size that the length is not more than twice of.
#[inline]
fn copy(from: &[u8], to: &mut [u8]) {
    debug_assert_eq!(from.len(), to.len());
    if from.len() <= 16 {
        _ = ends::<8>(from, to)
            || ends::<4>(from, to)
            || ends::<2>(from, to)
            || ends::<1>(from, to);
    } else if from.len() <= 128 {
        _ = from.len() > 64 && ends::<64>(from, to)
            || from.len() > 32 && ends::<32>(from, to)
            || ends::<16>(from, to);
    } else {
        to.copy_from_slice(from);
    }
}

/// Copies the first and the last `N` bytes; false if there are not so many.
#[inline]
fn ends<const N: usize>(from: &[u8], to: &mut [u8]) -> bool {
    let (Some(first), Some(last)) = (from.first_chunk::<N>(), from.last_chunk::<N>()) else {
        return false;
    };
    if let Some(to) = to.first_chunk_mut() {
        *to = *first;
    }
    if let Some(to) = to.last_chunk_mut() {
        *to = *last;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::{LongPiece, Short, Sink, digits};
    use std::io::Write;

    #[test]
    fn numbers_are_written_as_people_do() {
        let around = (0..=9)
            .map(|zeros| 10u32.pow(zeros))
            .flat_map(|n| [n - 1, n, n + 1]);
        let all = (0..20_000)
            .chain((0..u32::MAX).step_by(7_919))
            .chain(around)
            .chain([u32::MAX]);
        for number in all {
            let text = number.to_string();
            if let Some((digits, len)) = digits(number) {
                assert_eq!(digits[..len], *text.as_bytes());
            }
            assert_eq!(digits(number).is_some(), text.len() <= 8);
            for more in [0, 8] {
                let mut room = [0; 20];
                let mut short = Short::new(&mut room[..text.len() + more]);
                short.put_number(number).unwrap();
                assert_eq!(short.written(), text.len());
                assert_eq!(&room[..text.len()], text.as_bytes());
            }
        }
    }

    #[test]
    fn pieces_come_out_whole_wherever_they_go() {
        for len in 0..40 {
            let text: Vec<u8> = (0..len).collect();
            let mut piece = LongPiece::<16>::default();
            for part in text.chunks(7) {
                piece.write_all(part).unwrap();
            }
            let mut all = b"ab".to_vec();
            all.put_long(&piece).unwrap();
            assert_eq!(all, [b"ab", &text[..]].concat());
            for more in [0, 1, 30] {
                let mut room = vec![0; all.len() + more];
                let mut short = Short::new(&mut room);
                short.write_all(b"ab").unwrap();
                short.put_long(&piece).unwrap();
                assert_eq!(short.written(), all.len());
                assert_eq!(room[..all.len()], all);
            }
            if len > 0 {
                let mut room = vec![0; all.len() - 1];
                let mut short = Short::new(&mut room);
                short.write_all(b"ab").unwrap();
                assert!(short.put_long(&piece).is_err());
            }
        }
    }

    #[test]
    fn pieces_of_every_length_up_to_the_end_of_the_room() {
        let text: Vec<u8> = (0..=255).cycle().take(300).collect();
        for len in 0..=text.len() {
            let mut room = vec![0; len + 3];
            let mut short = Short::new(&mut room);
            short.write_all(b"ab").unwrap();
            short.write_all(&text[..len]).unwrap();
            assert_eq!(short.written(), len + 2);
            assert!(short.write_all(b"cd").is_err(), "{len}");
            assert_eq!(short.written(), len + 2);
            short.write_all(b"e").unwrap();
            assert!(short.write_all(b"f").is_err());
            let expected = [b"ab", &text[..len], b"e"].concat();
            assert_eq!(room, expected, "{len}");
        }
    }
}
