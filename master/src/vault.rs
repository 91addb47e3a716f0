//! The vault: the master's duplicate of every client's connection, by row.
//!
//! A connection stays open as long as its duplicate lies here, whatever happens to the worker that serves it.
//! The counts by network and by worker follow from the entries and change with them.

use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use role::Seat;
use shm_table::Slot;

use crate::network::{Crowd, Network};

struct Entry {
    connection: TcpStream,
    generation: u32,
    network: Network,
    worker: Slot,
    /// When it was kept.
    since: Instant,
}

/// Every client's connection.
pub struct Vault {
    entries: Vec<Option<Entry>>,
    crowd: Crowd,
    by_worker: [u32; Slot::MAX as usize + 1],
}

impl Vault {
    /// Room for `rows` connections.
    pub fn new(rows: u32) -> Self {
        Self {
            entries: std::iter::repeat_with(|| None)
                .take(rows as usize)
                .collect(),
            crowd: Crowd::default(),
            by_worker: [0; Slot::MAX as usize + 1],
        }
    }

    /// Keeps a connection under its row.
    pub fn keep(&mut self, seat: Seat, connection: TcpStream, network: Network, worker: Slot) {
        let Some(entry) = self.entries.get_mut(seat.row as usize) else {
            return;
        };
        self.crowd.add(network);
        self.by_worker[usize::from(worker)] += 1;
        let before = entry.replace(Entry {
            connection,
            generation: seat.generation,
            network,
            worker,
            since: Instant::now(),
        });
        if let Some(before) = before {
            // The table gave a row twice. The counts stay true; the older connection ends.
            tracing::error!(
                row = seat.row,
                "a row was seated while its connection was open"
            );
            self.uncount(&before);
        }
    }

    /// A connection's descriptor, unless it is closed already.
    pub fn descriptor(&self, seat: Seat) -> Option<BorrowedFd<'_>> {
        let entry = self.entries.get(seat.row as usize)?.as_ref()?;
        (entry.generation == seat.generation).then(|| entry.connection.as_fd())
    }

    /// Closes the duplicate of a connection whose worker has finished with it. False: it is not here.
    pub fn close(&mut self, seat: Seat) -> bool {
        self.take(seat).is_some()
    }

    /// Ends a connection that nobody serves any more, for its peer and for every process that has it. False: it is not here.
    pub fn cut(&mut self, seat: Seat) -> bool {
        let Some(entry) = self.take(seat) else {
            return false;
        };
        // An error means that the peer was faster.
        let _ = entry.connection.shutdown(Shutdown::Both);
        true
    }

    /// Gives a connection out of the hand, which nobody serves any more. `None`: it is not here.
    pub fn release(&mut self, seat: Seat) -> Option<(TcpStream, Network)> {
        self.take(seat)
            .map(|entry| (entry.connection, entry.network))
    }

    /// A connection is another worker's from here on. False: it is not here.
    pub fn pass(&mut self, seat: Seat, to: Slot) -> bool {
        let entry = self.entries.get_mut(seat.row as usize);
        let Some(entry) = entry.and_then(|entry| entry.as_mut()) else {
            return false;
        };
        if entry.generation != seat.generation {
            return false;
        }
        let from = std::mem::replace(&mut entry.worker, to);
        self.by_worker[usize::from(from)] -= 1;
        self.by_worker[usize::from(to)] += 1;
        true
    }

    /// A connection really comes from this network. False: so it is counted already, or it is not here.
    pub fn moved(&mut self, seat: Seat, network: Network) -> bool {
        let entry = self.entries.get_mut(seat.row as usize);
        let Some(entry) = entry.and_then(|entry| entry.as_mut()) else {
            return false;
        };
        if entry.generation != seat.generation || entry.network == network {
            return false;
        }
        let before = std::mem::replace(&mut entry.network, network);
        self.crowd.remove(before);
        self.crowd.add(network);
        true
    }

    /// The slot whose process serves a connection.
    pub fn worker_of(&self, seat: Seat) -> Option<Slot> {
        let entry = self.entries.get(seat.row as usize)?.as_ref()?;
        (entry.generation == seat.generation).then_some(entry.worker)
    }

    /// Every connection of a slot, whoever is there.
    pub fn of_slot(&self, worker: Slot) -> impl Iterator<Item = Seat> {
        // Most slots that are asked for have no connections, or have many.
        let entries = match self.of_worker(worker) {
            0 => &[],
            _ => self.entries.as_slice(),
        };
        (0..).zip(entries).filter_map(move |(row, entry)| {
            let entry = entry.as_ref().filter(|entry| entry.worker == worker)?;
            Some(Seat {
                row,
                generation: entry.generation,
            })
        })
    }

    /// Every connection.
    pub fn seats(&self) -> impl Iterator<Item = Seat> {
        (0..).zip(&self.entries).filter_map(|(row, entry)| {
            let generation = entry.as_ref()?.generation;
            Some(Seat { row, generation })
        })
    }

    /// Every connection with what it was kept under.
    pub fn entries(&self) -> impl Iterator<Item = (Seat, BorrowedFd<'_>, Network, Slot)> {
        (0..).zip(&self.entries).filter_map(|(row, entry)| {
            let entry = entry.as_ref()?;
            let generation = entry.generation;
            let connection = entry.connection.as_fd();
            Some((
                Seat { row, generation },
                connection,
                entry.network,
                entry.worker,
            ))
        })
    }

    /// How many connections come from where.
    pub fn crowd(&self) -> &Crowd {
        &self.crowd
    }

    /// Connections with where they come from and since when, of every `step`th row.
    pub fn arrivals(&self, step: usize) -> impl Iterator<Item = (Seat, Network, Instant)> {
        let entries = (0..).zip(&self.entries).step_by(step);
        entries.filter_map(|(row, entry)| {
            let entry = entry.as_ref()?;
            let generation = entry.generation;
            Some((Seat { row, generation }, entry.network, entry.since))
        })
    }

    /// Connections that one worker was given.
    pub fn of_worker(&self, worker: Slot) -> u32 {
        self.by_worker[usize::from(worker)]
    }

    fn take(&mut self, seat: Seat) -> Option<Entry> {
        let entry = self
            .entries
            .get_mut(seat.row as usize)?
            .take_if(|e| e.generation == seat.generation)?;
        self.uncount(&entry);
        Some(entry)
    }

    fn uncount(&mut self, entry: &Entry) {
        self.by_worker[usize::from(entry.worker)] -= 1;
        self.crowd.remove(entry.network);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::TcpListener;

    fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    fn network(text: &str) -> Network {
        let address: std::net::SocketAddr = text.parse().unwrap();
        Network::of(address.ip())
    }

    #[test]
    fn whoever_comes_through_a_proxy_is_counted_where_he_is() {
        let mut vault = Vault::new(4);
        let (proxy, home) = (network("10.0.0.1:1"), network("192.0.2.1:1"));
        let seats = [0, 1].map(|row| Seat { row, generation: 1 });
        for seat in seats {
            vault.keep(seat, connection().1, proxy, 4);
        }
        let old = Seat {
            generation: 0,
            ..seats[0]
        };
        assert!(!vault.moved(old, home));
        assert!(!vault.moved(seats[0], proxy));
        assert!(vault.moved(seats[0], home));
        assert!(!vault.moved(seats[0], home), "twice is once");
        assert_eq!(
            (
                vault.crowd().of_network(proxy),
                vault.crowd().of_network(home)
            ),
            (1, 1)
        );
        assert!(vault.moved(seats[1], home));
        assert_eq!(
            (
                vault.crowd().of_network(proxy),
                vault.crowd().of_network(home)
            ),
            (0, 2)
        );
        assert!(vault.close(seats[0]) && vault.close(seats[1]));
        assert!(!vault.moved(seats[0], proxy));
        assert_eq!(vault.crowd().of_network(home), 0);
        assert_eq!(vault.crowd.largest(), None);
    }

    #[test]
    fn only_the_right_generation_opens_the_vault() {
        let mut vault = Vault::new(4);
        let (seat, old) = (
            Seat {
                row: 3,
                generation: 7,
            },
            Seat {
                row: 3,
                generation: 6,
            },
        );
        let (mut client, here) = connection();
        vault.keep(seat, here, network("10.0.0.1:1"), 4);
        assert!(vault.descriptor(old).is_none());
        assert!(!vault.close(old));
        assert!(vault.descriptor(seat).is_some());
        assert_eq!(
            (
                vault.of_worker(4),
                vault.crowd().of_network(network("10.0.0.1:2"))
            ),
            (1, 1)
        );
        assert_eq!(vault.of_slot(4).collect::<Vec<_>>(), [seat]);
        assert_eq!(vault.of_slot(5).count(), 0);
        assert_eq!(
            (vault.worker_of(seat), vault.worker_of(old)),
            (Some(4), None)
        );

        assert!(vault.close(seat));
        assert!(!vault.close(seat));
        assert_eq!(
            (
                vault.of_worker(4),
                vault.crowd().of_network(network("10.0.0.1:2"))
            ),
            (0, 0)
        );
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
        assert!(
            vault
                .descriptor(Seat {
                    row: 99,
                    generation: 0
                })
                .is_none()
        );
    }

    #[test]
    fn a_connection_that_passes_to_another_worker_is_counted_there() {
        let mut vault = Vault::new(2);
        let seat = Seat {
            row: 1,
            generation: 3,
        };
        let old = Seat {
            generation: 2,
            ..seat
        };
        vault.keep(seat, connection().1, network("10.0.0.1:1"), 4);
        assert!(!vault.pass(old, 5));
        assert!(vault.pass(seat, 5));
        assert_eq!((vault.of_worker(4), vault.of_worker(5)), (0, 1));
        assert_eq!(vault.worker_of(seat), Some(5));
        assert!(vault.release(old).is_none());
        assert!(vault.release(seat).is_some());
        assert_eq!(vault.of_worker(5), 0);
        assert!(!vault.pass(seat, 4));
    }

    #[test]
    fn a_cut_connection_ends_even_where_a_duplicate_is_open() {
        let mut vault = Vault::new(1);
        let (mut client, here) = connection();
        let duplicate = here.try_clone().unwrap();
        let seat = Seat {
            row: 0,
            generation: 1,
        };
        vault.keep(seat, here, network("10.0.0.1:1"), 4);
        assert!(vault.cut(seat));
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
        drop(duplicate);
    }

    #[test]
    fn networks() {
        assert_eq!(network("10.0.0.1:1"), network("[::ffff:10.0.0.1]:2"));
        assert_ne!(network("10.0.0.1:1"), network("10.0.0.2:1"));
        assert_eq!(network("[2001:db8::1]:1"), network("[2001:db8::ffff:2]:1"));
        assert_ne!(network("[2001:db8::1]:1"), network("[2001:db8:0:1::1]:1"));
        assert_ne!(network("[::1]:1"), network("0.0.0.1:1"));
    }
}
