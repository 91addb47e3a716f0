//! All attacks, and the forms in which each is tried.

use super::crowd::Crowd;
use super::{across, connections, floods, partial, requests, unread};
use crate::Transport;
use crate::wire::Addresses;

/// Who the attackers say they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// They do not log in.
    Nobody,
    /// All are sessions of one user.
    OneUser,
    /// Each is another user; all come from one address.
    ManyUsers,
}

/// One form of an attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variant {
    /// Where it connects.
    pub transport: Transport,
    /// With so many connections at a time.
    pub connections: usize,
    /// As whom.
    pub identity: Identity,
}

impl Variant {
    /// In words.
    pub fn label(&self) -> String {
        let transport = match self.transport {
            Transport::WebSocket => "ws",
            Transport::Tcp => "tcp",
        };
        let identity = match self.identity {
            Identity::Nobody => "no login",
            Identity::OneUser => "one user",
            Identity::ManyUsers => "many users",
        };
        format!("{transport}, {}, {identity}", self.connections)
    }
}

const fn ws(connections: usize, identity: Identity) -> Variant {
    Variant {
        transport: Transport::WebSocket,
        connections,
        identity,
    }
}

const fn tcp(connections: usize, identity: Identity) -> Variant {
    Variant {
        transport: Transport::Tcp,
        connections,
        identity,
    }
}

/// Forms of one connection.
pub const WS_NOBODY: Variant = ws(1, Identity::Nobody);
#[allow(missing_docs, reason = "the name says it")]
pub const TCP_NOBODY: Variant = tcp(1, Identity::Nobody);
#[allow(missing_docs, reason = "the name says it")]
pub const WS_ONE: Variant = ws(1, Identity::OneUser);
#[allow(missing_docs, reason = "the name says it")]
pub const TCP_ONE: Variant = tcp(1, Identity::OneUser);
/// Forms of many.
pub const WS_HUNDRED: Variant = ws(100, Identity::OneUser);
#[allow(missing_docs, reason = "the name says it")]
pub const TCP_HUNDRED: Variant = tcp(100, Identity::OneUser);
#[allow(missing_docs, reason = "the name says it")]
pub const WS_USERS: Variant = ws(100, Identity::ManyUsers);
#[allow(missing_docs, reason = "the name says it")]
pub const TCP_USERS: Variant = tcp(100, Identity::ManyUsers);
#[allow(missing_docs, reason = "the name says it")]
pub const WS_STRANGERS: Variant = ws(100, Identity::Nobody);
#[allow(missing_docs, reason = "the name says it")]
pub const TCP_STRANGERS: Variant = tcp(100, Identity::Nobody);
/// More than a user or an address is likely to be allowed, on either transport.
pub const WS_MANY: Variant = ws(1_000, Identity::ManyUsers);
#[allow(missing_docs, reason = "the name says it")]
pub const TCP_MANY: Variant = tcp(1_000, Identity::ManyUsers);
#[allow(missing_docs, reason = "the name says it")]
pub const WS_MANY_STRANGERS: Variant = ws(1_000, Identity::Nobody);
#[allow(missing_docs, reason = "the name says it")]
pub const TCP_MANY_STRANGERS: Variant = tcp(1_000, Identity::Nobody);
/// More than the table has rows.
pub const WS_ALL_STRANGERS: Variant = ws(11_000, Identity::Nobody);
#[allow(missing_docs, reason = "the name says it")]
pub const TCP_ALL_STRANGERS: Variant = tcp(11_000, Identity::Nobody);
#[allow(missing_docs, reason = "the name says it")]
pub const TCP_ALL_ONE: Variant = tcp(11_000, Identity::OneUser);
#[allow(missing_docs, reason = "the name says it")]
pub const TCP_ALL_USERS: Variant = tcp(11_000, Identity::ManyUsers);
/// Four hundred sessions of one user.
pub const WS_SESSIONS: Variant = ws(400, Identity::OneUser);
#[allow(missing_docs, reason = "the name says it")]
pub const TCP_SESSIONS: Variant = tcp(400, Identity::OneUser);

/// What is attacked.
#[derive(Clone)]
pub struct Target {
    /// One, or the hosts of a cluster; attackers are on the first unless they need the second.
    pub hosts: Vec<Addresses>,
    /// What they do at random follows from it.
    pub seed: u64,
}

/// One attack.
pub struct Attack {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub does: &'static str,
    /// The forms in which it is tried.
    pub variants: &'static [Variant],
    /// Its connections.
    pub crowds: fn(&Target, Variant) -> Vec<Crowd>,
    /// Hosts that it needs: 1, or 2.
    pub hosts: usize,
    /// Keys that are not as shipped.
    pub settings: &'static [(&'static str, bool)],
}

impl Attack {
    /// On one host, as shipped.
    pub(super) const fn here(
        name: &'static str,
        does: &'static str,
        variants: &'static [Variant],
        crowds: fn(&Target, Variant) -> Vec<Crowd>,
    ) -> Attack {
        Attack {
            name,
            does,
            variants,
            crowds,
            hosts: 1,
            settings: &[],
        }
    }
}

/// Every attack.
pub fn all() -> Vec<Attack> {
    let mut all = floods::all();
    all.extend(requests::all());
    all.extend(unread::all());
    all.extend(partial::all());
    all.extend(connections::all());
    all.extend(across::all());
    all
}

/// The cells of the quick part: one of each kind, most of which a server without shares and turns fails.
pub const QUICK: [(&str, Variant); 10] = [
    ("unread-pings", WS_NOBODY),
    ("pings", WS_HUNDRED),
    ("who-group", TCP_ONE),
    ("own-sessions", WS_SESSIONS),
    ("own-group", TCP_ONE),
    ("unread-own", TCP_USERS),
    ("partial-messages", TCP_MANY),
    ("new-groups", TCP_USERS),
    ("connect-close", TCP_STRANGERS),
    ("bad-json", TCP_STRANGERS),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_quick_cells_exist() {
        let all = all();
        assert!(all.len() >= 30, "{} attacks", all.len());
        let names: HashSet<_> = all.iter().map(|attack| attack.name).collect();
        assert_eq!(names.len(), all.len());
        for (name, variant) in QUICK {
            let attack = all.iter().find(|attack| attack.name == name);
            let attack = attack.unwrap_or_else(|| panic!("no attack {name}"));
            assert!(attack.variants.contains(&variant), "{name} {variant:?}");
        }
    }
}
