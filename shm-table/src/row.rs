//! A row: one connection, as every process sees it.
//!
//! One word carries generation, owner and state, so claiming a row and naming its owner is one step. Owning
//! the row is the right to write it; what others may write to (outbox, orders) carries the generation too,
//! so that a writer who comes late fails instead of reaching the row's next life.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::handle::{ProcessId, RowHandle};
use crate::text::Text;
use crate::two_copies::{STREAM_WORDS, TwoCopies};
use crate::word::{Word32, Word64};

/// How a client is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// RFC 6455, after an HTTP request.
    WebSocket,
    /// One JSON object a line.
    Tcp,
}

/// The login state of a row, and where the connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Nobody's connection.
    Free = 0,
    /// Given to a worker, who has not taken it yet.
    Seated = 1,
    /// WebSocket: the HTTP request is not complete.
    Handshake = 2,
    /// `open` was sent; nobody is logged in.
    Connected = 3,
    /// A user is logged in.
    LoggedIn = 4,
    /// The close is under way.
    Closing = 5,
    /// The worker is finished; the master frees the row.
    Done = 6,
}

impl State {
    /// Every state, in the order of a connection's life.
    pub const ALL: [State; 7] = [
        State::Free,
        State::Seated,
        State::Handshake,
        State::Connected,
        State::LoggedIn,
        State::Closing,
        State::Done,
    ];

    /// The state of a number; of one that none has, `Free`.
    #[inline]
    fn of(number: u8) -> State {
        match number {
            1 => State::Seated,
            2 => State::Handshake,
            3 => State::Connected,
            4 => State::LoggedIn,
            5 => State::Closing,
            6 => State::Done,
            _ => State::Free,
        }
    }

    /// The name that `status` shows.
    pub fn name(self) -> &'static str {
        match self {
            State::Free => "free",
            State::Seated => "seated",
            State::Handshake => "handshake",
            State::Connected => "connected",
            State::LoggedIn => "logged in",
            State::Closing => "closing",
            State::Done => "done",
        }
    }
}

/// The word of a row: generation (32 bits), owner (24), state (8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowWord {
    pub generation: u32,
    pub owner: ProcessId,
    pub state: State,
}

impl RowWord {
    #[inline]
    pub fn pack(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.owner.bits()) << 8 | self.state as u64
    }

    #[inline]
    pub fn of(word: u64) -> Self {
        RowWord {
            generation: (word >> 32) as u32,
            owner: ProcessId::from_bits((word >> 8) as u32 & 0xff_ffff),
            state: State::of(word as u8),
        }
    }
}

/// What another process wants the owner of a row to do; bits, so that asking twice is asking once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order(pub(crate) u32);

impl Order {
    /// A newer login takes the session's place (4004).
    pub const REPLACED: Order = Order(1);
    /// An administrator's kick (4005).
    pub const KICKED: Order = Order(2);
    /// The outbox limit was passed (4008).
    pub const SLOW: Order = Order(4);
    /// A deadline has passed; which one follows from the row's state.
    pub const DEADLINE: Order = Order(8);
    /// The server ends (1001).
    pub const SHUTDOWN: Order = Order(16);
    /// There are too many connections from the client's address already (1013).
    pub const CROWDED: Order = Order(32);
    /// Something that others have could not be put into the outbox, because for too long no process was there to write it (1013).
    pub const UNSERVED: Order = Order(64);
    /// Memory is short, and it holds the most of it (4008 where its client does not read, 1013 otherwise).
    pub const EVICTED: Order = Order(128);
    /// A fan-out of the session's is over, so the session is read again.
    pub const FANNED_OUT: Order = Order(256);
}

/// The part of a row's `orders` in which each bit is an [`Order`].
pub(crate) const ORDER_BITS: u64 = 0x1ff;

/// Stands between a row's generation and its order bits: how many orders it was given, wrapping. An order that is given again while it is
/// carried out is thereby told from the one that is.
const ORDER_COUNT: u64 = (1 << 32) - 1 - ORDER_BITS;

/// What a row's `orders` are with one order more.
pub(crate) fn ordered(word: u64, order: Order) -> u64 {
    let count = word.wrapping_add(ORDER_BITS + 1) & ORDER_COUNT;
    word & !ORDER_COUNT | count | u64::from(order.0)
}

/// The orders a row had when they were taken, and how many it had been given until then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Orders(pub(crate) u32);

impl Orders {
    /// True if the order is among them.
    pub fn has(self, order: Order) -> bool {
        self.0 & order.0 != 0
    }

    /// True if there is none.
    pub fn is_empty(self) -> bool {
        u64::from(self.0) & ORDER_BITS == 0
    }
}

/// A row of the table. Who writes a field is said beside it.
#[repr(C, align(64))]
#[derive(Debug)]
pub(crate) struct Row {
    /// The packed [`RowWord`]. Master while free or seated, owner from then on.
    pub word: Word64,
    /// Generation (32 bits), how many orders were given (23), [`Order`] bits (9). Anybody.
    pub orders: Word64,
    /// Top of the outbox: generation above, newest node plus one below. Anybody, see [`crate::outbox`].
    pub out_top: Word64,
    /// What was ever put into the outbox by processes other than the owner, in the bytes that it occupies. Anybody but the owner.
    pub queued_by_others: Word64,
    /// The same by the owner, for whom a store does. Owner.
    pub queued_by_owner: Word64,
    /// What of both was dropped, written or not: whole entries. Owner.
    pub sent: Word64,
    /// Unix milliseconds. Owner.
    pub last_seen: Word64,
    /// The worker's descriptor number, for people who debug. Owner.
    pub fd: Word32,
    /// Transport (bit 16) and port (bits 0 to 15). Master; owner where a proxy says whose connection it is.
    pub transport_port: Word32,
    /// Which connection of the segment's life this is, counted from 1: no two have the same, however often the generation wraps. Master.
    pub serial: Word64,
    /// Link to the user entry; 0 = not in the index. Owner, under the user's stripe lock.
    pub user: Word64,
    /// Link to the next session of the user. Whoever has the stripe lock.
    pub user_next: Word64,
    /// Previous session's row plus one; 0 = first. Whoever has the stripe lock.
    pub user_prev: Word32,
    /// First membership (see [`crate::groups`]) plus one. Owner.
    pub memberships: Word32,
    /// Memberships in the list. Owner.
    pub membership_count: Word32,
    /// 1 while the socket takes no more. Owner.
    pub blocked: Word32,
    /// The committed [`crate::Stream`]. Owner.
    pub stream: TwoCopies<STREAM_WORDS>,
    /// Written once, before the state becomes [`State::LoggedIn`]. Owner.
    pub user_name: Text,
    pub device_id: Text,
    pub device_model: Text,
    /// Where the input stood that a dead process was handling, plus one; 0 = nowhere. Owner.
    pub suspect: Word64,
    /// The host's clock ([`crate::host_ms`]) at the login; before the state becomes [`State::LoggedIn`]. Owner.
    pub logged_in_at: Word64,
    /// Unix milliseconds, to be shown. Master.
    pub connected_at: Word64,
    /// Peer address as IPv6 (v4 mapped), in network order. As with `transport_port`.
    pub ip: [Word64; 2],
}

const _: () = assert!(size_of::<Row>() == 512);

impl Row {
    #[inline]
    pub fn state(&self) -> RowWord {
        RowWord::of(self.word.get())
    }

    /// The row's word if the handle is not stale.
    #[inline]
    pub fn check(&self, handle: RowHandle) -> Option<RowWord> {
        let word = self.state();
        (word.generation == handle.generation && word.state != State::Free).then_some(word)
    }

    pub fn transport(&self) -> Transport {
        if self.transport_port.peek() & 1 << 16 != 0 {
            Transport::WebSocket
        } else {
            Transport::Tcp
        }
    }

    pub fn put_peer(&self, transport: Transport, peer: SocketAddr) {
        let bits = u32::from(peer.port()) | u32::from(transport == Transport::WebSocket) << 16;
        self.transport_port.put(bits);
        let ip = match peer.ip() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        let bits = ip.to_bits();
        self.ip[0].put((bits >> 64) as u64);
        self.ip[1].put(bits as u64);
    }

    pub fn peer(&self) -> SocketAddr {
        let bits = u128::from(self.ip[0].peek()) << 64 | u128::from(self.ip[1].peek());
        let ip = Ipv6Addr::from_bits(bits).to_canonical();
        SocketAddr::new(ip, self.transport_port.peek() as u16)
    }

    /// Bytes occupied by all that was ever put into the outbox.
    #[inline]
    pub fn queued(&self) -> u64 {
        self.queued_by_others
            .get()
            .wrapping_add(self.queued_by_owner.peek())
    }

    /// Counts what is about to be put into the outbox, by its owner or by another process, in the bytes that it occupies.
    #[inline]
    pub fn count_queued(&self, bytes: u64, by_owner: bool) {
        match by_owner {
            true => {
                let queued = self.queued_by_owner.peek().wrapping_add(bytes);
                self.queued_by_owner.put(queued);
            }
            false => {
                self.queued_by_others.add(bytes);
            }
        }
    }

    /// Bytes that the messages in the outbox occupy. Momentarily off by a message that is being pushed.
    pub fn pending(&self) -> u64 {
        // A push that fails takes its bytes back, perhaps after the owner has evened the two.
        (self.queued().wrapping_sub(self.sent.peek()) as i64).max(0) as u64
    }
}
