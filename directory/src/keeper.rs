//! The task behind a directory: it connects, enters, keeps the lease, writes what changes, and begins again when anything fails.

use std::sync::Arc;
use std::time::Duration;

use redis::Cmd;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{Instant, sleep, sleep_until};

use crate::connection::{Connection, Identity};
use crate::hosts::{Entering, Hosts};
use crate::server::Server;
use crate::shared::Shared;
use crate::verifying::Verifying;
use crate::writing::Written;
use crate::{Condition, Event};

/// Pauses between attempts to connect.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// How often something is read back, which also tells that the connection works.
const VERIFY: Duration = Duration::from_millis(500);

/// What the keeper has in hand.
pub struct Keeper {
    pub shared: Arc<Shared>,
    pub events: UnboundedSender<Event>,
    pub written: Written,
    pub hosts: Hosts,
    pub verifying: Verifying,
    /// Connections that failed, and may have commands on their way. The one in use is among them.
    connections: Vec<Identity>,
}

/// How a stretch of work ended.
enum End {
    /// This host has left.
    Left,
    /// Redis failed, in a sentence.
    Failed(String),
    /// The lease was over, or somebody else has the name.
    Lost,
}

impl From<String> for End {
    fn from(why: String) -> Self {
        End::Failed(why)
    }
}

/// Works for ever, or until the host leaves.
pub async fn keep(shared: Arc<Shared>, server: Server, events: UnboundedSender<Event>) {
    let mut keeper = Keeper {
        shared,
        events,
        written: Written::default(),
        hosts: Hosts::default(),
        verifying: Verifying::default(),
        connections: Vec::new(),
    };
    let mut pause = PAUSE_MIN;
    loop {
        let end = match server.connect(keeper.shared.limit()).await {
            Ok(connection) => {
                let end = keeper.work(&connection).await;
                keeper.shared.use_connection(None);
                end
            }
            Err(why) => End::Failed(why),
        };
        match end {
            End::Left => return,
            End::Failed(why) => {
                if keeper.shared.state.borrow().is_up() {
                    pause = PAUSE_MIN;
                }
                keeper.shared.tell(Condition::Away { why });
                sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
            End::Lost => keeper.shared.tell(Condition::Leveling),
        }
    }
}

impl Keeper {
    /// Works on one connection until it fails.
    async fn work(&mut self, connection: &Connection) -> End {
        match self.work_on(connection).await {
            Ok(end) | Err(end) => end,
        }
    }

    async fn work_on(&mut self, connection: &Connection) -> Result<End, End> {
        self.cut_off_earlier(connection).await?;
        loop {
            match self.enter(connection).await? {
                Entering::Entered => break,
                Entering::NameTaken => {
                    self.shared.tell(Condition::NameTaken);
                    if let Some(done) = self.shared.wanted().leaving.take() {
                        // Nothing here is this host's; what an earlier time in the cluster may have left is cleaned after.
                        let _ = done.send(());
                        return Ok(End::Left);
                    }
                    let pause = sleep(self.shared.settings.lease / 3);
                    tokio::select! {
                        () = pause => {}
                        () = self.shared.wake.notified() => {}
                    }
                }
            }
        }
        self.look_at_hosts(connection).await?;
        self.shared.use_connection(Some(connection.clone()));
        self.shared.tell(Condition::Leveling);
        self.write_everything_again();
        let renewal = self.shared.settings.lease / 3;
        let mut renew_at = Instant::now() + renewal;
        let mut verify_at = Instant::now() + VERIFY;
        let mut stale_done = false;
        loop {
            let renew_now = std::mem::take(&mut self.shared.wanted().renew);
            if renew_now || Instant::now() >= renew_at {
                renew_at = Instant::now() + renewal;
                if !self.renew(connection).await? {
                    return Ok(End::Lost);
                }
                self.look_at_hosts(connection).await?;
            }
            if Instant::now() >= verify_at {
                verify_at = Instant::now() + VERIFY;
                self.measure_clock(connection).await?;
                if self.have_lives_changed(connection).await? {
                    self.look_at_hosts(connection).await?;
                }
                if self.verify_some(connection).await? && self.shared.wanted().complete {
                    self.find_stale(connection).await?;
                }
            }
            if !stale_done && self.shared.wanted().complete {
                self.find_stale(connection).await?;
                stale_done = true;
            }
            if self.write_some(connection).await? {
                continue;
            }
            if stale_done && self.shared.wanted().leaving.is_some() {
                self.depart(connection).await?;
                if let Some(done) = self.shared.wanted().leaving.take() {
                    // Whoever waited may have given up.
                    let _ = done.send(());
                }
                return Ok(End::Left);
            }
            if stale_done && self.shared.wanted().changed.is_empty() {
                self.shared.tell(Condition::Level);
            }
            tokio::select! {
                () = self.shared.wake.notified() => {}
                () = self.shared.doubt.notified() => verify_at = Instant::now(),
                () = sleep_until(renew_at.min(verify_at)) => {}
            }
        }
    }

    /// What earlier connections have on its way would undo what is written on this one.
    async fn cut_off_earlier(&mut self, connection: &Connection) -> Result<(), String> {
        for earlier in &self.connections {
            connection.cut_off(earlier).await;
        }
        let identity = connection.identity().await;
        // Whatever was said to that: Redis answers.
        let lease = self.shared.keys.lease(&self.shared.settings.node);
        connection.one_of(Cmd::exists(lease)).await?;
        self.connections.clear();
        self.connections.extend(identity);
        Ok(())
    }
}
