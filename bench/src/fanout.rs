//! `fanout`: some members of a group speak to all of it, each as soon as everybody has what it said before.

use yardstick::layout::Request;

use crate::check::Stream;
use crate::content::Content;
use crate::run::{Meter, Outcome, PATIENCE_NS, Span};
use crate::subject::Subject;
use crate::swarm::{self, Swarm};

/// The load.
#[derive(Clone, Copy, Debug)]
pub struct Fanout {
    /// Members of the group.
    pub members: usize,
    /// Those of them who speak.
    pub senders: usize,
    /// Bytes of content.
    pub size: usize,
    /// Messages that each sender has under way; one is over when every member has it.
    pub window: usize,
}

impl Fanout {
    pub fn run(&self, subject: &Subject, span: Span) -> Outcome {
        let content = Content::new(self.size);
        let mut clients = swarm::log_in(subject.address(), 0, self.members);
        for client in &mut clients {
            client.say(Request::Join(0));
            client.hear_system();
        }
        let mut swarm = Swarm::new(clients);
        let mut streams = vec![Stream::default(); self.members * self.senders];
        let mut hints = vec![0; self.members];
        // Members who are still to get a message, by sender and place in its window.
        let mut missing = vec![self.members - 1; self.senders * self.window];
        for sender in 0..self.senders {
            swarm.prepare(sender, Request::SendGroup(0), &content);
        }
        let mut meter = Meter::new(subject.pid(), &swarm, span);
        let began = swarm.now();
        for sender in 0..self.senders {
            for _ in 0..self.window {
                swarm.post(sender, began);
            }
        }
        let mut ended = None;
        loop {
            let now = swarm.now();
            let goes_on = meter.goes_on(now);
            if !goes_on {
                let ended = *ended.get_or_insert(now);
                if now > ended + PATIENCE_NS || self.lost(&swarm, &streams) == 0 {
                    break;
                }
            }
            swarm.flush();
            let mut at = 0;
            swarm.turn(10, |swarm, number, message| {
                if at == 0 {
                    at = swarm.now();
                }
                let said = content.read(message, &mut hints[number]);
                let Some(said) = said.filter(|said| said.sender < self.senders) else {
                    meter.faults.corrupt += 1;
                    return;
                };
                let stream = &mut streams[number * self.senders + said.sender];
                stream.take(said.number, &mut meter.faults);
                meter.arrived(at, said.time);
                let place = said.sender * self.window + said.number as usize % self.window;
                missing[place] = missing[place].saturating_sub(1);
                if missing[place] == 0 {
                    missing[place] = self.members - 1;
                    if goes_on {
                        swarm.post(said.sender, at);
                    }
                }
            });
        }
        meter.faults.lost = self.lost(&swarm, &streams);
        swarm.clients.into_iter().for_each(swarm::Client::cut);
        meter.outcome()
    }

    fn lost(&self, swarm: &Swarm, streams: &[Stream]) -> u64 {
        let all = streams.iter().enumerate().map(|(at, stream)| {
            let (member, sender) = (at / self.senders, at % self.senders);
            if member == sender {
                0
            } else {
                stream.lost(swarm.posted(sender))
            }
        });
        all.sum()
    }
}
