//! The turns of the link: hear, look, take in, send out, report, sleep.

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use bus::Bus;
use config::Config;
use directory::{Directory, Event};
use role::{Channel, Start, ToMaster, ToRole, logging};
use shm_table::{Counter, HandsSettings, Identity, ProcessId, Table};
use tokio::runtime::Builder;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tracing::info;

use crate::clock::Clock;
use crate::elsewhere::Elsewhere;
use crate::error::Error;
use crate::letters::Letters;
use crate::link::Link;
use crate::mail::Routing;
use crate::peers::Peers;
use crate::presence::Presence;
use crate::wake::Wake;
use crate::who::Questions;

/// The longest sleep: the heartbeat in the table must move at least this often, and the report is written as often.
const TICK: Duration = Duration::from_millis(100);

/// How long the link waits where somebody else has to have a turn first.
const NAP: Duration = Duration::from_millis(1);

/// Room in a frame for everything around one largest parcel: acknowledgements of all that may be under way, and section heads.
const FRAME_HEAD_BYTES: usize = 32 * 1024;

/// The directory's events that are taken in before the rest of a turn.
const BATCH: usize = 256;

/// How long frames of other hosts are taken in before the rest of a turn.
const SLICE: Duration = Duration::from_millis(2);

/// How long letters may take to be settled when the server ends, before the rest of `limits.drain_timeout_ms` goes to the directory.
const LAST_LETTERS: Duration = Duration::from_secs(1);

/// Works until the master asks it to end or to leave. To be called on the main thread of a process that [`role::start`] has
/// prepared.
///
/// # Errors
/// See [`Error`]; the process should end then.
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
    let runtime = Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(Error::system("start the runtime"))?;
    runtime.block_on(serve(&table, me, channel, settings, &doorbells))
}

async fn serve(
    table: &Table,
    me: ProcessId,
    channel: Rc<Channel>,
    settings: Config,
    doorbells: &[OwnedFd],
) -> Result<(), Error> {
    let doorbell = doorbells
        .get(usize::from(me.slot))
        .ok_or_else(|| io::Error::other("the master sent none"))
        .and_then(OwnedFd::try_clone)
        .map_err(Error::system("use the doorbell"))?;
    let wake =
        Wake::new(Rc::clone(&channel), doorbell).map_err(Error::system("watch its descriptors"))?;
    channel.send(&ToMaster::Ready)?;
    channel.await_begin()?;

    let limits = HandsSettings {
        outbox_bytes: settings.limits.outbox_bytes,
    };
    let pause = Rc::clone(&channel);
    let mut hands = table.hands(me, limits, Box::new(move || pause.pause_point()));
    let life = hands.open_mailbox();
    let boot = format!("{:016x}", hands.boot());
    let (directory, mut events) =
        Directory::start(directory_settings(&settings, &boot)).map_err(Error::Settings)?;
    let hosts = directory.hosts();
    let bus = Bus::start(
        bus::Settings {
            kind: settings.cluster.bus,
            cluster: settings.cluster.clone(),
            node: settings.server.node.clone(),
            boot: boot.clone(),
            life,
        },
        hosts.clone(),
    )
    .map_err(Error::Settings)?;
    let mut link = Link {
        table,
        now_ms: table.now_ms(),
        node: Rc::from(settings.server.node.as_str()),
        boot,
        directory,
        hosts,
        directory_up: false,
        bus,
        clock: Clock::of(table.clock_marks()),
        presence: Presence::default(),
        elsewhere: Elsewhere::default(),
        letters: Letters::default(),
        routing: Routing::new(hands.mail_in_order()),
        questions: Questions::default(),
        peers: Peers::new(hands.boot(), life),
        tasks: JoinSet::new(),
        congestion: None,
        crowded: false,
        parcel_bytes_max: bus::FRAME_BYTES_MAX - FRAME_HEAD_BYTES,
        scratch: Vec::new(),
        read: Vec::new(),
        recipients: Vec::new(),
        answers: Vec::new(),
        hands,
        settings,
    };
    link.hands.ready();
    info!("at work");
    link.turns(&channel, doorbells, &wake, &mut events).await
}

fn directory_settings(settings: &config::Config, boot: &str) -> directory::Settings {
    let cluster = &settings.cluster;
    directory::Settings {
        redis: cluster.redis.clone(),
        namespace: cluster.namespace.clone(),
        node: settings.server.node.clone(),
        boot: boot.to_owned(),
        lease: Duration::from_millis(cluster.lease_ms.into()),
        last_seen: Duration::from_millis(cluster.last_seen_ms),
        tls_ca_file: Some(cluster.tls_ca_file.clone()).filter(|p| !p.as_os_str().is_empty()),
        mesh: None,
        clock: shm_table::host_ms,
    }
}

/// How much earlier than the master's patience ends the link gives up.
const END_MARGIN: Duration = Duration::from_millis(250);

/// How long the report of a predecessor stands, while the directory and the bus are being connected to.
const REPORT_GRACE: Duration = Duration::from_secs(1);

/// What the master wants beyond the next turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    GoOn,
    Drain,
    Leave,
}

impl Link<'_> {
    async fn turns(
        &mut self,
        channel: &Channel,
        doorbells: &[OwnedFd],
        wake: &Wake,
        events: &mut UnboundedReceiver<Event>,
    ) -> Result<(), Error> {
        let mut bus_state = self.bus.state();
        let mut readings = self.directory.readings();
        readings.mark_changed();
        let mut mesh = self.bus.mesh_address();
        let began = Instant::now();
        let mut tick = began;
        let mut draining: Option<Instant> = None;
        loop {
            self.now_ms = self.table.now_ms();
            self.hands.heartbeat();
            self.hands.look_at_supply();
            self.hands.count(Counter::Turns, 1);
            // The master may have the process stand still or leave in the next line: nobody may be waiting then to be woken by it. And
            // it stands still as it slept, so that the audit sees who slept although there was something to do.
            ring(self, doorbells);
            let wish = self.hear(channel)?;
            self.hands.awake();
            match wish {
                Wish::GoOn => {}
                Wish::Leave => {
                    self.hands.let_go();
                    channel.send(&ToMaster::Left)?;
                    info!("left");
                    return Ok(());
                }
                Wish::Drain => draining = draining.or(Some(Instant::now())),
            }
            if let Some(since) = draining {
                let late = since.elapsed() > LAST_LETTERS;
                if late || self.letters.is_empty() && !self.hands.has_mail() {
                    return self.end(since).await;
                }
            }
            if tick <= Instant::now() {
                tick = Instant::now() + TICK;
                self.walk_rows();
                self.watch_peers();
                self.tidy_routing();
                self.tidy_questions();
                self.tidy_lanes();
                logging::account(|lost| self.hands.count(Counter::LinesLost, lost));
                let settled = self.directory.state().borrow().is_up() && bus_state.borrow().is_up();
                if settled || began.elapsed() > REPORT_GRACE {
                    self.report();
                }
            }
            if bus_state.has_changed().unwrap_or(false) && bus_state.borrow_and_update().is_up() {
                self.peers.repeat_all();
            }
            if mesh.has_changed().unwrap_or(false) {
                let address = mesh.borrow_and_update().clone();
                if let Some(address) = address {
                    self.directory.set_mesh(address);
                }
            }
            if readings.has_changed().unwrap_or(false) {
                let reading = *readings.borrow_and_update();
                reading.inspect(|&reading| self.follow_clock(reading));
            }
            let more = self.turn(events);
            ring(self, doorbells);

            let idle = !more && self.hands.about_to_sleep();
            let until = self.wakes_at(tick, more);
            tokio::select! {
                biased;
                result = wake.channel() => result.map_err(Error::system("watch the channel"))?,
                // Also taken when nothing is waited for: the runtime looks at its descriptors only when its task gives way.
                () = tokio::task::yield_now(), if !idle => {}
                result = wake.doorbell() => result.map_err(Error::system("watch the doorbell"))?,
                Some(done) = self.tasks.join_next() => {
                    if let Ok(done) = done {
                        self.done(done);
                    }
                }
                Some(event) = events.recv() => self.hear_directory(event),
                incoming = self.bus.receive(), if self.congestion.is_none() && self.peers.takes_frames() => {
                    self.peers.take_frame(incoming);
                }
                _ = bus_state.changed() => bus_state.mark_changed(),
                _ = readings.changed() => readings.mark_changed(),
                () = sleep_until(until) => {}
            }
        }
    }

    /// Does all that there is to do now. True: there is more.
    fn turn(&mut self, events: &mut UnboundedReceiver<Event>) -> bool {
        self.crowded = false;
        if self
            .congestion
            .is_some_and(|congestion| self.hands.is_relieved(congestion))
        {
            self.congestion = None;
        }
        let mut more = self.tell_more() | self.tell_changes();
        for _ in 0..BATCH {
            let Ok(event) = events.try_recv() else { break };
            self.hear_directory(event);
        }
        while let Some(Ok(done)) = self.tasks.try_join_next() {
            self.done(done);
        }
        more |= self.receive_frames();
        more |= self.take_mail();
        more |= self.route();
        more |= self.ask_questions();
        self.settle_late();
        self.flush();
        more
    }

    /// Takes in what other hosts have sent, one host's after another's, for a slice of time. True: there is more.
    fn receive_frames(&mut self) -> bool {
        let began = Instant::now();
        while self.congestion.is_none() {
            while self.peers.takes_frames()
                && let Some(incoming) = self.bus.try_receive()
            {
                self.peers.take_frame(incoming);
            }
            let Some(incoming) = self.peers.next_frame() else {
                return false;
            };
            self.receive(&incoming.from, incoming.payload);
            if began.elapsed() > SLICE {
                return true;
            }
        }
        false
    }

    /// When the next turn is due although nothing happens.
    fn wakes_at(&self, tick: Instant, more: bool) -> Instant {
        if more {
            return Instant::now();
        }
        let crowded = self.crowded && self.bus.state().borrow().is_up();
        if crowded || self.congestion.is_some() {
            return tick.min(Instant::now() + NAP);
        }
        let next = self.peers.next_ms().map(|at_ms| {
            Instant::now() + Duration::from_millis(at_ms.saturating_sub(self.now_ms).max(1))
        });
        next.map_or(tick, |next| next.min(tick))
    }

    /// Does everything the master has asked for since the last time. Only between turns: the master may stop the process in here to
    /// repair the table.
    fn hear(&mut self, channel: &Channel) -> Result<Wish, Error> {
        let mut wish = Wish::GoOn;
        while let Some(received) = channel.receive()? {
            match received.message {
                ToRole::Settings(settings) => {
                    logging::set_level(settings.server.log_level);
                    self.hands.set_settings(HandsSettings {
                        outbox_bytes: settings.limits.outbox_bytes,
                    });
                    self.settings = *settings;
                }
                ToRole::Drain => wish = Wish::Drain,
                ToRole::Leave => return Ok(Wish::Leave),
                ToRole::ReopenLog => received.descriptors.iter().for_each(logging::take_over),
                // Served inside `receive`, or long past.
                ToRole::Pause | ToRole::Resume | ToRole::Hello(_) | ToRole::Begin => {}
                ToRole::Seats(_) => {
                    tracing::warn!("the master sent what a link has no use for");
                }
            }
        }
        Ok(wish)
    }

    /// The server ends: this host is not one of the cluster any more.
    async fn end(&mut self, since: Instant) -> Result<(), Error> {
        const AWAY: &str =
            "the directory is away: other hosts will clear it when the lease is over";
        if !self.directory.state().borrow().is_up() {
            tracing::warn!("{AWAY}");
            return Ok(());
        }
        let bound = Duration::from_millis(self.settings.limits.drain_timeout_ms.into());
        let within = bound
            .saturating_sub(since.elapsed() + END_MARGIN)
            .max(END_MARGIN);
        let leave = self.directory.leave(within);
        tokio::pin!(leave);
        loop {
            tokio::select! {
                result = &mut leave => {
                    match result {
                        Ok(()) => info!("out of the directory"),
                        Err(_) => tracing::warn!("{AWAY}"),
                    }
                    return Ok(());
                }
                () = tokio::time::sleep(TICK) => self.hands.heartbeat(),
            }
        }
    }
}

/// Wakes the workers for whom this turn made something ready.
fn ring(link: &mut Link<'_>, doorbells: &[OwnedFd]) {
    let mut slots = link.hands.doorbells_to_ring();
    while slots != 0 {
        let slot = slots.trailing_zeros() as usize;
        slots &= slots - 1;
        if let Some(doorbell) = doorbells.get(slot) {
            role::ring(doorbell);
        }
    }
}
