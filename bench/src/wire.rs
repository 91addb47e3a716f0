//! WebSocket frames (RFC 6455, section 5.2) as the load and the floor need them: whole text messages, and no more checks than that.

/// What the header of a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// 0 to 15.
    pub opcode: u8,
    /// Bytes in front of the payload.
    pub header: usize,
    /// Bytes of the payload.
    pub len: usize,
    /// The client's key; zero where there is none.
    pub mask: [u8; 4],
}

impl Frame {
    /// Reads the header at the start of `bytes`; `None` while the frame is incomplete.
    #[inline]
    pub fn read(bytes: &[u8]) -> Option<Frame> {
        let (&[first, second], rest) = bytes.split_first_chunk()?;
        let (len, rest, mut header) = match second & 0x7f {
            126 => {
                let (len, rest) = rest.split_first_chunk()?;
                (usize::from(u16::from_be_bytes(*len)), rest, 4)
            }
            127 => {
                let (len, rest) = rest.split_first_chunk()?;
                (usize::try_from(u64::from_be_bytes(*len)).ok()?, rest, 10)
            }
            len => (usize::from(len), rest, 2),
        };
        let mut mask = [0; 4];
        if second & 0x80 != 0 {
            mask = *rest.first_chunk()?;
            header += 4;
        }
        (bytes.len().checked_sub(header)? >= len).then_some(Frame {
            opcode: first & 15,
            header,
            len,
            mask,
        })
    }

    /// Where the frame's payload lies, behind its header.
    #[inline]
    pub fn payload<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.header..self.header + self.len]
    }
}

/// Appends the header of a server's whole message.
#[inline]
pub fn header(opcode: u8, len: usize, masked: bool, to: &mut Vec<u8>) {
    let mask = u8::from(masked) << 7;
    to.push(0x80 | opcode);
    if len < 126 {
        to.push(mask | len as u8);
    } else if let Ok(len) = u16::try_from(len) {
        to.push(mask | 126);
        to.extend_from_slice(&len.to_be_bytes());
    } else {
        to.push(mask | 127);
        to.extend_from_slice(&(len as u64).to_be_bytes());
    }
}

/// Makes `plain` what `masked` is without its mask, or the other way round.
#[inline]
pub fn unmask(masked: &[u8], mask: [u8; 4], plain: &mut Vec<u8>) {
    plain.resize(masked.len(), 0);
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (to_words, to_rest) = plain.as_chunks_mut::<8>();
    let (words, rest) = masked.as_chunks::<8>();
    for (to, word) in to_words.iter_mut().zip(words) {
        *to = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for ((to, byte), key) in to_rest.iter_mut().zip(rest).zip(mask.iter().cycle()) {
        *to = byte ^ key;
    }
}

/// A client's whole text message.
pub fn text(payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let mut frame = Vec::new();
    header(1, payload.len(), true, &mut frame);
    frame.extend_from_slice(&mask);
    let mut masked = Vec::new();
    unmask(payload, mask, &mut masked);
    frame.extend_from_slice(&masked);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for len in [0, 1, 7, 125, 126, 127, 65_535, 65_536] {
            let payload: Vec<u8> = (0..len).map(|at| at as u8).collect();
            let mask = [1, 2, 3, 4];
            let bytes = text(&payload, mask);
            let frame = Frame::read(&bytes).unwrap();
            assert_eq!((frame.opcode, frame.len, frame.mask), (1, len, mask));
            let mut plain = vec![9; 3];
            unmask(frame.payload(&bytes), mask, &mut plain);
            assert_eq!(plain, payload);
            assert_eq!(Frame::read(&bytes[..bytes.len() - 1]), None);
        }
    }
}
