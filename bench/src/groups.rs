//! `groups`: many groups of the same size, all spoken to in turn. What a message costs should depend on how many get it, and not on how many
//! groups there are, or in how many each session is.

use yardstick::layout::Request;

use crate::check::Stream;
use crate::content::Content;
use crate::run::{Meter, Outcome, PATIENCE_NS, Span};
use crate::subject::Subject;
use crate::swarm::{self, Swarm};

/// Groups that the names of the load have room for.
pub const GROUPS_MAX: usize = 10_000;

/// The load.
#[derive(Clone, Copy, Debug)]
pub struct Groups {
    /// A multiple of `members`.
    pub connections: usize,
    /// A multiple of `connections / members`, so that each session is in as many groups as any other; or 1.
    pub groups: usize,
    /// Of each group.
    pub members: usize,
    /// Bytes of content.
    pub size: usize,
    /// Messages under way. When all have one, the next speaker in turn sends.
    pub at_once: usize,
}

impl Groups {
    /// What cannot be laid out is explained.
    pub fn check(&self) -> Result<(), String> {
        let spread = self.connections / self.members.max(1);
        if self.members < 2 || spread * self.members != self.connections || spread == 0 {
            return Err(
                "the connections are a multiple of the members, who are two at least".into(),
            );
        }
        let even = self.groups == 1 || self.groups.is_multiple_of(spread);
        if !even || self.groups == 0 || self.groups > GROUPS_MAX || self.at_once == 0 {
            return Err(format!(
                "there are 1 or a multiple of {spread} groups, at most {GROUPS_MAX}"
            ));
        }
        Ok(())
    }

    pub fn memberships(&self) -> usize {
        self.groups * self.members
    }

    fn member(&self, group: usize, place: usize) -> usize {
        (group * self.members + place) % self.connections
    }

    /// Who speaks, to which of their groups: every session, each to another group as far as there are as many.
    fn speakers(&self) -> Vec<(usize, usize)> {
        let spread = self.connections / self.members;
        let spoken_to = |session: usize| {
            let first = session / self.members;
            (first + session % self.members * spread) % self.groups.max(spread)
        };
        (0..self.connections)
            .map(|session| (session, spoken_to(session)))
            .filter(|(session, _)| self.groups > 1 || *session < self.members)
            .map(|(session, group)| (session, if self.groups == 1 { 0 } else { group }))
            .collect()
    }

    pub fn run(&self, subject: &Subject, span: Span) -> Outcome {
        let content = Content::new(self.size);
        let mut clients = swarm::log_in(subject.address(), 0, self.connections);
        for group in 0..self.groups {
            for place in 0..self.members {
                clients[self.member(group, place)].say(Request::Join(group));
            }
            for place in 0..self.members {
                clients[self.member(group, place)].hear_system();
            }
        }
        let mut swarm = Swarm::new(clients);
        let speakers = self.speakers();
        let mut spoken_to = vec![0; self.connections];
        for &(session, group) in &speakers {
            spoken_to[session] = group;
            swarm.prepare(session, Request::SendGroup(group), &content);
        }
        // By sender and place in its group.
        let mut streams = vec![Stream::default(); self.connections * self.members];
        let mut hints = vec![0; self.connections];
        // Members who are still to get a message, by sender and its last messages.
        let mut missing = vec![self.members - 1; self.connections * self.at_once];
        let mut meter = Meter::new(subject.pid(), &swarm, span);
        let mut turn = 0;
        let mut post = |swarm: &mut Swarm, time: u64| {
            swarm.post(speakers[turn % speakers.len()].0, time);
            turn += 1;
        };
        let began = swarm.now();
        (0..self.at_once).for_each(|_| post(&mut swarm, began));
        let mut ended = None;
        loop {
            let now = swarm.now();
            let goes_on = meter.goes_on(now);
            if !goes_on {
                let ended = *ended.get_or_insert(now);
                if now > ended + PATIENCE_NS || self.lost(&swarm, &streams, &speakers) == 0 {
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
                let Some(said) = said.filter(|said| said.sender < self.connections) else {
                    meter.faults.corrupt += 1;
                    return;
                };
                let first = spoken_to[said.sender] * self.members % self.connections;
                let place = (number + self.connections - first) % self.connections;
                if place >= self.members {
                    meter.faults.corrupt += 1;
                    return;
                }
                let stream = &mut streams[said.sender * self.members + place];
                stream.take(said.number, &mut meter.faults);
                meter.arrived(at, said.time);
                let under_way = said.sender * self.at_once + said.number as usize % self.at_once;
                missing[under_way] = missing[under_way].saturating_sub(1);
                if missing[under_way] == 0 {
                    missing[under_way] = self.members - 1;
                    if goes_on {
                        post(swarm, at);
                    }
                }
            });
        }
        meter.faults.lost = self.lost(&swarm, &streams, &speakers);
        swarm.clients.into_iter().for_each(swarm::Client::cut);
        meter.outcome()
    }

    fn lost(&self, swarm: &Swarm, streams: &[Stream], speakers: &[(usize, usize)]) -> u64 {
        let all = speakers.iter().map(|&(session, group)| {
            let places = (0..self.members).filter(|place| self.member(group, *place) != session);
            places
                .map(|place| streams[session * self.members + place].lost(swarm.posted(session)))
                .sum::<u64>()
        });
        all.sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(connections: usize, groups: usize, members: usize) -> Groups {
        Groups {
            connections,
            groups,
            members,
            size: 64,
            at_once: 4,
        }
    }

    #[test]
    fn whoever_speaks_to_a_group_is_in_it() {
        for (connections, number) in [(10, 1), (400, 1), (400, 40), (400, 400), (400, 4_000)] {
            let load = groups(connections, number, 10);
            load.check().unwrap();
            let speakers = load.speakers();
            assert!(!speakers.is_empty());
            for (session, group) in speakers {
                assert!(group < number, "{load:?}: {session} speaks to {group}");
                let is_in = (0..10).any(|place| load.member(group, place) == session);
                assert!(is_in, "{load:?}: {session} is not in {group}");
            }
        }
        let load = groups(400, 400, 10);
        let spoken: std::collections::BTreeSet<usize> =
            load.speakers().iter().map(|(_, group)| *group).collect();
        assert_eq!(spoken.len(), 400);
        assert!(groups(400, 7, 10).check().is_err());
        assert!(groups(401, 1, 10).check().is_err());
    }
}
