//! Shares of the table's rows: whoever comes in whatever numbers, who comes next from elsewhere finds a row.
//!
//! Besides `limits.connections_per_ip`, an address has at most as many rows as are still free, and for connections that are not logged in at
//! most half as many; an IPv6 /48 twice, and four times `connections_per_ip`. So one address stops at half the table, and several leave as
//! much as each of them has. Where even so fewer than an eighth of the rows are free, the oldest connections that are not logged in are ended, of the
//! address that has the most of them.
//!
//! Who is logged in is asked of the rows, at most every [`CENSUS`] and only where it matters.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use role::Seat;
use shm_table::{Order, State};

use crate::channels::row_of;
use crate::master::Master;
use crate::network::Network;
use crate::refusals::Reason;

/// How old a look at who is logged in may be.
const CENSUS: Duration = Duration::from_millis(250);

/// Rows that such a look looks at; of more, every second, third and so on.
const LOOKS: usize = 65_536;

/// A connection has so long to log in, however short of rows the table is.
const GRACE: Duration = Duration::from_secs(1);

/// How many times as much a /48 may have as a /64.
const SITE_FACTOR: u32 = 4;
const SITE_SHARE: u32 = 2;

/// How often it is told that an address has too many connections, and that there is no room.
const TOLD_APART: Duration = Duration::from_secs(60);

/// What is remembered between two newcomers.
#[derive(Default)]
pub struct Shares {
    census: Option<Census>,
    evicted_at: Option<Instant>,
    told_at: Option<Instant>,
    refused: u64,
    told_of_room_at: Option<Instant>,
    evicted: u64,
}

/// Who was not logged in, by network.
struct Census {
    at: Instant,
    strangers: HashMap<Network, u32>,
}

/// Where a newcomer stands, before he is counted.
#[derive(Clone, Copy, Debug)]
struct Standing {
    of_network: u32,
    of_site: u32,
    /// Of the network, not logged in.
    strangers: u32,
    free: u32,
}

impl Standing {
    /// Why the newcomer gets no row. `most` is `limits.connections_per_ip`.
    fn refusal(self, most: u32) -> Option<Reason> {
        if self.of_network >= most || self.of_site >= most.saturating_mul(SITE_FACTOR) {
            return Some(Reason::TooManyFromThere);
        }
        let free = self.free.max(1);
        let past = self.of_network >= free || self.of_site >= free.saturating_mul(SITE_SHARE);
        (past || self.strangers >= Self::strangers_most(self.free))
            .then_some(Reason::ShareFromThere)
    }

    /// How many connections of a network need not be logged in.
    fn strangers_most(free: u32) -> u32 {
        (free / 2).max(1)
    }
}

impl Master<'_> {
    /// Why somebody who comes from there gets no row; `None`: he may have one. `seated`: he has it already.
    pub fn row_refusal(&mut self, address: IpAddr, seated: bool) -> Option<Reason> {
        let most = self.config.limits.connections_per_ip;
        // Whoever comes through a proxy is counted once it has said who that is: see `learn_clients`.
        if most == 0 || self.config.server.is_proxy(address) {
            return None;
        }
        let network = Network::of(address);
        let himself = u32::from(seated);
        let crowd = self.vault.crowd();
        let mut standing = Standing {
            of_network: crowd.of_network(network).saturating_sub(himself),
            of_site: crowd.of_site(network).saturating_sub(himself),
            strangers: 0,
            free: self.seats.capacity() - self.seats.seated() + himself,
        };
        let may_be_too_many = standing.of_network >= Standing::strangers_most(standing.free);
        if may_be_too_many && standing.refusal(most).is_none() {
            standing.strangers = self.strangers(network).saturating_sub(himself);
        }
        let refusal = standing.refusal(most);
        match refusal {
            Some(_) => self.tell_of_crowd(address, most),
            None if !seated => self.shares.count(network),
            None => {}
        }
        refusal
    }

    /// Connections of a network that are not logged in.
    fn strangers(&mut self, network: Network) -> u32 {
        let now = Instant::now();
        let is_new = |census: &Census| now.duration_since(census.at) < CENSUS;
        if !self.shares.census.as_ref().is_some_and(is_new) {
            let step = (self.seats.capacity() as usize).div_ceil(LOOKS).max(1);
            let mut strangers = HashMap::new();
            for (seat, network, _) in self.vault.arrivals(step) {
                if is_stranger(self.hands.state(row_of(seat))) {
                    *strangers.entry(network).or_default() += step as u32;
                }
            }
            self.shares.census = Some(Census { at: now, strangers });
        }
        let census = self.shares.census.as_ref();
        let strangers = census.and_then(|census| census.strangers.get(&network));
        strangers.copied().unwrap_or(0)
    }

    /// Ends the oldest connections that are not logged in, where few rows are free.
    pub fn make_room(&mut self) {
        let capacity = self.seats.capacity();
        let free = capacity - self.seats.seated();
        let wanted = (capacity / 8).saturating_sub(free);
        if wanted == 0 || self.config.limits.connections_per_ip == 0 {
            return;
        }
        let now = Instant::now();
        let before = self.shares.evicted_at;
        if before.is_some_and(|at| now.duration_since(at) < CENSUS) {
            return;
        }
        self.shares.evicted_at = Some(now);
        let step = (capacity as usize).div_ceil(LOOKS).max(1);
        let strangers = self.vault.arrivals(step).filter(|&(seat, _, since)| {
            now.duration_since(since) >= GRACE && is_stranger(self.hands.state(row_of(seat)))
        });
        let leaving = whom_to_end(strangers.collect(), wanted as usize);
        if leaving.is_empty() {
            return;
        }
        self.shares.evicted += leaving.len() as u64;
        if is_time(&mut self.shares.told_of_room_at, now) {
            tracing::warn!(
                connections = std::mem::take(&mut self.shares.evicted),
                free,
                "few rows are free: the oldest connections that are not logged in are ended, of the addresses that have the most; table.sessions \
                 says how many rows there are"
            );
        }
        for seat in leaving {
            self.refusals.note();
            self.hands.order(row_of(seat), Order::CROWDED);
        }
        self.ring();
    }

    fn tell_of_crowd(&mut self, address: IpAddr, most: u32) {
        self.shares.refused += 1;
        if !is_time(&mut self.shares.told_at, Instant::now()) {
            return;
        }
        tracing::warn!(
            %address,
            connections = self.vault.crowd().of_network(Network::of(address)),
            connections_per_ip = most,
            rows_free = self.seats.capacity() - self.seats.seated(),
            refused = std::mem::take(&mut self.shares.refused),
            "an address has as many connections as it may have, by limits.connections_per_ip or because few rows are free; if many clients come \
             from there through a proxy, list it in server.proxies"
        );
    }
}

/// True at most once in a while.
fn is_time(told_at: &mut Option<Instant>, now: Instant) -> bool {
    let is_time = told_at.is_none_or(|at| now.duration_since(at) >= TOLD_APART);
    if is_time {
        *told_at = Some(now);
    }
    is_time
}

impl Shares {
    /// Counts a newcomer until the next census does.
    fn count(&mut self, network: Network) {
        if let Some(census) = &mut self.census {
            *census.strangers.entry(network).or_default() += 1;
        }
    }
}

fn is_stranger(state: Option<State>) -> bool {
    !matches!(
        state,
        None | Some(State::LoggedIn | State::Free | State::Done)
    )
}

/// Of all who are not logged in, whose connections are ended so that `wanted` rows become free: again and again the oldest of the network that has
/// the most left.
fn whom_to_end(mut strangers: Vec<(Seat, Network, Instant)>, wanted: usize) -> Vec<Seat> {
    let mut by_network: HashMap<Network, Vec<(Seat, Instant)>> = HashMap::new();
    // The oldest last.
    strangers.sort_by_key(|&(_, _, since)| Reverse(since));
    for (seat, network, since) in strangers {
        by_network.entry(network).or_default().push((seat, since));
    }
    let mut heap: BinaryHeap<_> = by_network
        .iter()
        .map(|(&network, seats)| (seats.len(), age(seats), network))
        .collect();
    let mut leaving = Vec::new();
    while leaving.len() < wanted
        && let Some((_, _, network)) = heap.pop()
    {
        let Some(seats) = by_network.get_mut(&network) else {
            break;
        };
        leaving.extend(seats.pop().map(|(seat, _)| seat));
        if !seats.is_empty() {
            heap.push((seats.len(), age(seats), network));
        }
    }
    leaving
}

/// Which of several networks that have the same number goes first: the one with the oldest.
fn age(seats: &[(Seat, Instant)]) -> Reverse<Option<Instant>> {
    Reverse(seats.last().map(|&(_, since)| since))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(number: u32) -> Network {
        Network::of(IpAddr::V4(number.into()))
    }

    #[test]
    fn whoever_takes_all_rows_leaves_some() {
        for (capacity, addresses) in [(200, 1), (200, 3), (10_000, 1), (10_000, 64)] {
            for logged_in in [false, true] {
                let mut of = vec![0; addresses];
                let mut free = capacity;
                loop {
                    let before = free;
                    for of_network in &mut of {
                        let standing = Standing {
                            of_network: *of_network,
                            of_site: 0,
                            strangers: if logged_in { 0 } else { *of_network },
                            free,
                        };
                        if free > 0 && standing.refusal(1_000_000).is_none() {
                            *of_network += 1;
                            free -= 1;
                        }
                    }
                    if before == free {
                        break;
                    }
                }
                let shares = addresses as u32 + if logged_in { 1 } else { 2 };
                let left = capacity / shares * if logged_in { 1 } else { 2 };
                assert!(
                    free + 2 >= left,
                    "{free} of {capacity} are left by {addresses}, logged in: {logged_in}"
                );
            }
        }
    }

    #[test]
    fn a_table_with_one_free_row_has_it_for_who_has_none() {
        let standing = |of_network, strangers, free| Standing {
            of_network,
            of_site: 0,
            strangers,
            free,
        };
        assert_eq!(standing(0, 0, 1).refusal(9), None);
        assert_eq!(standing(1, 0, 1).refusal(9), Some(Reason::ShareFromThere));
        assert_eq!(standing(3, 3, 7).refusal(9), Some(Reason::ShareFromThere));
        assert_eq!(standing(3, 2, 7).refusal(9), None);
        assert_eq!(
            standing(9, 0, 900).refusal(9),
            Some(Reason::TooManyFromThere)
        );
        let site = Standing {
            of_site: 36,
            ..standing(1, 1, 900)
        };
        assert_eq!(site.refusal(9), Some(Reason::TooManyFromThere));
    }

    #[test]
    fn the_oldest_of_the_largest_go_first() {
        let start = Instant::now();
        let seat = |row| Seat { row, generation: 1 };
        // Ten of one network, younger than the four of another, and the oldest of all alone in its own.
        let mut strangers = vec![(seat(100), network(3), start)];
        for row in 0..10 {
            strangers.push((
                seat(row),
                network(1),
                start + Duration::from_secs(20 + u64::from(row)),
            ));
        }
        for row in 10..14 {
            strangers.push((
                seat(row),
                network(2),
                start + Duration::from_secs(u64::from(row)),
            ));
        }
        let rows = |wanted| -> Vec<u32> {
            let leaving = whom_to_end(strangers.clone(), wanted);
            leaving.iter().map(|seat| seat.row).collect()
        };
        assert_eq!(rows(6), [0, 1, 2, 3, 4, 5]);
        // Then they have four each, and the older of both goes.
        assert_eq!(rows(8)[6..], [10, 6]);
        assert_eq!(rows(100).len(), 15);
        assert_eq!(rows(100)[12..].iter().filter(|row| **row == 100).count(), 1);
    }
}
