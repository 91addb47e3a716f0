//! The channel to the master: what it asks for, and what it is told.

use std::os::fd::OwnedFd;

use role::{Channel, ChannelError, ToMaster, ToRole, logging};
use shm_table::{HandsSettings, ReadWindow};

use crate::rate::Limit;
use crate::work::Work;

impl Work<'_> {
    /// Does everything the master has asked for since the last time. Only between turns: the master
    /// may stop the process in here to repair the table.
    pub fn hear(
        &mut self,
        channel: &Channel,
        doorbells: &[OwnedFd],
        window: &mut ReadWindow<'_>,
    ) -> Result<(), ChannelError> {
        loop {
            // It may stand still in the next line.
            self.hand_on(channel, doorbells)?;
            let received = channel.receive()?;
            self.hands.awake();
            let Some(received) = received else {
                return Ok(());
            };
            match received.message {
                ToRole::Seats(seats) => self.take_seats(seats, received.descriptors, window),
                ToRole::Settings(settings) => {
                    logging::set_level(settings.server.log_level);
                    self.hands.set_settings(HandsSettings {
                        outbox_bytes: settings.limits.outbox_bytes,
                    });
                    self.rate = Limit::of(&settings.limits);
                    self.settings = *settings;
                }
                ToRole::Drain => self.drain(),
                ToRole::Leave => self.leaving = true,
                ToRole::ReopenLog => received.descriptors.iter().for_each(logging::take_over),
                // The first message is long past; pauses are served by the channel itself.
                ToRole::Hello(_) | ToRole::Begin | ToRole::Pause | ToRole::Resume => {}
            }
        }
    }

    /// Tells the master where connections come from, and which are over.
    pub fn report(&mut self, channel: &Channel) -> Result<(), ChannelError> {
        if !self.clients.is_empty() {
            channel.send(&ToMaster::Clients(std::mem::take(&mut self.clients)))?;
        }
        if self.finished.is_empty() {
            return Ok(());
        }
        let report = ToMaster::Finished(std::mem::take(&mut self.finished));
        channel.send(&report)?;
        if let ToMaster::Finished(mut seats) = report {
            seats.clear();
            self.finished = seats;
        }
        Ok(())
    }
}
