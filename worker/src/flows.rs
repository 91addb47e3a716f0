//! Whose the connections are, as far as shares go: numbers for addresses, and for the users at each.
//!
//! An address is what `limits.connections_per_ip` counts as one: an IPv4 address, or an IPv6 /64. Before its login a connection is a user of
//! its own. A connection gets its number when it waits for the first time, so whoever never waits pays nothing; numbers are used again.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

use crate::queue::Flow;
use crate::work::Work;

/// An address, or an IPv6 network of 64 bits.
type Network = u64;

/// Who it is at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Who {
    /// A connection without a login.
    Row(u32),
    /// The hash of a user's name, with a key that nobody knows: should two ever have the same, they share.
    User(u64),
}

/// The numbers.
#[derive(Debug, Default)]
pub(crate) struct Flows {
    /// The user's number plus one, by row; 0: it has none.
    rows: Vec<u32>,
    addresses: Numbers<Network>,
    users: Numbers<(u32, Who)>,
    key: RandomState,
}

impl Flows {
    /// Whose a row is, if it has its number already.
    #[inline]
    pub fn of(&self, row: u32) -> Option<Flow> {
        let user = self.rows.get(row as usize)?.checked_sub(1)?;
        let (address, _) = self.users.key(user);
        Some(Flow { address, user })
    }

    /// Gives a row its number.
    fn note(&mut self, row: u32, address: IpAddr, user: Option<&str>) -> Flow {
        self.forget(row);
        let who = match user {
            Some(name) => Who::User(self.key.hash_one(name)),
            None => Who::Row(row),
        };
        let network = shm_table::network(address);
        let address = self.addresses.take(network);
        let user = self.users.take((address, who));
        let at = row as usize;
        if at >= self.rows.len() {
            self.rows.resize(at + 1, 0);
        }
        self.rows[at] = user + 1;
        Flow { address, user }
    }

    /// A row is somebody else's from here on: another connection, another user, or from another address.
    #[inline]
    pub fn forget(&mut self, row: u32) {
        if let Some(Flow { address, user }) = self.of(row) {
            self.rows[row as usize] = 0;
            self.users.give_back(user);
            self.addresses.give_back(address);
        }
    }
}

/// Small numbers for keys, each for as long as it is in use.
#[derive(Debug)]
struct Numbers<K> {
    by_key: HashMap<K, u32>,
    /// Key and number of uses.
    used: Vec<(K, u32)>,
    free: Vec<u32>,
}

impl<K> Default for Numbers<K> {
    fn default() -> Self {
        Numbers {
            by_key: HashMap::new(),
            used: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<K: Copy + Eq + std::hash::Hash> Numbers<K> {
    /// The number of a key; it is in use once more.
    fn take(&mut self, key: K) -> u32 {
        let (used, free) = (&mut self.used, &mut self.free);
        let number = *self.by_key.entry(key).or_insert_with(|| {
            free.pop().unwrap_or_else(|| {
                used.push((key, 0));
                used.len() as u32 - 1
            })
        });
        let (of, uses) = &mut used[number as usize];
        *of = key;
        *uses += 1;
        number
    }

    fn give_back(&mut self, number: u32) {
        let (key, uses) = &mut self.used[number as usize];
        *uses -= 1;
        if *uses == 0 {
            self.by_key.remove(key);
            self.free.push(number);
        }
    }

    fn key(&self, number: u32) -> K {
        self.used[number as usize].0
    }
}

impl Work<'_> {
    /// Whose an own connection is. `None`: there is none in that row.
    #[inline]
    pub fn flow_of(&mut self, row: u32) -> Option<Flow> {
        let known = self.flows.of(row);
        known.or_else(|| self.note_flow(row))
    }

    #[cold]
    fn note_flow(&mut self, row: u32) -> Option<Flow> {
        let handle = self.hands.own_handle(row)?;
        let address = self.hands.peer(handle)?.ip();
        let user = self.hands.user_name(handle);
        Some(self.flows.note(row, address, user.as_deref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_of_a_user_at_an_address_are_one() {
        let mut flows = Flows::default();
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let ada = flows.note(1, address("10.0.0.1"), Some("ada"));
        assert_eq!(flows.of(1), Some(ada));
        assert_eq!(flows.of(2), None);
        let same = flows.note(2, address("::ffff:10.0.0.1"), Some("ada"));
        assert_eq!(same, ada);
        let bob = flows.note(3, address("10.0.0.1"), Some("bob"));
        assert!(bob.address == ada.address && bob.user != ada.user);
        let elsewhere = flows.note(4, address("10.0.0.2"), Some("ada"));
        assert!(elsewhere.address != ada.address && elsewhere.user != ada.user);
        // Nobody is logged in: each is by itself.
        let strangers = [5, 6].map(|row| flows.note(row, address("2001:db8::1"), None));
        assert_eq!(strangers[0].address, strangers[1].address);
        assert_ne!(strangers[0].user, strangers[1].user);
        let network = flows.note(7, address("2001:db8::ffff:2"), None);
        assert_eq!(network.address, strangers[0].address);
    }

    #[test]
    fn numbers_are_used_again() {
        let mut flows = Flows::default();
        for life in 0..100_u32 {
            for row in 0..10 {
                let address = IpAddr::from((life + row).to_be_bytes());
                flows.note(row, address, Some(&life.to_string()));
            }
        }
        assert!(flows.users.used.len() <= 11 && flows.addresses.used.len() <= 11);
        (0..10).for_each(|row| flows.forget(row));
        (0..10).for_each(|row| flows.forget(row));
        assert!(flows.users.by_key.is_empty() && flows.addresses.by_key.is_empty());
    }
}
