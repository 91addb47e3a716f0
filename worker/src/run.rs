//! The turns of a worker: read what is ready, handle it, write what came of it, ring, sleep.
//!
//! A turn has one system call of its own, which waits where there is nothing to do and only looks where there is.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use config::Config;
use role::{Channel, ChannelError, Start, ToMaster, logging};
use shm_table::{Counter, HandsSettings, Identity, ProcessId, ReadWindow, Table};
use tracing::info;

use crate::error::Error;
use crate::poller::{Event, Poller};
use crate::reading::{HEADROOM, READ_BYTES_MAX};
use crate::seats::Hint;
use crate::slice::Round;
use crate::work::Work;

/// Input handled before output is written, within one round. A recipient who keeps up must not pass
/// its outbox limit only because we read from many senders before we write.
const INPUT_BYTES_MAX: usize = 256 * 1024;

/// The same while memory is nearly used up, and orders have to be carried out soon.
const INPUT_BYTES_TIGHT: usize = 32 * 1024;

/// The longest sleep, in milliseconds: the heartbeat in the table must move at least this often.
const TICK_MS: u16 = 250;

/// How long a sender waits, in milliseconds, who fills outboxes faster than they are written.
const NAP_MS: u16 = 1;

/// What a window must hold at least: what is kept of a paused connection, and more.
const WINDOW_BYTES_MIN: usize = 2 * (HEADROOM + READ_BYTES_MAX);

/// Works until the master asks for the end: `Ok` then, and no connection is left. To be called on
/// the main thread of a process that [`role::start`] has prepared.
///
/// # Errors
/// See [`Error`]; the process should end, and the master recovers what it held.
pub fn run(start: Start) -> Result<(), Error> {
    let Start {
        channel,
        slot,
        incarnation,
        segment,
        identity,
        settings,
        doorbells,
    } = start;
    let table = Table::attach(segment, Identity(identity))?;
    let me = ProcessId { slot, incarnation };
    serve(&table, me, channel, settings, &doorbells)
}

fn serve(
    table: &Table,
    me: ProcessId,
    channel: Rc<Channel>,
    settings: Config,
    doorbells: &[OwnedFd],
) -> Result<(), Error> {
    let slot = me.slot;
    let mut window = table
        .read_window(me)
        .filter(|window| window.len() >= WINDOW_BYTES_MIN)
        .ok_or(Error::Window { slot })?;
    let poller = Poller::new().map_err(Error::system("create an epoll instance"))?;
    let doorbell = doorbells
        .get(usize::from(slot))
        .ok_or_else(|| io::Error::other("the master sent none"))
        .map_err(Error::system("use the doorbell"))?;
    poller
        .watch(channel.as_fd(), doorbell.as_fd())
        .map_err(Error::system("watch the worker's descriptors"))?;

    // All that can be prepared is; a predecessor may still be at work in this slot.
    channel.send(&ToMaster::Ready)?;
    channel.await_begin()?;

    // Set where messages may have been put aside by a pause in the middle of a turn.
    let paused = Rc::new(Cell::new(false));
    let pause_point = {
        let (channel, paused) = (Rc::clone(&channel), Rc::clone(&paused));
        Box::new(move || {
            paused.set(true);
            channel.pause_point();
        })
    };
    let limits = HandsSettings {
        outbox_bytes: settings.limits.outbox_bytes,
    };
    let mut work = Work::new(
        table,
        table.hands(me, limits, pause_point),
        settings,
        poller,
    );
    work.hands.ready();
    info!("at work");

    let mut master_speaks = true;
    let mut next_tick_ms = 0;
    loop {
        work.begin_turn();
        if master_speaks || paused.replace(false) {
            work.hear(&channel, doorbells, &mut window)?;
        }
        if work.leaving {
            return work.leave(&channel, doorbells);
        }
        work.look_at_window();
        work.turn(&mut window);
        let now_ms = work.clock.table_ms;
        if now_ms >= next_tick_ms {
            next_tick_ms = now_ms + u64::from(TICK_MS);
            work.enforce_deadlines();
            work.hands.reveal_marks();
            logging::account(|lost| work.hands.count(Counter::LinesLost, lost));
        }
        work.hand_on(&channel, doorbells)?;
        if work.is_drained() {
            work.hands.let_go();
            info!("drained");
            return Ok(());
        }
        let idle = !work.has_more_to_do() && !paused.get() && work.hands.about_to_sleep();
        let most_ms = match idle {
            false => 0,
            true if !work.congested.is_empty() || work.hands.has_fanout() => NAP_MS,
            // Not more than a tick.
            true => (next_tick_ms - now_ms) as u16,
        };
        work.end_turn();
        let woken = work
            .poller
            .wait(most_ms, &mut work.events)
            .map_err(Error::system("use epoll"))?;
        if woken.doorbell {
            role::silence(doorbell);
        }
        master_speaks = woken.channel;
        // Whoever is to stand still does so as it slept: the audit sees then who slept although there was something to do.
        if !master_speaks {
            work.hands.awake();
        }
    }
}

impl Work<'_> {
    /// Tells others what this process has for them: the master what is over, and those who sleep that there is something to do. Nothing of
    /// that may be left in private memory where the process stands still, leaves or sleeps.
    pub fn hand_on(
        &mut self,
        channel: &Channel,
        doorbells: &[OwnedFd],
    ) -> Result<(), ChannelError> {
        let mut slots = self.hands.doorbells_to_ring();
        while slots != 0 {
            let slot = slots.trailing_zeros() as usize;
            slots &= slots - 1;
            if let Some(doorbell) = doorbells.get(slot) {
                role::ring(doorbell);
            }
        }
        self.report(channel)
    }

    /// Another process has been started in this one's place. Between two turns nothing is half done, so all that is left to
    /// do is to say what is over, to wake those who sleep, and to give back what is in hand.
    pub fn leave(&mut self, channel: &Channel, doorbells: &[OwnedFd]) -> Result<(), Error> {
        self.hand_on(channel, doorbells)?;
        self.hands.let_go();
        channel.send(&ToMaster::Left)?;
        info!("left");
        Ok(())
    }

    /// Looks whether the window is still in use for a connection that is yet to be taken over.
    pub fn look_at_window(&mut self) {
        if self.window_in_use {
            self.window_in_use = self.hands.interrupted().is_some();
        }
    }

    /// Reads every socket that is ready, then writes every row that is; or what can be done of that in one turn.
    pub fn turn(&mut self, window: &mut ReadWindow<'_>) {
        if self.window_in_use {
            // Whoever was interrupted comes with the next message of the master; what happened meanwhile waits.
            self.round.writing = true;
            if self.serve_ready() {
                self.round = Round::default();
            }
            return;
        }
        if !self.round.writing {
            if self.round.is_new() {
                if self.round.counts {
                    self.relieve();
                }
                self.round.waiting = self.again.len();
            }
            let is_over = self.take_events(window);
            if self.read_waiting(window, is_over) {
                self.round.writing = true;
                self.round.slices = 0;
                self.fan_out();
            }
        }
        if self.round.writing && self.serve_ready() {
            self.round = Round::default();
        }
    }

    /// Looks at what happened to sockets, as far as the turn's time goes. One that is readable is read at once if nobody waits to be read,
    /// and waits in turn with the others otherwise: whoever always has more keeps nobody from being read. True: the time is over.
    fn take_events(&mut self, window: &mut ReadWindow<'_>) -> bool {
        let mut events = std::mem::take(&mut self.events);
        let (mut done, mut is_over) = (0, false);
        for (at, event) in events.iter().enumerate() {
            done += 1;
            if let Some(next) = events.get(at + 1) {
                self.hands.will_need(next.row);
            }
            self.take_event(event);
            if event.readable {
                if self.again.is_empty() {
                    is_over = self.read_in_turn(window, event.row);
                } else {
                    self.read_in_line(event.row);
                }
            }
            if is_over {
                break;
            }
        }
        events.drain(..done);
        self.events = events;
        is_over
    }

    /// Notes what happened to a socket, but that it is readable.
    fn take_event(&mut self, event: &Event) {
        self.seats.set(event.row, Hint::HungUp, event.hung_up);
        if event.urgent {
            self.seats.set(event.row, Hint::Urgent, true);
        }
        if event.failed {
            self.seats.set(event.row, Hint::Failed, true);
            // Trying to write says what happened.
            self.seats.set(event.row, Hint::Blocked, false);
        }
        if event.writable {
            self.writable(event.row);
        }
    }

    /// Has a row read in this round, when its turn comes.
    fn read_in_line(&mut self, row: u32) {
        let before = self.again.len();
        self.read_again(row);
        self.round.waiting += self.again.len() - before;
    }

    /// Reads those who wait for it, in turn, as many in a round as wait, and as far as the turn's time goes. True: the round's reading is over.
    fn read_waiting(&mut self, window: &mut ReadWindow<'_>, mut is_over: bool) -> bool {
        let mut since_us = match self.round.waiting {
            0 => 0,
            _ => self.elapsed_us(),
        };
        while !is_over
            && self.round.waiting > 0
            && let Some(row) = self.again.pop()
        {
            self.round.waiting -= 1;
            self.read_in_turn(window, row);
            let now_us = self.elapsed_us();
            self.again.charge(now_us.wrapping_sub(since_us));
            since_us = now_us;
            is_over = now_us >= self.slice.most_us || self.has_read_enough();
        }
        let all_is_read = self.round.waiting == 0 && self.events.is_empty();
        if !all_is_read && !self.has_read_enough() && !self.is_phase_over() {
            return false;
        }
        if !self.events.is_empty() {
            self.line_up_events();
        }
        true
    }

    /// Has all whose sockets are readable wait for their turns: the kernel's order is not a fair one, as whoever has many sockets comes often.
    #[cold]
    fn line_up_events(&mut self) {
        let mut events = std::mem::take(&mut self.events);
        for event in events.drain(..) {
            self.take_event(&event);
            if event.readable {
                self.read_again(event.row);
            }
        }
        self.events = events;
    }

    /// Reads from a connection. True: no more is to be read in this turn.
    fn read_in_turn(&mut self, window: &mut ReadWindow<'_>, row: u32) -> bool {
        let bytes = self.read(window, row);
        self.round.read_bytes += bytes.max(1);
        self.is_time_over(1 + bytes as u32 / 1024) || self.has_read_enough()
    }

    fn has_read_enough(&self) -> bool {
        let most = match self.hands.is_memory_tight() {
            true => INPUT_BYTES_TIGHT,
            false => INPUT_BYTES_MAX,
        };
        self.round.read_bytes > most
    }
}
