//! The turns of a worker: read what is ready, handle it, write what came of it, ring, sleep.

use std::cell::Cell;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use role::{Channel, Start, ToMaster};
use shm_table::{Counter, HandsSettings, ProcessId, ReadWindow, Table};
use tokio::runtime::Builder;
use tracing::info;

use crate::error::Error;
use crate::poller::{Event, Poller};
use crate::reading::{HEADROOM, READ_BYTES_MAX};
use crate::seats::Hint;
use crate::wake::{Wake, Woken};
use crate::work::Work;

/// Input handled before output is written, within one turn. A recipient who keeps up must not pass
/// its outbox limit only because we read from many senders before we write.
const INPUT_BYTES_MAX: usize = 256 * 1024;

/// What a window must hold at least: what is kept of a paused connection, and more.
const WINDOW_BYTES_MIN: usize = 2 * (HEADROOM + READ_BYTES_MAX);

/// Works until the master asks for the end: `Ok` then, and no connection is left. To be called on
/// the main thread of a process that [`role::start`] has prepared.
///
/// # Errors
/// See [`Error`]; the process should end, and the master recovers what it held.
pub fn run(start: Start) -> Result<(), Error> {
    let table = Table::attach(&start.segment)?;
    let runtime = Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(Error::system("start the runtime"))?;
    runtime.block_on(serve(&table, start))
}

async fn serve(table: &Table, start: Start) -> Result<(), Error> {
    let Start {
        channel,
        slot,
        incarnation,
        settings,
        doorbells,
        ..
    } = start;
    let me = ProcessId { slot, incarnation };
    let mut window = table
        .read_window(me)
        .filter(|window| window.len() >= WINDOW_BYTES_MIN)
        .ok_or(Error::Window { slot })?;
    let poller = Rc::new(Poller::new().map_err(Error::system("create an epoll instance"))?);
    let doorbell = doorbells
        .get(usize::from(slot))
        .ok_or_else(|| io::Error::other("the master sent none"))
        .and_then(OwnedFd::try_clone)
        .map_err(Error::system("use the doorbell"))?;
    let mut wake = Wake::new(Rc::clone(&poller), Rc::clone(&channel), doorbell)
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

    let mut events = Vec::new();
    let mut more = false;
    let mut woken = Woken {
        channel: true,
        ..Woken::default()
    };
    loop {
        work.begin_turn();
        if woken.channel || paused.replace(false) {
            work.hear(&channel, &mut window)?;
        }
        if work.leaving {
            return work.leave(&channel);
        }
        work.look_at_window();
        if (woken.sockets || more) && work.window_in_use {
            // Whoever was interrupted comes with the next message of the master.
            more = true;
        } else if woken.sockets || more {
            events.clear();
            more = work
                .poller
                .take(&mut events)
                .map_err(Error::system("use epoll"))?;
        }
        work.turn(&mut window, &mut events);
        if woken.tick {
            work.enforce_deadlines();
        }
        ring(&mut work, &doorbells);
        work.report(&channel)?;
        if work.is_drained() {
            info!("drained");
            return Ok(());
        }
        let reads = (more || !work.again.is_empty()) && !work.window_in_use;
        let busy = reads || paused.get();
        let idle = !busy && work.hands.about_to_sleep();
        let next = if idle && !work.congested.is_empty() {
            wake.nap().await
        } else if idle {
            wake.sleep().await
        } else {
            wake.glance().await
        };
        work.hands.awake();
        woken = next.map_err(Error::system("sleep"))?;
    }
}

/// Wakes the processes that slept while this turn made something ready for them.
fn ring(work: &mut Work<'_>, doorbells: &[OwnedFd]) {
    let mut slots = work.hands.doorbells_to_ring();
    while slots != 0 {
        let slot = slots.trailing_zeros() as usize;
        slots &= slots - 1;
        if let Some(doorbell) = doorbells.get(slot) {
            role::ring(doorbell);
        }
    }
}

impl Work<'_> {
    fn begin_turn(&mut self) {
        self.clock = crate::clock::Clock::now(self.table.now_ms());
        self.hands.heartbeat();
        self.hands.count(Counter::Turns, 1);
    }

    /// Another process has been started in this one's place. Between two turns nothing is half done, so all that is left to
    /// do is to say what is over, and to give back what is in hand.
    fn leave(&mut self, channel: &Channel) -> Result<(), Error> {
        self.report(channel)?;
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

    /// Reads every socket that is ready, then writes every row that is.
    pub fn turn(&mut self, window: &mut ReadWindow<'_>, events: &mut Vec<Event>) {
        if self.window_in_use {
            return self.serve_ready();
        }
        self.relieve();
        let mut input = Input { window, bytes: 0 };
        for row in std::mem::take(&mut self.again) {
            self.seats.set(row, Hint::Again, false);
            input.read(self, row);
        }
        for event in events.drain(..) {
            self.seats.set(event.row, Hint::HungUp, event.hung_up);
            if event.urgent {
                self.seats.set(event.row, Hint::Urgent, true);
            }
            if event.failed {
                self.seats.set(event.row, Hint::Failed, true);
                // Trying to write says what happened.
                self.seats.set(event.row, Hint::Blocked, false);
            }
            if event.readable && !self.seats.has(event.row, Hint::Again) {
                input.read(self, event.row);
            }
            if event.writable {
                self.writable(event.row);
            }
        }
        self.serve_ready();
    }
}

/// The input of a turn, interrupted for output now and then.
struct Input<'w, 't> {
    window: &'w mut ReadWindow<'t>,
    bytes: usize,
}

impl Input<'_, '_> {
    fn read(&mut self, work: &mut Work<'_>, row: u32) {
        self.bytes += work.read(self.window, row);
        if self.bytes > INPUT_BYTES_MAX {
            self.bytes = 0;
            work.serve_ready();
        }
    }
}
