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
        self.write_all(piece.start())?;
        self.write_all(&piece.rest)
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
            }
            None => self.write_all(piece.start())?,
        }
        match piece.rest.is_empty() {
            true => Ok(()),
            false => self.write_all(&piece.rest),
        }
    }
}

/// Bytes with room behind them: as far as they fit into `N` bytes, these are copied as a whole, by a length that is known beforehand.
#[derive(Debug)]
pub(super) struct Piece<const N: usize> {
    bytes: [u8; N],
    len: usize,
    rest: Vec<u8>,
}

impl<const N: usize> Piece<N> {
    fn start(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl<const N: usize> Write for Piece<N> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let end = self.len + bytes.len();
        match self.bytes.get_mut(self.len..end) {
            Some(to) if self.rest.is_empty() => {
                copy(bytes, to);
                self.len = end;
            }
            _ => self.rest.extend_from_slice(bytes),
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<const N: usize> Default for Piece<N> {
    fn default() -> Self {
        Piece {
            bytes: [0; N],
            len: 0,
            rest: Vec::new(),
        }
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
    use super::{Piece, Short, Sink};
    use std::io::Write;

    #[test]
    fn pieces_come_out_whole_wherever_they_go() {
        for len in 0..40 {
            let text: Vec<u8> = (0..len).collect();
            let mut piece = Piece::<16>::default();
            for part in text.chunks(7) {
                piece.write_all(part).unwrap();
            }
            let mut all = b"ab".to_vec();
            all.put_piece(&piece).unwrap();
            assert_eq!(all, [b"ab", &text[..]].concat());
            for more in [0, 1, 30] {
                let mut room = vec![0; all.len() + more];
                let mut short = Short::new(&mut room);
                short.write_all(b"ab").unwrap();
                short.put_piece(&piece).unwrap();
                assert_eq!(short.written(), all.len());
                assert_eq!(room[..all.len()], all);
            }
            if len > 0 {
                let mut room = vec![0; all.len() - 1];
                let mut short = Short::new(&mut room);
                short.write_all(b"ab").unwrap();
                assert!(short.put_piece(&piece).is_err());
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
