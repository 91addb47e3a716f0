//! A queue that serves its senders in turn: addresses first, within an address its users, within a user the sessions (hierarchical round
//! robin with a credit for each). What one sender has in it is served in order; how much it has delays nobody else.

use std::collections::{HashMap, VecDeque};

use shm_table::{MailAccounts, Share};

/// What a sender may cost before it is another's turn: some short messages.
const QUANTUM: i64 = 4096;

/// What a sender can be behind at most: one very long message does not keep it from its turn for long.
const DEBT_MAX: i64 = -64 * QUANTUM;

/// The way to a sender's items, from the widest share to the narrowest.
const LEVELS: [Share; 3] = [Share::Address, Share::User, Share::Session];

/// Anything with items, each of which costs something.
trait Queue: Default {
    type Item;

    /// `way` has a number for each level that is left.
    fn push(&mut self, way: &[u16], item: Self::Item, cost: u32);

    /// The next item, of a sender who `may` have its turn.
    fn pop(
        &mut self,
        levels: &[Share],
        may: &impl Fn(Share, u16) -> bool,
    ) -> Option<(Self::Item, u32)>;

    fn retain(&mut self, keep: &mut impl FnMut(&Self::Item) -> bool);

    fn is_empty(&self) -> bool;
}

/// The items of one sender.
struct InOrder<T>(VecDeque<(T, u32)>);

impl<T> Default for InOrder<T> {
    fn default() -> Self {
        InOrder(VecDeque::new())
    }
}

impl<T> Queue for InOrder<T> {
    type Item = T;

    fn push(&mut self, _: &[u16], item: T, cost: u32) {
        self.0.push_back((item, cost));
    }

    fn pop(&mut self, _: &[Share], _: &impl Fn(Share, u16) -> bool) -> Option<(T, u32)> {
        self.0.pop_front()
    }

    fn retain(&mut self, keep: &mut impl FnMut(&T) -> bool) {
        self.0.retain(|(item, _)| keep(item));
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Queues that are served in turn. None is empty.
struct InTurn<Q> {
    queues: HashMap<u16, (Q, i64)>,
    /// Whose turn it is first.
    ring: VecDeque<u16>,
}

impl<Q> Default for InTurn<Q> {
    fn default() -> Self {
        InTurn {
            queues: HashMap::new(),
            ring: VecDeque::new(),
        }
    }
}

impl<Q: Queue> Queue for InTurn<Q> {
    type Item = Q::Item;

    fn push(&mut self, way: &[u16], item: Q::Item, cost: u32) {
        let (number, rest) = way.split_first().map_or((0, way), |(n, rest)| (*n, rest));
        let ring = &mut self.ring;
        let (queue, _) = self.queues.entry(number).or_insert_with(|| {
            ring.push_back(number);
            (Q::default(), QUANTUM)
        });
        queue.push(rest, item, cost);
    }

    fn pop(
        &mut self,
        levels: &[Share],
        may: &impl Fn(Share, u16) -> bool,
    ) -> Option<(Q::Item, u32)> {
        let (level, rest) = levels.split_first()?;
        // Queues in a row that could not be served.
        let mut passed_over = 0;
        while passed_over < self.ring.len() {
            let number = *self.ring.front()?;
            let (queue, credit) = self.queues.get_mut(&number)?;
            if !may(*level, number) {
                passed_over += 1;
                self.ring.rotate_left(1);
                continue;
            }
            if *credit <= 0 {
                *credit += QUANTUM;
                passed_over = 0;
                self.ring.rotate_left(1);
                continue;
            }
            let Some((item, cost)) = queue.pop(rest, may) else {
                passed_over += 1;
                self.ring.rotate_left(1);
                continue;
            };
            *credit = (*credit - i64::from(cost)).max(DEBT_MAX);
            if queue.is_empty() {
                self.queues.remove(&number);
                self.ring.pop_front();
            }
            return Some((item, cost));
        }
        None
    }

    fn retain(&mut self, keep: &mut impl FnMut(&Q::Item) -> bool) {
        self.queues.retain(|_, (queue, _)| {
            queue.retain(keep);
            !queue.is_empty()
        });
        self.ring.retain(|number| self.queues.contains_key(number));
    }

    fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }
}

/// Items of many senders.
pub struct FairQueue<T> {
    addresses: InTurn<InTurn<InTurn<InOrder<T>>>>,
    len: usize,
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        FairQueue {
            addresses: InTurn::default(),
            len: 0,
        }
    }
}

impl<T> FairQueue<T> {
    /// Puts an item behind those of the same sender. `cost`: in bytes, or what is comparable.
    pub fn push(&mut self, from: MailAccounts, item: T, cost: u32) {
        let way = LEVELS.map(|share| from.number(share));
        self.addresses.push(&way, item, cost);
        self.len += 1;
    }

    /// Puts in what is of no sender: it has its turn like an address.
    pub fn push_own(&mut self, item: T, cost: u32) {
        self.addresses.push(&[u16::MAX; 3], item, cost);
        self.len += 1;
    }

    /// Puts in what another host has sent; `host` tells it from others.
    pub fn push_from(&mut self, host: u16, item: T, cost: u32) {
        self.addresses.push(&[host, 0, 0], item, cost);
        self.len += 1;
    }

    /// The next item.
    pub fn pop(&mut self) -> Option<T> {
        self.pop_if(|_, _| true)
    }

    /// The next item of a sender whose account of each kind `may` have its turn.
    pub fn pop_if(&mut self, may: impl Fn(Share, u16) -> bool) -> Option<T> {
        let (item, _) = self.addresses.pop(&LEVELS, &may)?;
        self.len -= 1;
        Some(item)
    }

    /// Lets go of items that are not to be kept.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        let mut kept = 0;
        self.addresses.retain(&mut |item| {
            let keeps = keep(item);
            kept += usize::from(keeps);
            keeps
        });
        self.len = kept;
    }

    /// How many items there are.
    pub fn len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// Pushes as (address, user, session).
    fn push(queue: &mut FairQueue<(u16, u16, u16, u32)>, way: [u16; 3], n: u32, cost: u32) {
        let [address, user, session] = way;
        queue
            .addresses
            .push(&way, (address, user, session, n), cost);
        queue.len += 1;
    }

    #[test]
    fn each_senders_items_come_in_order_and_nobody_waits_for_anothers() {
        let mut queue = FairQueue::default();
        for n in 0..10_000 {
            push(&mut queue, [1, 1, 1], n, 300);
        }
        for n in 0..20 {
            push(&mut queue, [2, 2, 2], n, 300);
        }
        let (mut flood, mut neighbour) = (0, 0);
        while neighbour < 20 {
            let (address, .., n) = queue.pop().unwrap();
            let next = if address == 1 {
                &mut flood
            } else {
                &mut neighbour
            };
            assert_eq!(n, *next);
            *next += 1;
        }
        assert!(flood <= 60, "{flood} of the flood came first");
        assert_eq!(queue.len(), 10_000 - flood as usize);
    }

    #[test]
    fn many_users_and_many_sessions_have_one_turn_together() {
        // 300 users of one address; a user of another with 300 sessions; a neighbour; each item costs a whole turn.
        let mut queue = FairQueue::default();
        for n in 0..20 {
            for other in 0..300 {
                push(&mut queue, [1, other, other], n, 5_000);
                push(&mut queue, [2, 1, other], n, 5_000);
            }
            push(&mut queue, [2, 2, 1], n, 5_000);
            push(&mut queue, [3, 1, 1], n, 5_000);
        }
        let mut counts = HashMap::new();
        for _ in 0..60 {
            let (address, user, ..) = queue.pop().unwrap();
            let who = if address == 2 {
                (2, user)
            } else {
                (address, 0)
            };
            *counts.entry(who).or_insert(0) += 1;
        }
        // One third each; and of the second address one half for its user with one session.
        assert!((17..=23).contains(&counts[&(3, 0)]), "{counts:?}");
        assert!((7..=13).contains(&counts[&(2, 2)]), "{counts:?}");
    }

    #[test]
    fn long_items_cost_their_sender_more_turns() {
        let mut queue = FairQueue::default();
        for n in 0..100 {
            push(&mut queue, [1, 1, 1], n, 65_536);
        }
        for n in 0..2_000 {
            push(&mut queue, [2, 1, 1], n, 512);
        }
        let mut bytes = [0, 0];
        for _ in 0..1_000 {
            let (address, ..) = queue.pop().unwrap();
            bytes[usize::from(address - 1)] += if address == 1 { 65_536 } else { 512 };
        }
        assert!(bytes[0] <= bytes[1] + 2 * 65_536, "{bytes:?}");
    }

    #[test]
    fn who_may_not_is_passed_over_and_keeps_his_place() {
        let mut queue = FairQueue::default();
        for n in 0..3 {
            push(&mut queue, [1, 1, 1], n, 100_000);
            push(&mut queue, [2, 2, 2], n, 1);
        }
        let only = |address| move |share, number| share != Share::Address || number == address;
        assert_eq!(queue.pop_if(only(2)), Some((2, 2, 2, 0)));
        assert_eq!(queue.pop_if(only(3)), None);
        for n in 0..3 {
            assert_eq!(queue.pop_if(only(1)), Some((1, 1, 1, n)));
        }
        assert_eq!(queue.pop_if(only(1)), None);
        assert_eq!(queue.len(), 2);
    }

    #[test]
    fn what_is_let_go_is_gone() {
        let mut queue = FairQueue::default();
        for n in 0..100 {
            push(&mut queue, [n as u16 % 5, 0, n as u16], n, 10);
        }
        queue.retain(|(address, .., n)| *address != 3 && n % 2 == 0);
        assert_eq!(queue.len(), 40);
        let left: HashSet<u32> = std::iter::from_fn(|| queue.pop()).map(|i| i.3).collect();
        assert_eq!(left.len(), 40);
        assert!(queue.addresses.is_empty() && queue.addresses.ring.is_empty());
    }
}
