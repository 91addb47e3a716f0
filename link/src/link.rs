//! What the link works with. Every other file adds methods for its own subject.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use bus::Bus;
use config::Config;
use directory::{Away, Directory, Entry, Host, Key};
use shm_table::{Congestion, Hands, RowHandle, Table};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::elsewhere::Elsewhere;
use crate::lane::Outcome;
use crate::letters::Letters;
use crate::mail::Routing;
use crate::peers::Peers;
use crate::presence::Presence;
use crate::who::{Known, Questions};

/// All that is at hand. Only `hands` reaches the table, and only between two awaits of the main task.
pub struct Link<'t> {
    pub table: &'t Table,
    pub hands: Hands<'t>,
    pub settings: Config,
    /// This host's name.
    pub node: Rc<str>,
    /// Which life of this host it is: 16 hexadecimal digits.
    pub boot: String,
    pub directory: Directory,
    pub hosts: watch::Receiver<Arc<BTreeMap<String, Host>>>,
    /// The directory answered when it was last asked.
    pub directory_up: bool,
    pub bus: Bus,
    /// Table milliseconds, read once a turn.
    pub now_ms: u64,
    /// How logins here compare with those elsewhere.
    pub clock: Clock,
    pub presence: Presence,
    pub elsewhere: Elsewhere,
    pub letters: Letters,
    pub routing: Routing,
    pub questions: Questions,
    pub peers: Peers,
    /// Questions to the directory that are under way.
    pub tasks: JoinSet<Done>,
    /// What other hosts send is not looked at while a worker here has no turn to write.
    pub congestion: Option<Congestion>,
    /// The bus had no room in this turn.
    pub crowded: bool,
    /// The largest parcel that a frame of the bus takes.
    pub parcel_bytes_max: usize,
    /// Buffers that are used again, each by one function at a time.
    pub scratch: Vec<u8>,
    pub read: Vec<u8>,
    pub recipients: Vec<RowHandle>,
    pub answers: Vec<(u64, Outcome)>,
}

/// What the directory has answered.
pub enum Done {
    /// Where letters go.
    Routed(Vec<Key>, Result<Vec<Vec<Entry>>, Away>),
    /// Where the group of a question has members.
    Group(u64, Key, Result<Vec<Entry>, Away>),
    /// What is known of some users of a question.
    Users(u64, Result<Vec<Known>, Away>),
}

impl Link<'_> {
    /// Takes over an answer of the directory.
    pub fn done(&mut self, done: Done) {
        match done {
            Done::Routed(keys, entries) => self.routed(keys, entries),
            Done::Group(number, key, entries) => self.group_known(number, key, entries),
            Done::Users(number, known) => self.users_known(number, known),
        }
    }
}
