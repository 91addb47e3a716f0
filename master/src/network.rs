//! Where clients come from, and how many from where.

use std::collections::HashMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Whom `limits.connections_per_ip` counts as one: an IPv4 address, or the /64 network that a single IPv6 host usually has to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Network(u64);

/// An IPv6 /48: what one customer of a provider usually has, 65,536 networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Site(u64);

impl Network {
    /// The network an address belongs to.
    pub fn of(address: IpAddr) -> Self {
        Self(shm_table::network(address))
    }

    /// The site it is part of; `None` for IPv4, where an address is all that one client is known to have.
    fn site(self) -> Option<Site> {
        (self.0 >> 32 != 0xffff).then_some(Site(self.0 >> 16))
    }
}

/// Connections by where they come from.
#[derive(Debug, Default)]
pub struct Crowd {
    networks: HashMap<Network, u32>,
    sites: HashMap<Site, u32>,
}

impl Crowd {
    /// One more.
    pub fn add(&mut self, network: Network) {
        *self.networks.entry(network).or_default() += 1;
        if let Some(site) = network.site() {
            *self.sites.entry(site).or_default() += 1;
        }
    }

    /// One less, of those that were added.
    pub fn remove(&mut self, network: Network) {
        remove_one(&mut self.networks, network);
        if let Some(site) = network.site() {
            remove_one(&mut self.sites, site);
        }
    }

    /// How many of a network.
    pub fn of_network(&self, network: Network) -> u32 {
        self.networks.get(&network).copied().unwrap_or(0)
    }

    /// How many of the site that a network is part of; 0 for IPv4.
    pub fn of_site(&self, network: Network) -> u32 {
        let site = network.site();
        site.and_then(|site| self.sites.get(&site))
            .copied()
            .unwrap_or(0)
    }

    /// The network with the most.
    pub fn largest(&self) -> Option<(Network, u32)> {
        let most = self.networks.iter().max_by_key(|(_, count)| **count)?;
        Some((*most.0, *most.1))
    }
}

fn remove_one<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, u32>, of: K) {
    if let Some(count) = counts.get_mut(&of) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&of);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(address: &str) -> Network {
        Network::of(address.parse().unwrap())
    }

    #[test]
    fn networks_and_sites_are_counted_together() {
        let mut crowd = Crowd::default();
        for address in ["2001:db8:7:1::1", "2001:db8:7:1::2", "2001:db8:7:2::1"] {
            crowd.add(network(address));
        }
        crowd.add(network("2001:db8:8::1"));
        crowd.add(network("192.0.2.1"));
        crowd.add(network("::ffff:192.0.2.1"));
        let count = |crowd: &Crowd, address| {
            let network = network(address);
            (crowd.of_network(network), crowd.of_site(network))
        };
        assert_eq!(count(&crowd, "2001:db8:7:1::9"), (2, 3));
        assert_eq!(count(&crowd, "2001:db8:7:ffff::9"), (0, 3));
        assert_eq!(count(&crowd, "192.0.2.1"), (2, 0));
        assert_eq!(count(&crowd, "192.0.2.2"), (0, 0));
        crowd.remove(network("2001:db8:7:1::1"));
        assert_eq!(count(&crowd, "2001:db8:7:1::9"), (1, 2));
        assert_eq!(crowd.largest(), Some((network("192.0.2.1"), 2)));
    }
}
