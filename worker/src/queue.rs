//! Who waits, and whose turn it is: deficit round robin (Shreedhar and Varghese, 1995) by time used, over addresses, and within an
//! address over its users; within a user, first come, first served.
//!
//! Whoever opens many connections, under one name or under many, thereby has the share of one. Nobody is held back while nobody else
//! waits. All of it is private and may be lost: what waits is in the table and in the kernel.

use std::mem;

/// How long, in microseconds, an address is served before the next one.
pub(crate) const ADDRESS_US: i64 = 400;

/// The same of a user, where several at one address wait. Shorter, as there may be many behind one.
pub(crate) const USER_US: i64 = 100;

/// How many of its shares one may be in debt at most, for what took longer than it had left.
const DEBT_SHARES: i64 = 2;

/// Whose a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flow {
    /// A number of the address, and of the user at that address; see [`crate::flows`].
    pub address: u32,
    pub user: u32,
}

/// Rows that wait, each at most once.
#[derive(Debug, Default)]
pub(crate) struct FairQueue {
    rows: Vec<Place>,
    users: Vec<Share>,
    addresses: Vec<Share>,
    /// The addresses of which somebody waits, next one first.
    ring: Ring,
    len: usize,
    /// Whose row was taken last.
    served: Option<Flow>,
    /// Changes with [`FairQueue::begin_epoch`].
    epoch: bool,
    /// How many of those who wait did so when the epoch began.
    left_of_epoch: usize,
}

/// A row's place.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    waits: bool,
    /// The epoch that it is to be served in.
    epoch: bool,
    next: Next,
}

/// An address or a user: who waits there, and what it has left.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    waiting: Ring,
    /// Microseconds; less than 0: it had more than its share.
    left_us: i64,
    next: Next,
}

/// The number of the next one, plus one; 0: there is none.
type Next = u32;

/// A list through the `next` of its items.
#[derive(Clone, Copy, Debug, Default)]
struct Ring {
    first: Next,
    last: Next,
}

impl Ring {
    fn push<T>(&mut self, items: &mut [T], item: u32, next: impl Fn(&mut T) -> &mut Next) {
        *next(&mut items[item as usize]) = 0;
        match mem::replace(&mut self.last, item + 1) {
            0 => self.first = item + 1,
            last => *next(&mut items[last as usize - 1]) = item + 1,
        }
    }

    fn pop<T>(&mut self, items: &mut [T], next: impl Fn(&mut T) -> &mut Next) -> Option<u32> {
        let item = self.first.checked_sub(1)?;
        self.first = mem::take(next(&mut items[item as usize]));
        if self.first == 0 {
            self.last = 0;
        }
        Some(item)
    }

    fn is_empty(&self) -> bool {
        self.first == 0
    }
}

/// Turns the ring until its first has something left, and tells who that is. Each that is passed over gets another share.
fn whose_turn(ring: &mut Ring, shares: &mut [Share], share_us: i64) -> Option<u32> {
    loop {
        let first = ring.first.checked_sub(1)?;
        let left = &mut shares[first as usize].left_us;
        if *left > 0 {
            return Some(first);
        }
        *left += share_us;
        if ring.first == ring.last {
            // Nobody else waits: no debt counts.
            *left = share_us;
        } else {
            ring.pop(shares, |share| &mut share.next);
            ring.push(shares, first, |share| &mut share.next);
        }
    }
}

impl Share {
    /// Somebody begins to wait there.
    fn arrive(&mut self, share_us: i64) {
        if self.left_us >= 0 {
            self.left_us = share_us;
        }
    }

    fn charge(&mut self, us: i64, share_us: i64) {
        self.left_us = (self.left_us - us).max(-DEBT_SHARES * share_us);
    }
}

fn grow<T: Clone + Default>(items: &mut Vec<T>, item: u32) {
    if items.len() <= item as usize {
        items.resize(item as usize + 1, T::default());
    }
}

impl FairQueue {
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn has(&self, row: u32) -> bool {
        self.rows.get(row as usize).is_some_and(|place| place.waits)
    }

    /// Puts a row behind those of its user, unless it waits already.
    pub fn push(&mut self, row: u32, flow: Flow) {
        grow(&mut self.rows, row);
        let place = &mut self.rows[row as usize];
        if place.waits {
            return;
        }
        place.waits = true;
        place.epoch = !self.epoch;
        grow(&mut self.users, flow.user);
        let user = &mut self.users[flow.user as usize];
        let was_waiting = !user.waiting.is_empty();
        user.waiting
            .push(&mut self.rows, row, |place| &mut place.next);
        self.len += 1;
        if was_waiting {
            return;
        }
        user.arrive(USER_US);
        grow(&mut self.addresses, flow.address);
        let address = &mut self.addresses[flow.address as usize];
        let was_waiting = !address.waiting.is_empty();
        address
            .waiting
            .push(&mut self.users, flow.user, |user| &mut user.next);
        if !was_waiting {
            address.arrive(ADDRESS_US);
            self.ring
                .push(&mut self.addresses, flow.address, |it| &mut it.next);
        }
    }

    /// Takes the row whose turn it is. What its service takes is to be [charged](FairQueue::charge).
    pub fn pop(&mut self) -> Option<u32> {
        let at = whose_turn(&mut self.ring, &mut self.addresses, ADDRESS_US)?;
        let address = &mut self.addresses[at as usize];
        let who = whose_turn(&mut address.waiting, &mut self.users, USER_US)?;
        let user = &mut self.users[who as usize];
        let row = user.waiting.pop(&mut self.rows, |place| &mut place.next)?;
        if user.waiting.is_empty() {
            // It is the first of its ring, as its address is.
            address.waiting.pop(&mut self.users, |user| &mut user.next);
        }
        if address.waiting.is_empty() {
            self.ring.pop(&mut self.addresses, |it| &mut it.next);
        }
        self.served = Some(Flow {
            address: at,
            user: who,
        });
        let place = &mut self.rows[row as usize];
        place.waits = false;
        self.left_of_epoch -= usize::from(place.epoch == self.epoch);
        self.len -= 1;
        Some(row)
    }

    /// Notes how many microseconds the service of the row that was taken last took.
    pub fn charge(&mut self, us: u64) {
        let us = i64::try_from(us.max(1)).unwrap_or(i64::MAX / 2);
        if let Some(flow) = self.served {
            self.users[flow.user as usize].charge(us, USER_US);
            self.addresses[flow.address as usize].charge(us, ADDRESS_US);
        }
    }

    /// Begins an epoch, which is over when all who wait now were served once.
    pub fn begin_epoch(&mut self) {
        self.epoch = !self.epoch;
        self.left_of_epoch = self.len;
    }

    pub fn is_epoch_over(&self) -> bool {
        self.left_of_epoch == 0
    }
}

#[cfg(test)]
mod tests;
