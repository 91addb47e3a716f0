//! The census: when memory is short, who holds the most of it goes, and not who comes next.
//!
//! One look at all rows sums what each session, each user and each address (an IPv6 network of 64 bits) has in outboxes and incomplete
//! messages. Whoever holds the most, and more than its share, loses its largest sessions first, until a quarter of the pools will be free. What
//! was ordered before and is not given back yet counts as given back, so that no more go than must. It keeps nothing: whoever takes the
//! next census finds the orders in the rows.

use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::net::IpAddr;

use crate::Hands;
use crate::handle::RowHandle;
use crate::hands::room::received_cost;
use crate::network::network;
use crate::recovery::in_use;
use crate::row::{Order, Row, RowWord, State};
use crate::shares::LEAST_SHARE_BYTES;
use crate::text::Name;
use crate::two_copies::Stream;

/// Whose sessions were ended together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Holder {
    /// All that come from one address held more than an eighth of the memory.
    Address,
    /// All of one user did.
    User,
    /// One session held more than its share.
    Session,
}

impl Holder {
    /// The name that the log shows.
    pub fn name(self) -> &'static str {
        match self {
            Holder::Address => "address",
            Holder::User => "user",
            Holder::Session => "session",
        }
    }
}

/// What one holder lost.
#[derive(Clone, Debug)]
pub struct Eviction {
    /// What held too much.
    pub holder: Holder,
    /// The user of the first session that was ended, if somebody was logged in.
    pub user: Option<Name>,
    /// The address of that session's client.
    pub address: IpAddr,
    /// Sessions that were ended.
    pub sessions: u32,
    /// Bytes that they held.
    pub bytes: u64,
}

/// What a census found.
#[derive(Clone, Debug, Default)]
pub struct Census {
    /// Less than a quarter is free: look again soon.
    pub is_short: bool,
    /// Who has to go, the largest holder first.
    pub evictions: Vec<Eviction>,
}

/// What one session holds.
struct Holding {
    handle: RowHandle,
    bytes: u64,
    /// Keys of its user (0: nobody is logged in) and its address.
    user: u128,
    address: u128,
    may_go: bool,
}

/// What several sessions hold together; the largest that may go are at the end.
#[derive(Default)]
struct Together {
    bytes: u64,
    sessions: Vec<usize>,
}

impl Hands<'_> {
    /// Orders [`Order::EVICTED`] for the largest holders if less than a quarter of the arena or of the outbox entries is free. Costs
    /// nothing but a look at two counts where it is not. For the timer; and for a worker that sees that less than an eighth is free, as the timer
    /// may have to wait for a processor.
    pub fn census(&mut self) -> Census {
        let view = self.view();
        let supply = view.supply();
        if !supply.is_short() {
            return Census::default();
        }
        let (holdings, ordered) = self.holdings();
        let missing = view.missing().saturating_sub(ordered);
        let share = supply.share(u64::MAX);
        let mut evictions: BTreeMap<_, (usize, Eviction)> = BTreeMap::new();
        let chosen = choose(&holdings, missing, share, supply.share_of_many());
        for (place, (holder, key, session)) in chosen.into_iter().enumerate() {
            let holding = &holdings[session];
            self.order(holding.handle, Order::EVICTED);
            let row = &view.rows[holding.handle.row as usize];
            let (_, eviction) = evictions.entry((holder, key)).or_insert_with(|| {
                let eviction = Eviction {
                    holder,
                    user: self.user_name(holding.handle),
                    address: row.peer().ip(),
                    sessions: 0,
                    bytes: 0,
                };
                (place, eviction)
            });
            eviction.sessions += 1;
            eviction.bytes += holding.bytes;
        }
        let mut evictions: Vec<_> = evictions.into_values().collect();
        evictions.sort_by_key(|(place, _)| *place);
        Census {
            is_short: true,
            evictions: evictions
                .into_iter()
                .map(|(_, eviction)| eviction)
                .collect(),
        }
    }

    /// What each session holds, and how many bytes will be given back by those that were told to.
    fn holdings(&self) -> (Vec<Holding>, u64) {
        let view = self.view();
        let (mut holdings, mut ordered) = (Vec::new(), 0);
        let share = view.supply().share(u64::MAX);
        for (index, row) in (0..).zip(view.rows) {
            let word = row.state();
            if !in_use(word.state) {
                continue;
            }
            let stream: Stream = row.stream.read();
            let bytes = row.pending() + received_cost(&stream);
            if bytes == 0 {
                continue;
            }
            let is_ordered = is_ordered(row, word);
            // One that is ending has given back what it could, unless it waits for a reader of something large.
            let is_ending = word.state == State::Closing && bytes <= share;
            if is_ordered && self.is_served(word.owner) {
                ordered += bytes;
            }
            holdings.push(Holding {
                handle: RowHandle {
                    row: index,
                    generation: word.generation,
                },
                bytes,
                user: row.user.peek().into(),
                address: network(row.peer().ip()).into(),
                may_go: !is_ordered && !is_ending,
            });
        }
        (holdings, ordered)
    }
}

fn is_ordered(row: &Row, word: RowWord) -> bool {
    let orders = row.orders.get();
    let is_its_own = (orders >> 32) as u32 == word.generation;
    is_its_own && orders & u64::from(Order::EVICTED.0 | Order::SLOW.0) != 0
}

/// Who goes, in this order, each with the holder on whose account: until so many bytes are given back, or nobody holds more than his
/// share.
fn choose(
    holdings: &[Holding],
    missing: u64,
    share: u64,
    share_of_many: u64,
) -> Vec<(Holder, u128, usize)> {
    let mut together: HashMap<(Holder, u128), Together> = HashMap::new();
    let mut largest_last: Vec<usize> = (0..holdings.len()).collect();
    largest_last.sort_by_key(|&session| holdings[session].bytes);
    for session in largest_last {
        for of in accounts(&holdings[session], session) {
            let together = together.entry(of).or_default();
            together.bytes += holdings[session].bytes;
            if holdings[session].may_go {
                together.sessions.push(session);
            }
        }
    }
    let mut largest: BinaryHeap<_> = together
        .iter()
        .map(|(&of, together)| (together.bytes, of))
        .collect();
    let (mut chosen, mut goes, mut freed) = (Vec::new(), vec![false; holdings.len()], 0);
    while freed < missing
        && let Some((bytes, of)) = largest.pop()
    {
        let most = match of.0 {
            Holder::Session => share,
            Holder::User | Holder::Address => share_of_many,
        };
        let Some(account) = together.get_mut(&of) else {
            continue;
        };
        if account.bytes < bytes && account.bytes > most {
            // Some of it went on another account.
            largest.push((account.bytes, of));
            continue;
        }
        if account.bytes <= most {
            continue;
        }
        while account.sessions.pop_if(|session| goes[*session]).is_some() {}
        let Some(session) = account.sessions.pop() else {
            continue;
        };
        let holding = &holdings[session];
        if holding.bytes < LEAST_SHARE_BYTES {
            continue;
        }
        goes[session] = true;
        freed += holding.bytes;
        chosen.push((of.0, of.1, session));
        for other in accounts(holding, session) {
            if let Some(account) = together.get_mut(&other) {
                account.bytes -= holding.bytes;
            }
        }
        if let Some(account) = together.get(&of) {
            largest.push((account.bytes, of));
        }
    }
    chosen
}

/// On whose accounts a session counts.
fn accounts(holding: &Holding, session: usize) -> impl Iterator<Item = (Holder, u128)> {
    let user = (holding.user != 0).then_some((Holder::User, holding.user));
    let session = (Holder::Session, session as u128);
    [session, (Holder::Address, holding.address)]
        .into_iter()
        .chain(user)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holding(row: u32, bytes: u64, user: u128, address: u128) -> Holding {
        let generation = 1;
        Holding {
            handle: RowHandle { row, generation },
            bytes,
            user,
            address,
            may_go: true,
        }
    }

    fn rows(holdings: &[Holding], missing: u64) -> Vec<(Holder, usize)> {
        choose(holdings, missing, 10_000, 50_000)
            .into_iter()
            .map(|(holder, _, session)| (holder, session))
            .collect()
    }

    #[test]
    fn the_largest_goes_first_and_no_more_than_must() {
        let holdings = [
            holding(0, 5_000, 1, 1),
            holding(1, 20_000, 2, 2),
            holding(2, 30_000, 3, 3),
            holding(3, 11_000, 4, 4),
        ];
        assert_eq!(rows(&holdings, 1), [(Holder::Session, 2)]);
        let two = [(Holder::Session, 2), (Holder::Session, 1)];
        assert_eq!(rows(&holdings, 50_000), two);
        assert_eq!(rows(&holdings, u64::MAX).len(), 3, "one holds little");
        assert_eq!(rows(&holdings, 0), []);
    }

    #[test]
    fn many_small_ones_of_one_address_or_user_are_one_large_one() {
        let neighbour = |row| holding(row, 9_000, 7, 7);
        let mut holdings = vec![neighbour(0)];
        for row in 1..11 {
            holdings.push(holding(row, 8_000, 0, 5));
        }
        for row in 11..18 {
            holdings.push(holding(row, 8_000, 9, row.into()));
        }
        let chosen = rows(&holdings, u64::MAX);
        assert_eq!(chosen.len(), 5, "down to their shares, and no further");
        assert_eq!(chosen[0].0, Holder::Address, "80,000");
        assert!(
            chosen.iter().any(|(holder, _)| *holder == Holder::User),
            "56,000"
        );
        assert!(chosen.iter().all(|(_, session)| *session != 0));
        assert_eq!(rows(&holdings, 15_000).len(), 2, "enough is enough");
    }

    #[test]
    fn one_address_with_one_session_is_that_session() {
        let holdings = [holding(0, 90_000, 1, 1)];
        assert_eq!(rows(&holdings, u64::MAX), [(Holder::Session, 0)]);
    }

    #[test]
    fn who_goes_already_is_not_told_again_and_counts_for_its_address() {
        let mut holdings = [holding(0, 60_000, 0, 1), holding(1, 3_000, 0, 1)];
        holdings[0].may_go = false;
        assert_eq!(rows(&holdings, u64::MAX), [(Holder::Address, 1)]);
    }
}
