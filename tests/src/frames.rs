//! WebSocket frames as bytes, right or deliberately wrong.

/// A frame to be built, or one that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Final fragment.
    pub fin: bool,
    /// The three reserved bits, 0 to 7.
    pub reserved: u8,
    /// 0 to 15.
    pub opcode: u8,
    /// What it carries.
    pub payload: Vec<u8>,
    /// The mask of a client's frame.
    pub mask: Option<[u8; 4]>,
    /// How the length is written.
    pub length: Length,
}

/// The three forms of a length; only the shortest that fits is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// The shortest that fits.
    Minimal,
    /// 16 bits.
    Two,
    /// 64 bits.
    Eight,
    /// This number in 64 bits, whatever follows.
    Claimed(u64),
}

/// Opcodes of RFC 6455.
pub const CONTINUATION: u8 = 0;
/// A text message.
pub const TEXT: u8 = 1;
/// A binary message.
pub const BINARY: u8 = 2;
/// Close.
pub const CLOSE: u8 = 8;
/// Ping.
pub const PING: u8 = 9;
/// Pong.
pub const PONG: u8 = 10;

impl Frame {
    /// A whole, masked frame.
    pub fn new(opcode: u8, payload: impl Into<Vec<u8>>) -> Frame {
        Frame {
            fin: true,
            reserved: 0,
            opcode,
            payload: payload.into(),
            mask: Some([0x37, 0xFA, 0x21, 0x3D]),
            length: Length::Minimal,
        }
    }

    /// A text message in one frame.
    pub fn text(text: impl ToString) -> Frame {
        Frame::new(TEXT, text.to_string())
    }

    /// A close frame with a code.
    pub fn close(code: u16, reason: &str) -> Frame {
        Frame::new(CLOSE, [&code.to_be_bytes()[..], reason.as_bytes()].concat())
    }

    /// The same, not final.
    pub fn more(mut self) -> Frame {
        self.fin = false;
        self
    }

    /// The same with reserved bits.
    pub fn reserved(mut self, bits: u8) -> Frame {
        self.reserved = bits;
        self
    }

    /// The same without a mask.
    pub fn unmasked(mut self) -> Frame {
        self.mask = None;
        self
    }

    /// The same with its length in another form.
    pub fn length(mut self, length: Length) -> Frame {
        self.length = length;
        self
    }

    /// The bytes on the wire.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![u8::from(self.fin) << 7 | self.reserved << 4 | self.opcode];
        let masked = u8::from(self.mask.is_some()) << 7;
        let len = self.payload.len();
        match self.length {
            Length::Minimal if len < 126 => bytes.push(masked | len as u8),
            Length::Two | Length::Minimal if len < 65536 => {
                bytes.push(masked | 126);
                bytes.extend((len as u16).to_be_bytes());
            }
            form => {
                bytes.push(masked | 127);
                bytes.extend(
                    if let Length::Claimed(claimed) = form {
                        claimed
                    } else {
                        len as u64
                    }
                    .to_be_bytes(),
                );
            }
        }
        if let Some(mask) = self.mask {
            bytes.extend(mask);
            bytes.extend(
                self.payload
                    .iter()
                    .zip(mask.iter().cycle())
                    .map(|(byte, key)| byte ^ key),
            );
        } else {
            bytes.extend(&self.payload);
        }
        bytes
    }

    /// The frame at the start of `bytes` and its length there; `None` while it is incomplete.
    pub fn parse(bytes: &[u8]) -> Option<(Frame, usize)> {
        let (first, second) = (*bytes.first()?, *bytes.get(1)?);
        let (len, mut at, length) = match second & 127 {
            126 => (
                u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)),
                4,
                Length::Two,
            ),
            127 => (
                u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?),
                10,
                Length::Eight,
            ),
            short => (u64::from(short), 2, Length::Minimal),
        };
        let mask: Option<[u8; 4]> = if second & 128 != 0 {
            Some(bytes.get(at..at + 4)?.try_into().ok()?)
        } else {
            None
        };
        at += if mask.is_some() { 4 } else { 0 };
        let mut payload = bytes.get(at..at + len as usize)?.to_vec();
        if let Some(mask) = mask {
            payload
                .iter_mut()
                .zip(mask.iter().cycle())
                .for_each(|(byte, key)| *byte ^= key);
        }
        let frame = Frame {
            fin: first & 128 != 0,
            reserved: first >> 4 & 7,
            opcode: first & 15,
            payload,
            mask,
            length,
        };
        Some((frame, at + len as usize))
    }

    /// The code of a close frame.
    pub fn close_code(&self) -> Option<u16> {
        Some(u16::from_be_bytes(self.payload.get(..2)?.try_into().ok()?))
    }
}
