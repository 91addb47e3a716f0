//! The decoder: what a connection's incoming frames are, in 16 bytes of state that live in the
//! connection's row, so that any worker can go on where another stopped.

use bytemuck::{Pod, Zeroable};
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::header::{self, Incoming};
use super::{Event, Kind, mask};
use crate::code::{CloseCode, may_be_received};

/// Everything that must be known between two reads. All bytes zero is a connection's start. Plain
/// data of any bit pattern: `bytemuck::cast` it to and from the `[u8; 16]` of the row.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Decoder {
    /// Payload bytes of the present data frame that have not come yet.
    frame_left: u32,
    /// Payload bytes handed out as pieces of the present message.
    assembled: u32,
    /// The mask of the present data frame, turned so that the next byte meets its first.
    mask: [u8; 4],
    flags: u8,
    zero: [u8; 3],
}

const _: () = assert!(size_of::<Decoder>() == 16);

/// A data message has begun and is not complete.
const IN_MESSAGE: u8 = 1;
/// It is binary; otherwise text.
const BINARY: u8 = 2;
/// A data frame has begun, and not all of its payload came.
const IN_FRAME: u8 = 4;
/// That frame is the last of its message.
const FINAL: u8 = 8;
/// A close frame or a violation was handed out: nothing counts any more.
const ENDED: u8 = 16;

impl Decoder {
    /// Takes what stands at the start of `input`, and says how many bytes that used. Call again with
    /// the rest until [`Event::NeedMore`].
    ///
    /// A payload is handed out as an unmasked copy in `unmasked`, whose former content is lost; give
    /// the same vector again for the room it has. `input` stays as it is, so that whoever takes over
    /// after a crash, with the state from before, finds the same in it.
    ///
    /// No message ever grows past `message_bytes_max`: a frame that would make it so is refused at
    /// its header, before its payload is looked at. (Limits of 4 GiB and more count as just below.)
    /// After [`Event::Close`] and [`Event::Violation`] all input is swallowed.
    #[inline]
    pub fn next<'a>(
        &mut self,
        input: &[u8],
        message_bytes_max: usize,
        unmasked: &'a mut Vec<u8>,
    ) -> (usize, Event<'a>) {
        if let Some((end, masked, mask)) = self.whole_text(input, message_bytes_max) {
            let (payload, _) = mask::unmask(masked, mask, unmasked);
            let kind = Kind::Text;
            return (end, Event::Message { kind, payload });
        }
        self.next_of_any_kind(input, message_bytes_max, unmasked)
    }

    #[inline(never)]
    fn next_of_any_kind<'a>(
        &mut self,
        input: &[u8],
        message_bytes_max: usize,
        unmasked: &'a mut Vec<u8>,
    ) -> (usize, Event<'a>) {
        if self.has(ENDED) {
            return (input.len(), Event::NeedMore { left: 0 });
        }
        let mut at = 0;
        loop {
            if self.has(IN_FRAME) {
                return self.payload(input, at, unmasked);
            }
            let incoming = match header::read(&input[at..]) {
                Ok(Some(incoming)) => incoming,
                Ok(None) => {
                    return (
                        at,
                        Event::NeedMore {
                            left: input.len() - at,
                        },
                    );
                }
                Err(sentence) => return (at, self.broken(sentence)),
            };
            if let OpCode::Control(control) = incoming.opcode {
                return self.control(control, &incoming, input, at, unmasked);
            }
            if let Err(violation) = self.data_header(&incoming, message_bytes_max) {
                return (at, violation);
            }
            at += incoming.bytes;
            let whole = input.len() - at >= self.frame_left as usize;
            let alone = incoming.opcode != OpCode::Data(Data::Continue);
            if whole && alone && incoming.is_final {
                return self.message(input, at, unmasked);
            }
            if self.frame_left == 0 && !incoming.is_final {
                // An empty fragment carries nothing to hand out.
                self.set(IN_FRAME, false);
            }
        }
    }

    /// What nearly all input is, between two messages: a text message in one frame that came whole, its length within 16 bits.
    /// Where it ends, its payload, and its mask.
    #[inline]
    fn whole_text<'i>(
        &self,
        input: &'i [u8],
        message_bytes_max: usize,
    ) -> Option<(usize, &'i [u8], [u8; 4])> {
        let (&[0x81, second], rest) = input.split_first_chunk()? else {
            return None;
        };
        let (payload_bytes, rest, header_bytes) = match second {
            0x80..0xfe => (usize::from(second & 0x7f), rest, 6),
            0xfe => {
                let (length, rest) = rest.split_first_chunk()?;
                (usize::from(u16::from_be_bytes(*length)), rest, 8)
            }
            _ => return None,
        };
        let (mask, rest) = rest.split_first_chunk()?;
        let masked = rest.get(..payload_bytes)?;
        let shortest = header_bytes == 6 || payload_bytes > 125;
        let is_allowed = shortest && payload_bytes <= message_bytes_max;
        (is_allowed && *self == Decoder::default()).then_some((
            header_bytes + payload_bytes,
            masked,
            *mask,
        ))
    }

    /// Bytes handed out as pieces of the message that is still incomplete; 0 between messages.
    pub fn assembled(&self) -> u32 {
        self.assembled
    }

    /// A data message has begun and is not complete: not a single byte of it need have come.
    pub fn in_message(&self) -> bool {
        self.has(IN_MESSAGE)
    }

    /// The peer has closed or broken a rule.
    pub fn ended(&self) -> bool {
        self.has(ENDED)
    }

    /// Enters the frame of a header that fits what came before it and the limit.
    fn data_header(
        &mut self,
        incoming: &Incoming,
        message_bytes_max: usize,
    ) -> Result<(), Event<'static>> {
        let continues = incoming.opcode == OpCode::Data(Data::Continue);
        if continues && !self.has(IN_MESSAGE) {
            return Err(self.broken("continuation without a message to continue"));
        }
        if !continues && self.has(IN_MESSAGE) {
            return Err(self.broken("new message inside a fragmented one"));
        }
        let bytes_max = u32::try_from(message_bytes_max).unwrap_or(u32::MAX);
        let room = bytes_max.saturating_sub(self.assembled);
        let Some(frame_left) = u32::try_from(incoming.payload_bytes)
            .ok()
            .filter(|bytes| *bytes <= room)
        else {
            return Err(self.violation(CloseCode::TOO_BIG, CloseCode::TOO_BIG.reason()));
        };
        if !continues {
            self.set(BINARY, incoming.opcode == OpCode::Data(Data::Binary));
        }
        self.set(IN_MESSAGE | IN_FRAME, true);
        self.set(FINAL, incoming.is_final);
        self.frame_left = frame_left;
        self.mask = incoming.mask;
        Ok(())
    }

    /// Hands out the frame just entered as a message of its own.
    fn message<'a>(
        &mut self,
        input: &[u8],
        at: usize,
        payload: &'a mut Vec<u8>,
    ) -> (usize, Event<'a>) {
        let end = at + self.frame_left as usize;
        let (payload, _) = mask::unmask(&input[at..end], self.mask, payload);
        let kind = self.kind();
        *self = Decoder::default();
        (end, Event::Message { kind, payload })
    }

    /// Hands out what there is of the present frame.
    fn payload<'a>(
        &mut self,
        input: &[u8],
        at: usize,
        payload: &'a mut Vec<u8>,
    ) -> (usize, Event<'a>) {
        let came = input.len() - at;
        if came == 0 && self.frame_left > 0 {
            return (at, Event::NeedMore { left: 0 });
        }
        // Not more than `frame_left`, so it fits.
        let bytes = came.min(self.frame_left as usize);
        let (payload, turned) = mask::unmask(&input[at..at + bytes], self.mask, payload);
        self.mask = turned;
        self.frame_left -= bytes as u32;
        // Cannot saturate in a message that kept its limit, but any 16 bytes are a state.
        self.assembled = self.assembled.saturating_add(bytes as u32);
        let mut end = None;
        if self.frame_left == 0 {
            self.set(IN_FRAME, false);
            if self.has(FINAL) {
                end = Some(self.kind());
                *self = Decoder::default();
            }
        }
        (at + bytes, Event::Piece { payload, end })
    }

    /// A control frame is handed out whole or not at all: it is small, and stands by itself even
    /// between the fragments of a message.
    fn control<'a>(
        &mut self,
        control: Control,
        incoming: &Incoming,
        input: &[u8],
        at: usize,
        payload: &'a mut Vec<u8>,
    ) -> (usize, Event<'a>) {
        let from = at + incoming.bytes;
        // The header's check let at most 125 through.
        let end = from + incoming.payload_bytes as usize;
        if input.len() < end {
            return (
                at,
                Event::NeedMore {
                    left: input.len() - at,
                },
            );
        }
        let (payload, _) = mask::unmask(&input[from..end], incoming.mask, payload);
        let event = match control {
            Control::Ping => Event::Ping(payload),
            Control::Pong => Event::Pong(payload),
            Control::Close => self.close(payload),
            Control::Reserved(_) => self.broken("reserved opcode"),
        };
        (end, event)
    }

    fn close<'a>(&mut self, payload: &'a [u8]) -> Event<'a> {
        let (code, reason) = match payload {
            [] => (None, &[][..]),
            [_] => return self.broken("close frame with half a code"),
            [high, low, reason @ ..] => (Some(u16::from_be_bytes([*high, *low])), reason),
        };
        if code.is_some_and(|code| !may_be_received(code)) {
            return self.broken("close code that may not be sent");
        }
        match std::str::from_utf8(reason) {
            Ok(reason) => {
                self.end();
                Event::Close {
                    code: code.map(CloseCode),
                    reason,
                }
            }
            Err(_) => self.violation(CloseCode::INVALID_TEXT, "close reason is not UTF-8"),
        }
    }

    fn broken(&mut self, sentence: &'static str) -> Event<'static> {
        self.violation(CloseCode::PROTOCOL_ERROR, sentence)
    }

    fn violation(&mut self, code: CloseCode, sentence: &'static str) -> Event<'static> {
        self.end();
        Event::Violation { code, sentence }
    }

    fn end(&mut self) {
        *self = Decoder {
            flags: ENDED,
            ..Decoder::default()
        };
    }

    fn kind(&self) -> Kind {
        if self.has(BINARY) {
            Kind::Binary
        } else {
            Kind::Text
        }
    }

    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    fn set(&mut self, flags: u8, on: bool) {
        self.flags = if on {
            self.flags | flags
        } else {
            self.flags & !flags
        };
    }
}
