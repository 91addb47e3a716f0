//! A process's hands: its right to write the segment, and the few things it keeps in reach while it does.
//!
//! Nothing in here is needed to go on after the process's death: magazines, lists and walks are caches.

mod cluster;
mod fanout;
mod locking;
mod mail;
mod output;
mod pong;
mod presence;
mod receive;
pub(crate) mod room;
mod send;
mod session;
mod shares;
mod turn;
mod windows;

use std::net::SocketAddr;

use crate::control::{Control, Counter};
use crate::gathered::Gathered;
use crate::handle::{Link, ProcessId, RowHandle};
use crate::pool::Magazine;
use crate::ready::Walk;
use crate::row::{ORDER_BITS, Order, Orders, Row, RowWord, State, Transport};
use crate::session_id::SessionId;
use crate::shares::Supply;
use crate::table::Table;
use crate::text::Name;
use crate::two_copies::Stream;
use crate::view::{Expiry, View, unix_ms};

pub use cluster::Elsewhere;
pub use fanout::{FannedOut, PreparedFanout, Step};
pub use mail::{Mail, NotTaken};
pub use output::Output;
pub use presence::{GroupUsers, UserEntry};
pub use room::Congestion;
pub use send::{Envelope, Message, SHORT_BYTES_MAX, Urgency};
pub use session::{
    GroupLimits, JoinRefused, Joined, LeaveRefused, LoggedIn, Login, LoginRefused, SameUser,
};
pub use windows::Found;

/// Limits that hands enforce; all may change while they work.
#[derive(Clone, Copy, Debug)]
pub struct HandsSettings {
    /// Bytes that the messages in one session's outbox may occupy, in whole blocks.
    pub outbox_bytes: u64,
}

/// The arena, or the outbox entries, are at their limit, or the outbox of a session that nobody serves at the moment. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the arena is full")]
pub struct Full;

/// The handle's row is in another life, or belongs to another process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the row belongs to another connection or another process")]
pub struct Stale;

/// What a row was that [`Hands::claim`] has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// A new connection's.
    New,
    /// That of a connection which a predecessor served.
    Adopted,
}

/// A process's hands. One per process; a stale or foreign handle is answered, never followed.
pub struct Hands<'t> {
    view: View<'t>,
    me: ProcessId,
    /// The one of this process's slot.
    control: &'t Control,
    settings: HandsSettings,
    /// What one session may hold as far as is known ([`Hands::look_at_supply`]), and what that follows from.
    share: u64,
    supply: Supply,
    is_tight: bool,
    /// Free blocks and entries when that was looked at.
    free_seen: [u32; 2],
    pause_point: Box<dyn FnMut() + 't>,
    blocks: Magazine,
    nodes: Magazine,
    /// Blocks cut off a receive buffer whose new length is not committed yet.
    cut_off: Vec<u32>,
    /// A receive buffer was cut, and that is not committed yet.
    cut: bool,
    /// See `take_congestion`.
    congested: Option<Congestion>,
    /// Scratch of `compose`.
    composed: Vec<u8>,
    /// Scratch of `write_output`: entries, and the bytes of several messages.
    written: Vec<u32>,
    gathered: Gathered,
    /// The user whose sessions were asked for last in the present read. An entry keeps its name for its whole life, and lives only as long
    /// as it is found; that a recovery may end it otherwise is why this does not last.
    asked_for: Option<(Name, Link)>,
    walk: Walk,
    /// The link's mailbox, in the link's hands.
    mail: mail::Open,
    /// Where the fan-outs stand that this process works on.
    fanouts: fanout::Place,
    /// Slots for which something became ready, as bits.
    touched: u64,
    /// Where the search for a forgettable user goes on.
    forget_at: u32,
    /// Who holds how many groups and memberships, while they are short.
    census: Option<shares::Census>,
}

impl Table {
    /// This process's hands. `pause_point` is called while the process waits for an index lock and the master
    /// wants the segment still; it returns when the master says so.
    pub fn hands<'t>(
        &'t self,
        me: ProcessId,
        settings: HandsSettings,
        pause_point: Box<dyn FnMut() + 't>,
    ) -> Hands<'t> {
        let supply = self.view().supply();
        Hands {
            view: self.view(),
            me,
            control: &self.view().controls[usize::from(me.slot)],
            share: supply.share(settings.outbox_bytes),
            supply,
            is_tight: supply.is_tight(),
            free_seen: [u32::MAX; 2],
            settings,
            pause_point,
            blocks: Magazine::of(self.view().arena.pool()),
            nodes: Magazine::of(self.view().node_pool()),
            cut_off: Vec::new(),
            cut: false,
            congested: None,
            composed: Vec::new(),
            written: Vec::new(),
            gathered: Gathered::default(),
            asked_for: None,
            walk: Walk::default(),
            mail: mail::Open::default(),
            fanouts: fanout::Place::default(),
            touched: 0,
            forget_at: 0,
            census: None,
        }
    }
}

impl<'t> Hands<'t> {
    /// Takes over changed limits.
    pub fn set_settings(&mut self, settings: HandsSettings) {
        self.settings = settings;
        self.share = self.supply.share(settings.outbox_bytes);
    }

    /// Takes a row into this process's care: one that was seated for this slot, which enters `state`, or one that a
    /// predecessor in this slot has left, or that was handed over to this slot, in whatever state that is. [`Stale`] for every other row.
    pub fn claim(&mut self, handle: RowHandle, state: State, fd: i32) -> Result<Claimed, Stale> {
        let row = self.view.row(handle).ok_or(Stale)?;
        let word = row.check(handle).ok_or(Stale)?;
        let inherited = word.owner.slot == self.me.slot && !self.view.lives(word.owner);
        let claimed = match word.state {
            State::Seated if word.owner == self.me || inherited => Claimed::New,
            State::Free | State::Seated | State::Done => return Err(Stale),
            _ if inherited => Claimed::Adopted,
            _ => return Err(Stale),
        };
        let mine = RowWord {
            owner: self.me,
            state: match claimed {
                Claimed::New => state,
                Claimed::Adopted => word.state,
            },
            ..word
        };
        row.word
            .exchange(word.pack(), mine.pack())
            .map_err(|_| Stale)?;
        row.fd.put(fd as u32);
        let counter = match claimed {
            Claimed::New => Counter::Seats,
            Claimed::Adopted => Counter::Adopted,
        };
        self.count(counter, 1);
        Ok(claimed)
    }

    /// The row's word, if the handle is good and the row is this process's.
    #[inline]
    fn mine(&self, handle: RowHandle) -> Option<(&'t Row, RowWord)> {
        let row = self.view.row(handle)?;
        let word = row.word.get();
        let is_mine = word >> 8 == u64::from(handle.generation) << 24 | u64::from(self.me.bits());
        let word = RowWord::of(word);
        // A row that is done is the master's.
        (is_mine && !matches!(word.state, State::Free | State::Done)).then_some((row, word))
    }

    /// State of a row, whoever owns it; `None`: the handle is stale.
    pub fn state(&self, handle: RowHandle) -> Option<State> {
        Some(self.view.row(handle)?.check(handle)?.state)
    }

    /// The handle of a row that is this process's now.
    #[inline]
    pub fn own_handle(&self, row: u32) -> Option<RowHandle> {
        let word = self.view.rows.get(row as usize)?.state();
        let mine = word.owner == self.me && !matches!(word.state, State::Free | State::Done);
        mine.then_some(RowHandle {
            row,
            generation: word.generation,
        })
    }

    /// What is to be known of an own connection before it is worked on: its handle, its transport, its state, and where its byte
    /// streams stand.
    #[inline]
    pub fn open(&self, row: u32) -> Option<(RowHandle, Transport, State, Stream)> {
        let contents = self.view.rows.get(row as usize)?;
        let word = contents.state();
        let mine = word.owner == self.me && !matches!(word.state, State::Free | State::Done);
        mine.then(|| {
            let handle = RowHandle {
                row,
                generation: word.generation,
            };
            let stream = contents.stream.read_own();
            (handle, contents.transport(), word.state, stream)
        })
    }

    /// Handles of every row that is this process's.
    pub fn own_rows(&self) -> impl Iterator<Item = RowHandle> + '_ {
        (0..self.view.rows.len() as u32).filter_map(|row| self.own_handle(row))
    }

    /// Changes the state of an own row. Whoever is logged in leaves the indexes when that ends.
    pub fn set_state(&mut self, handle: RowHandle, state: State) {
        let Some((row, word)) = self.mine(handle) else {
            return;
        };
        // The state first: readers of the indexes skip the row from here on.
        row.word.set(RowWord { state, ..word }.pack());
        if word.state == State::LoggedIn && state != State::LoggedIn {
            self.depart(handle);
            self.mark_changed(handle.row);
        }
    }

    /// How the client is connected; `None`: stale.
    pub fn transport(&self, handle: RowHandle) -> Option<Transport> {
        let row = self.view.row(handle)?;
        row.check(handle).map(|_| row.transport())
    }

    /// The client's address; `None`: stale.
    pub fn peer(&self, handle: RowHandle) -> Option<SocketAddr> {
        let row = self.view.row(handle)?;
        row.check(handle).map(|_| row.peer())
    }

    /// Notes whose connection an own row really is, as a proxy has said. Whoever reads it in this moment may see a part of either address.
    pub fn set_peer(&self, handle: RowHandle, peer: SocketAddr) {
        if let Some((row, _)) = self.mine(handle) {
            row.put_peer(row.transport(), peer);
        }
    }

    /// Where an own connection's byte streams stand, as last committed.
    pub fn stream(&self, handle: RowHandle) -> Option<Stream> {
        self.mine(handle).map(|(row, _)| row.stream.read_own())
    }

    /// Commits where an own connection's byte streams stand.
    #[inline(always)]
    pub fn commit(&mut self, handle: RowHandle, stream: &Stream) {
        if let Some((row, _)) = self.mine(handle) {
            row.stream.write(stream);
        }
        if self.cut {
            self.keep_cut_off();
        }
    }

    /// Takes back what was cut off receive buffers: only now does no committed record refer to it.
    #[cold]
    #[inline(never)]
    fn keep_cut_off(&mut self) {
        self.cut = false;
        while let Some(block) = self.cut_off.pop() {
            self.keep_block(block);
        }
    }

    /// Sets an own row's deadline, in table milliseconds; 0 = none.
    #[inline]
    pub fn set_deadline(&self, handle: RowHandle, at_ms: u64) {
        if self.mine(handle).is_some() {
            self.view.set_deadline(handle.row, at_ms);
        }
    }

    /// When an own row's deadline is, in table milliseconds (up to 16 late); 0 = none.
    pub fn deadline(&self, handle: RowHandle) -> u64 {
        self.mine(handle)
            .map_or(0, |_| self.view.deadline(handle.row, self.view.now_ms()))
    }

    /// Notes that the client was seen, in Unix milliseconds, and its next deadline, in table milliseconds, where that moves.
    #[inline]
    pub fn touch(&self, handle: RowHandle, unix_ms: u64, deadline: Option<u64>) {
        if let Some((row, _)) = self.mine(handle) {
            if row.last_seen.peek() != unix_ms {
                row.last_seen.put(unix_ms);
            }
            if let Some(at_ms) = deadline {
                self.view.set_deadline(handle.row, at_ms);
            }
        }
    }

    /// Gives back all that is in hand, so that another process can take this one's place without a recovery. Nothing may
    /// be done with the table afterwards.
    ///
    /// What [`Self::doorbells_to_ring`] has to say is for the caller to ask before.
    pub fn let_go(&mut self) {
        self.end_turn();
        while let Some(block) = self.cut_off.pop() {
            self.keep_block(block);
        }
        self.blocks.empty(self.view.arena.pool());
        self.nodes.empty(self.view.node_pool());
        self.publish_in_hand();
        // Input of a connection that this process was to take over, and has not, is its successor's.
        if self.interrupted().is_none() {
            self.reading_done();
        }
    }

    /// Text id of the session that is in the handle's row now, unique over all hosts and restarts. For an own row that is the handle's; for
    /// another's whoever asks looks afterwards whether the handle is stale.
    #[inline]
    pub fn session_id(&self, handle: RowHandle) -> SessionId {
        let serial = self.view.row(handle).map_or(0, |row| row.serial.peek());
        SessionId::new(self.view.header.boot.peek(), serial)
    }

    /// The name of a row's user; `None`: stale, or nobody is logged in.
    pub fn user_name(&self, handle: RowHandle) -> Option<Name> {
        self.identity(handle, |row| row.user_name.read())
    }

    /// The device id of a row's session; empty if the client gave none.
    pub fn device_id(&self, handle: RowHandle) -> Option<Name> {
        self.identity(handle, |row| row.device_id.read())
    }

    /// The device model of a row's session; empty if the client gave none.
    pub fn device_model(&self, handle: RowHandle) -> Option<Name> {
        self.identity(handle, |row| row.device_model.read())
    }

    #[inline]
    fn identity(&self, handle: RowHandle, read: impl FnOnce(&Row) -> Name) -> Option<Name> {
        let row = self.view.row(handle)?;
        row.check(handle)
            .filter(|word| word.state == State::LoggedIn)?;
        let name = read(row);
        crate::word::load_fence();
        row.check(handle).map(|_| name)
    }

    /// Gives any row an order; its owner will see it.
    pub fn order(&mut self, handle: RowHandle, order: Order) {
        if let Some(slot) = self.view.add_order(handle, order) {
            self.touched |= 1 << slot;
        }
    }

    /// The orders of an own row. They stay until they are [obeyed](Self::obeyed): a successor finds those that this
    /// process did not get to.
    pub fn orders(&self, handle: RowHandle) -> Orders {
        self.mine(handle)
            .map_or_else(Orders::default, |(row, _)| Orders(row.orders.get() as u32))
    }

    /// Takes away orders that were carried out. Where any came since, all stay, and the row is marked for them: the same order again
    /// may be about something that has happened since.
    pub fn obeyed(&self, handle: RowHandle, orders: Orders) {
        let Some(row) = self.view.row(handle) else {
            return;
        };
        // A row that is in another life by now has orders of its own.
        let seen = u64::from(handle.generation) << 32 | u64::from(orders.0);
        let _ = row.orders.exchange(seen, seen & !ORDER_BITS);
    }

    /// For the timer: orders [`Order::DEADLINE`] on each row past its deadline, once.
    pub fn expire_deadlines(&mut self, now_ms: u64) -> Expiry {
        let (expiry, slots) = self.view.expire_deadlines(now_ms);
        self.touched |= slots;
        expiry
    }

    /// Publishes how much is in hand, for the statistics.
    #[inline]
    fn publish_in_hand(&self) {
        let control = self.control;
        control.blocks_in_hand.put(self.blocks.len() as u32);
        control.nodes_in_hand.put(self.nodes.len() as u32);
    }

    fn keep_block(&mut self, block: u32) {
        self.blocks.push(self.view.arena.pool(), self.me, block);
        self.publish_in_hand();
    }

    /// Ends an own row: out of every index, its blocks and outbox given back, no deadline, state `Done`. The
    /// caller then tells the master.
    ///
    /// The caller has committed the row's stream if it changed its receive buffer since: what counts here is the
    /// committed record.
    pub fn finish(&mut self, handle: RowHandle) {
        let Some((row, word)) = self.mine(handle) else {
            return;
        };
        self.set_state(handle, State::Closing);
        let mut stream: Stream = row.stream.read_own();
        self.close_outbox(handle, &mut stream);
        self.receive_truncate(&mut stream, 0);
        self.commit(handle, &stream);
        row.last_seen.put(unix_ms());
        row.word.set(
            RowWord {
                state: State::Done,
                ..word
            }
            .pack(),
        );
        // Last: should this process die before, its successor finds a connection that ends in time.
        self.view.set_deadline(handle.row, 0);
    }
}
