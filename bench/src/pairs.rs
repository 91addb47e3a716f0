//! `pairs`: private messages between two, each answered by the next; or at a rate, whether they are answered or not.

use yardstick::layout::Request;

use crate::check::Stream;
use crate::content::Content;
use crate::run::{Meter, Outcome, PATIENCE_NS, Span};
use crate::subject::Subject;
use crate::swarm::{self, Swarm};

/// The load.
#[derive(Clone, Copy, Debug)]
pub struct Pairs {
    /// Connections, an even number.
    pub connections: usize,
    /// Bytes of content.
    pub size: usize,
    /// Messages that each has under way.
    pub window: usize,
    /// Messages a second of all together, instead of answering; their latency counts from the time at which each should have been
    /// sent.
    pub rate: Option<u64>,
    pub partners: Partners,
}

/// Who talks to whom. With two workers, every second connection is on each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partners {
    /// 0 to 1, 2 to 3: across two workers.
    Neighbours,
    /// 0 to 2, 1 to 3: within each of two workers. The connections are a multiple of four.
    NextButOne,
    /// Of each eight, the first four as neighbours and the others not: half of all across. The connections are a multiple of eight.
    Both,
}

impl Partners {
    fn of(self, number: usize) -> usize {
        match self {
            Partners::Neighbours => number ^ 1,
            Partners::NextButOne => number ^ 2,
            Partners::Both if number & 4 == 0 => number ^ 1,
            Partners::Both => number ^ 2,
        }
    }
}

impl Pairs {
    pub fn run(&self, subject: &Subject, span: Span) -> Outcome {
        let content = Content::new(self.size);
        let mut swarm = Swarm::new(swarm::log_in(subject.address(), 0, self.connections));
        let mut streams = vec![Stream::default(); self.connections];
        let mut hints = vec![0; self.connections];
        for number in 0..self.connections {
            swarm.prepare(number, Request::SendTo(self.partners.of(number)), &content);
        }
        let mut meter = Meter::new(subject.pid(), &swarm, span);
        let began = swarm.now();
        if self.rate.is_none() {
            for number in 0..self.connections {
                for _ in 0..self.window {
                    swarm.post(number, began);
                }
            }
        }
        let mut posted = 0_u64;
        let mut ended = None;
        let mut outstanding = true;
        while outstanding {
            let now = swarm.now();
            let goes_on = meter.goes_on(now);
            if !goes_on {
                let ended = *ended.get_or_insert(now);
                outstanding = now < ended + PATIENCE_NS && self.outstanding(&swarm, &streams);
            }
            if let Some(rate) = self.rate.filter(|_| goes_on) {
                let due = |posted: u64| {
                    began + (posted as u128 * 1_000_000_000 / u128::from(rate)) as u64
                };
                while due(posted) <= now {
                    swarm.post(posted as usize % self.connections, due(posted));
                    posted += 1;
                }
            }
            swarm.flush();
            // At a rate the clock decides, and sleep would be late.
            let most_ms = if self.rate.is_some() && goes_on {
                0
            } else {
                10
            };
            let mut at = 0;
            swarm.turn(most_ms, |swarm, number, message| {
                // One look at the clock for all that came together.
                if at == 0 {
                    at = swarm.now();
                }
                let Some(said) = content.read(message, &mut hints[number]) else {
                    meter.faults.corrupt += 1;
                    return;
                };
                if said.sender != self.partners.of(number) {
                    meter.faults.corrupt += 1;
                    return;
                }
                streams[number].take(said.number, &mut meter.faults);
                meter.arrived(at, said.time);
                if self.rate.is_none() && goes_on {
                    swarm.post(number, at);
                }
            });
        }
        for (number, stream) in streams.iter().enumerate() {
            meter.faults.lost += stream.lost(swarm.posted(self.partners.of(number)));
        }
        swarm.clients.into_iter().for_each(swarm::Client::cut);
        meter.outcome()
    }

    fn outstanding(&self, swarm: &Swarm, streams: &[Stream]) -> bool {
        let mut streams = streams.iter().enumerate();
        streams.any(|(number, stream)| stream.lost(swarm.posted(self.partners.of(number))) > 0)
    }
}
