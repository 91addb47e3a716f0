//! Shares in what all sessions have in common and what runs out: groups, memberships, and the chunks that memberships lie in.
//!
//! While more than half of a pool is in use, a user and an address (IPv6: a /64, and a /48 with twice as much) may each hold at most as much of it
//! as is still free. So the first holder stops at half, two at a third each, and one who holds nothing yet finds room, as long as there
//! are fewer holders than there is to hold.
//!
//! What somebody holds of a group is his part of its members. It is counted from the memberships themselves, by each process for itself, at most
//! every [`CENSUS_MS`] and only while something is short; between two counts a process adds what it lets in. What others let in meanwhile shows
//! in what is free. So nothing is written on anybody's behalf, and there is nothing that a death could leave wrong.

use std::collections::HashMap;

use super::Hands;
use super::session::{GroupLimits, JoinRefused};
use crate::groups::CHUNK_SLOTS;
use crate::handle::Link;
use crate::network::network;
use crate::pool::{Hold, Item};
use crate::row::{Row, State};
use crate::view::View;

/// How old a count may be.
const CENSUS_MS: u64 = 200;

/// Chunks that a count looks at; of more, every second, third and so on, which then count twice, three times.
const LOOKS: usize = 16_384;

/// One group, membership or chunk, in fractions.
const ONE: u64 = 1 << 20;

/// What is held: groups, chunks, memberships; in fractions of [`ONE`].
type Holding = [u64; 3];

/// Whose holdings are added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Holder {
    /// A link to the entry.
    User(u64),
    /// An IPv4 address, or an IPv6 /64.
    Network(u64),
    /// An IPv6 /48.
    Site(u64),
}

impl Holder {
    /// How many times as much as an address it may hold.
    fn factor(self) -> u64 {
        match self {
            Holder::User(_) | Holder::Network(_) => 1,
            Holder::Site(_) => 2,
        }
    }

    fn of(row: &Row) -> [Option<Holder>; 3] {
        let network = network(row.peer().ip());
        let is_v6 = network >> 32 != 0xffff;
        [
            Some(Holder::User(row.user.peek())),
            Some(Holder::Network(network)),
            is_v6.then_some(Holder::Site(network >> 16)),
        ]
    }
}

/// Who held what when it was counted.
#[derive(Debug)]
pub(super) struct Census {
    at_ms: u64,
    holdings: HashMap<Holder, Holding>,
}

impl Census {
    /// Counts. Others join and leave meanwhile, so it is true but for what happens in this very moment.
    fn take(view: &View<'_>, now_ms: u64) -> Self {
        let mut census = Census {
            at_ms: now_ms,
            holdings: HashMap::new(),
        };
        let step = view.chunks.len().div_ceil(LOOKS).max(1);
        let first = now_ms as usize % step;
        for chunk in view.chunks.iter().skip(first).step_by(step) {
            if Hold::of(chunk.hold().get()) != Hold::Shared {
                continue;
            }
            let Some((group, _)) = Link(chunk.group.peek()).target() else {
                continue;
            };
            let members = view.groups[group].count.peek().max(1);
            let here = chunk.slots.iter().filter_map(|slot| {
                let handle = Link(slot.row.get()).row()?;
                let row = view.row(handle)?;
                let word = row.check(handle)?;
                (word.state == State::LoggedIn).then_some(row)
            });
            let in_chunk = chunk.used.peek().count_ones().max(1);
            let held = [ONE / u64::from(members), ONE / u64::from(in_chunk), ONE];
            for row in here {
                census.add(row, held.map(|part| part * step as u64));
            }
        }
        census
    }

    fn add(&mut self, row: &Row, more: Holding) {
        for holder in Holder::of(row).into_iter().flatten() {
            let held = self.holdings.entry(holder).or_default();
            for (held, more) in held.iter_mut().zip(more) {
                *held += more;
            }
        }
    }
}

/// How much of a pool is left, if it is short.
fn short(free: u32, capacity: u32) -> Option<u32> {
    (free < capacity.div_ceil(2)).then_some(free)
}

/// True if who holds so much of a pool may have one more.
fn may_have_one_more(held: u64, free: u32, factor: u64) -> bool {
    held + ONE <= factor * ONE * u64::from(free.max(1))
}

impl Hands<'_> {
    /// Refuses a join, of a group that exists or not, to somebody who has his share already.
    pub(super) fn within_shares(
        &mut self,
        row: &Row,
        is_new: bool,
        limits: GroupLimits,
    ) -> Result<(), JoinRefused> {
        if !limits.share_of_user && !limits.share_of_address {
            return Ok(());
        }
        let header = self.view.header;
        let (groups, chunks) = (self.view.group_pool(), self.view.chunk_pool());
        let memberships = header.memberships.peek();
        let unused = memberships.saturating_sub(header.memberships_used.peek());
        let left = [
            short(groups.head.free(), groups.capacity()).filter(|_| is_new),
            short(chunks.head.free(), chunks.capacity()),
            short(unused, memberships),
        ];
        if left == [None; 3] {
            self.census = None;
            return Ok(());
        }
        let now_ms = self.view.now_ms();
        let census = match self.census.take() {
            Some(census) if now_ms.wrapping_sub(census.at_ms) < CENSUS_MS => census,
            _ => Census::take(&self.view, now_ms),
        };
        let census = self.census.insert(census);
        for holder in Holder::of(row).into_iter().flatten() {
            let (counts, refused) = match holder {
                Holder::User(_) => (limits.share_of_user, JoinRefused::ShareOfUser),
                Holder::Network(_) | Holder::Site(_) => {
                    (limits.share_of_address, JoinRefused::ShareOfAddress)
                }
            };
            let held = census.holdings.get(&holder).copied().unwrap_or_default();
            let past = left.iter().zip(held).any(|(free, held)| {
                free.is_some_and(|free| !may_have_one_more(held, free, holder.factor()))
            });
            if counts && past {
                return Err(refused);
            }
        }
        Ok(())
    }

    /// Counts a join until the next census does.
    pub(super) fn count_join(&mut self, row: &Row, is_new: bool) {
        if let Some(census) = &mut self.census {
            let more = match is_new {
                true => [ONE, ONE, ONE],
                false => [0, ONE / CHUNK_SLOTS as u64, ONE],
            };
            census.add(row, more);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holders_who_take_all_they_may_leave_as_much_as_they_have() {
        for (capacity, holders) in [(64_u32, 1_u32), (64, 2), (64, 15), (4096, 1), (4096, 64)] {
            let mut held = vec![0; holders as usize];
            let mut free = capacity;
            let mut refused = 0;
            while refused < holders {
                refused = 0;
                for held in &mut held {
                    let is_short = short(free, capacity).is_some();
                    if free == 0 || is_short && !may_have_one_more(*held, free, 1) {
                        refused += 1;
                        continue;
                    }
                    *held += ONE;
                    free -= 1;
                }
            }
            let fair = capacity / (holders + 1);
            assert!(
                free + 1 >= fair && free <= fair + 1,
                "{free} of {capacity} are left by {holders}"
            );
            assert!(may_have_one_more(0, free, 1));
        }
    }

    #[test]
    fn who_holds_nothing_may_always_have_one() {
        assert!(may_have_one_more(0, 0, 1) && may_have_one_more(0, 1, 1));
        assert!(!may_have_one_more(1, 1, 1) && may_have_one_more(1, 1, 2));
    }
}
