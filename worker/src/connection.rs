//! One connection while it is being worked on: its row's record, in hand.

use bytemuck::{bytes_of, cast};
use protocol::ws::Decoder;
use shm_table::{RowHandle, State, Stream, Transport};

/// Facts about a connection that are kept in its row, in `Stream::flags`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum Flag {
    /// On the path `/echo`: no login, every message goes back.
    Echo = 1,
    /// Not read from, because what it has not read yet is more than half its outbox, because it fills outboxes
    /// faster than they are written, or because there is no memory for more of its incomplete message.
    Paused = shm_table::UNREAD_FLAG,
    /// What is kept of its input may hold whole messages: they come before anything new.
    Behind = 4,
    /// The last thing we have to say is in the outbox.
    Farewell = 8,
    /// The peer's Close frame has come.
    PeerClosed = 16,
    /// No answer to our farewell is awaited: our direction ends once it is written.
    Curt = 32,
    /// Our direction has ended; what still comes is thrown away until the peer ends too.
    Ended = 64,
    /// The first thing we have to say (`open`, or the answer to a handshake) is in the outbox, and what it answers is
    /// accounted for.
    Greeted = 128,
    /// What a proxy may say before everything else is behind us; all that comes is the client's own.
    Begun = 256,
    /// The request comes from a proxy, so that `X-Forwarded-For` counts.
    Forwarded = 512,
    /// Its last message is for many and not with all of them yet; it is not read until then.
    FanningOut = shm_table::FANNING_OUT_FLAG,
}

/// A connection of this worker, loaded from its row. What is changed here is published by
/// `Work::commit`, after each message that was handled.
#[derive(Debug)]
pub(crate) struct Connection {
    /// The row, in this life.
    pub handle: RowHandle,
    /// How the client is connected.
    pub transport: Transport,
    /// As in the row; only the owner changes it, so it cannot change behind our back.
    pub state: State,
    /// Where its byte streams stand.
    pub stream: Stream,
    /// The row was given back; nothing may be done with it any more.
    pub gone: bool,
    /// A sign of life has come since it was loaded.
    pub alive: bool,
    /// Its next message may have been handled in part, by a process that died over it.
    pub redo: bool,
}

impl Connection {
    pub fn has(&self, flag: Flag) -> bool {
        self.stream.flags & flag as u16 != 0
    }

    pub fn set(&mut self, flag: Flag, on: bool) {
        if on {
            self.stream.flags |= flag as u16;
        } else {
            self.stream.flags &= !(flag as u16);
        }
    }

    /// True once the close is under way, or the connection is over.
    pub fn closing(&self) -> bool {
        self.gone || self.state == State::Closing
    }

    /// True where frames are spoken, that is, on a WebSocket after its handshake.
    pub fn is_framed(&self) -> bool {
        self.transport == Transport::WebSocket && self.state != State::Handshake
    }

    /// True if silence is counted against it.
    pub fn heartbeats(&self) -> bool {
        self.state == State::LoggedIn || self.has(Flag::Echo) && self.state == State::Connected
    }

    /// The state of the frame decoder.
    pub fn decoder(&self) -> Decoder {
        cast(self.stream.decoder)
    }

    pub fn set_decoder(&mut self, decoder: &Decoder) {
        self.stream.decoder.copy_from_slice(bytes_of(decoder));
    }

    /// TCP: bytes of the present line in the receive buffer. They share the decoder's place.
    pub fn line_bytes(&self) -> u32 {
        let [a, b, c, d, ..] = self.stream.decoder;
        u32::from_ne_bytes([a, b, c, d])
    }

    pub fn set_line_bytes(&mut self, bytes: u32) {
        self.stream.decoder[..4].copy_from_slice(&bytes.to_ne_bytes());
    }

    /// How much of the receive buffer belongs to the message that is being put together. What lies
    /// behind it is *kept*: input not yet understood, to be read once more with what comes next.
    pub fn assembled(&self) -> u32 {
        let bytes = match (self.state, self.transport) {
            // While closing, messages are no longer put together.
            (State::Closing | State::Handshake, _) => 0,
            (_, Transport::WebSocket) => self.decoder().assembled(),
            (_, Transport::Tcp) => self.line_bytes(),
        };
        bytes.min(self.stream.received_len)
    }

    /// Bytes of input that are kept.
    pub fn kept(&self) -> usize {
        (self.stream.received_len - self.assembled()) as usize
    }
}

const _: () = assert!(size_of::<Decoder>() == 16);
