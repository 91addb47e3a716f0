//! What a worker works with: the table through its hands, its sockets, the settings, the time.
//!
//! Every other file adds methods for its own subject.

use std::net::IpAddr;

use config::Config;
use protocol::reply::Speaker;
use protocol::request::Shapes;
use role::Seat;
use shm_table::{Congestion, Hands, Name, RowHandle, Table};

use crate::clock::Clock;
use crate::connection::Connection;
use crate::flows::Flows;
use crate::memory::Memory;
use crate::poller::{Event, Poller};
use crate::queue::FairQueue;
use crate::rate::Limit;
use crate::seats::Seats;
use crate::slice::{Round, Slice};

/// All that is at hand. Of the fields, only `hands` reaches the sessions; the rest is private to
/// this process and may be lost with it.
pub(crate) struct Work<'t> {
    pub table: &'t Table,
    pub hands: Hands<'t>,
    pub settings: Config,
    /// What of the settings each message is judged by.
    pub rate: Limit,
    pub seats: Seats,
    pub poller: Poller,
    /// What happened to sockets and was not looked at yet.
    pub events: Vec<Event>,
    pub clock: Clock,
    /// Connections given back and not yet reported to the master.
    pub finished: Vec<Seat>,
    /// Where connections really come from, as their proxies said, and not yet reported to the master.
    pub clients: Vec<(Seat, IpAddr)>,
    /// How far the present turn is.
    pub slice: Slice,
    /// The round of reading and writing that the turn is in.
    pub round: Round,
    /// Rows that wait to be read: their sockets had more than one read could take, or others were there before.
    pub again: FairQueue,
    /// Rows that wait to be written, where that takes longer than some slices; they are marked in the table as well.
    pub unwritten: FairQueue,
    /// All that was to be written at some time since the last round that counts has been.
    pub wrote_all: bool,
    /// Whose the connections are that wait, or waited.
    pub flows: Flows,
    /// Rows that wait for the turns of other workers, or for memory, before they are read again; with `true`, for one more than those tell of.
    pub congested: Vec<(u32, Congestion, bool)>,
    /// The worker whose turn the oldest fan-out waits for.
    pub fanout_congestion: Option<Congestion>,
    /// The server ends: newcomers are sent away.
    pub draining: bool,
    /// Another process takes this one's place.
    pub leaving: bool,
    /// The input of a connection that is yet to be taken over may lie in the read window: nothing may be read before.
    pub window_in_use: bool,
    pub memory: Memory,
    pub spare: Spare,
}

/// Buffers that are used again and again, each by one function at a time, which takes it and puts
/// it back. Only their capacity lasts.
#[derive(Debug, Default)]
pub(crate) struct Spare {
    /// A message put together from pieces, or kept input on its way to the read window.
    pub bytes: Vec<u8>,
    /// The unmasked payload of a frame.
    pub unmasked: Vec<u8>,
    /// Recipients of a message.
    pub handles: Vec<RowHandle>,
    /// Rows that are ready.
    pub rows: Vec<u32>,
    /// Who said the last message of the present read.
    pub voice: Option<Box<Voice>>,
    /// The texts of clients look like those before.
    pub shapes: Shapes,
}

/// Who sends messages, and how that is said.
#[derive(Debug)]
pub(crate) struct Voice {
    of: Option<RowHandle>,
    pub name: Name,
    pub speaker: Speaker,
}

impl Default for Voice {
    fn default() -> Self {
        Voice {
            of: None,
            name: Name::cut(""),
            speaker: Speaker::default(),
        }
    }
}

/// A buffer that grew past this for one large message is not kept.
pub(crate) const SPARE_BYTES_MAX: usize = 1 << 20;

impl<'t> Work<'t> {
    pub fn new(table: &'t Table, hands: Hands<'t>, settings: Config, poller: Poller) -> Self {
        Work {
            table,
            window_in_use: hands.interrupted().is_some(),
            hands,
            rate: Limit::of(&settings.limits),
            settings,
            seats: Seats::default(),
            poller,
            events: Vec::new(),
            clock: Clock::now(table.now_ms(), &Clock::default()),
            finished: Vec::new(),
            clients: Vec::new(),
            slice: Slice::default(),
            round: Round::default(),
            again: FairQueue::default(),
            unwritten: FairQueue::default(),
            wrote_all: true,
            flows: Flows::default(),
            congested: Vec::new(),
            fanout_congestion: None,
            draining: false,
            leaving: false,
            memory: Memory::default(),
            spare: Spare::default(),
        }
    }

    /// Loads the connection in a row; `None` if the row is not ours (any more).
    pub fn connection(&self, row: u32) -> Option<Connection> {
        self.seats.socket(row)?;
        let (handle, transport, state, stream) = self.hands.open(row)?;
        Some(Connection {
            handle,
            transport,
            state,
            stream,
            gone: false,
            alive: false,
            redo: false,
        })
    }

    /// Publishes where the connection stands.
    #[inline]
    pub fn commit(&mut self, connection: &Connection) {
        if !connection.gone {
            self.hands.commit(connection.handle, &connection.stream);
        }
    }

    /// The client is alive: its heartbeat deadline moves on, and so does "last seen".
    pub fn sign_of_life(&self, connection: &Connection) {
        let deadline = connection
            .heartbeats()
            .then(|| self.clock.after(self.settings.limits.heartbeat_timeout_ms));
        self.hands
            .touch(connection.handle, self.clock.unix_ms, deadline);
    }

    /// Lends the voice of a connection's user; `None`: nobody is logged in.
    #[inline]
    pub fn lend_voice(&mut self, connection: &Connection) -> Option<Box<Voice>> {
        let mut voice = self.spare.voice.take().unwrap_or_default();
        if voice.of != Some(connection.handle) {
            voice.of = None;
            voice.name = self.hands.user_name(connection.handle)?;
            let session = self.hands.session_id(connection.handle);
            voice.speaker = Speaker::new(&session, &voice.name);
            voice.of = Some(connection.handle);
        }
        Some(voice)
    }

    /// Takes the voice back.
    #[inline]
    pub fn return_voice(&mut self, voice: Box<Voice>) {
        self.spare.voice = Some(voice);
    }

    /// Forgets whose voice it was: a later life of a row has another user.
    #[inline]
    pub fn forget_voice(&mut self) {
        if let Some(voice) = &mut self.spare.voice {
            voice.of = None;
        }
    }

    /// Lends the byte buffer, empty.
    pub fn lend_bytes(&mut self) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.spare.bytes);
        bytes.clear();
        bytes
    }

    /// Takes the byte buffer back.
    pub fn return_bytes(&mut self, bytes: Vec<u8>) {
        if bytes.capacity() <= SPARE_BYTES_MAX {
            self.spare.bytes = bytes;
        }
    }

    /// Lends the list of recipients, empty.
    pub fn lend_handles(&mut self) -> Vec<RowHandle> {
        let mut handles = std::mem::take(&mut self.spare.handles);
        handles.clear();
        handles
    }

    /// Takes the list of recipients back.
    pub fn return_handles(&mut self, handles: Vec<RowHandle>) {
        self.spare.handles = handles;
    }
}
