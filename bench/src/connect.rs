//! `connect`: clients that connect, log in and are cut off. `idle`: clients that only stay.

use std::time::{Duration, Instant};

use yardstick::layout::Request;

use crate::subject::Subject;
use crate::swarm::{self, Client};
use crate::tree;

/// What connections cost.
#[derive(Clone, Copy, Debug)]
pub struct Connected {
    pub connections: usize,
    pub seconds: f64,
    pub server: Duration,
}

impl Connected {
    /// The server's processor time for each connection, in microseconds.
    pub fn us_each(&self) -> f64 {
        self.server.as_secs_f64() * 1e6 / self.connections as f64
    }
}

impl std::fmt::Display for Connected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rate = self.connections as f64 / self.seconds;
        writeln!(
            f,
            "logged in    {} in {:.2} s, {rate:.0} a second",
            self.connections, self.seconds
        )?;
        write!(
            f,
            "server       {:.1} us of processor time each",
            self.us_each()
        )
    }
}

/// Clients that connect, log in and are cut off.
#[derive(Clone, Copy, Debug)]
pub struct Newcomers {
    pub count: usize,
    /// How many connect before the first of them is cut off.
    pub at_once: usize,
    /// Sessions that are there all the time.
    pub beside: usize,
    /// All of them, those beside as well, join one group.
    pub join: bool,
}

impl Newcomers {
    /// So many, as they are measured where nothing else is said.
    pub fn usual(count: usize) -> Newcomers {
        Newcomers {
            count,
            at_once: 50,
            beside: 0,
            join: false,
        }
    }

    pub fn connect(&self, subject: &Subject) -> Connected {
        let mut beside = swarm::log_in(subject.address(), 500_000, self.beside);
        self.all_join(&mut beside);
        // The first ones fill caches.
        (0..10).for_each(|number| self.round(subject, number * self.at_once));
        let (began, before) = (Instant::now(), tree::cpu(subject.pid()));
        let rounds = self.count.div_ceil(self.at_once);
        (0..rounds).for_each(|number| self.round(subject, number * self.at_once));
        // What the ends cost belongs to it.
        std::thread::sleep(Duration::from_millis(200));
        let connected = Connected {
            connections: rounds * self.at_once,
            seconds: began.elapsed().as_secs_f64() - 0.2,
            server: tree::cpu(subject.pid()) - before,
        };
        beside.into_iter().for_each(Client::cut);
        connected
    }

    fn round(&self, subject: &Subject, from: usize) {
        let mut clients: Vec<Client> = (0..self.at_once)
            .map(|_| Client::ask_to_open(subject.address()))
            .collect();
        clients.iter_mut().for_each(Client::hear_open);
        for (number, client) in clients.iter_mut().enumerate() {
            client.say(Request::Login(from + number));
        }
        clients.iter_mut().for_each(Client::hear_system);
        self.all_join(&mut clients);
        clients.into_iter().for_each(Client::cut);
    }

    fn all_join(&self, clients: &mut [Client]) {
        if self.join {
            for client in clients.iter_mut() {
                client.say(Request::Join(0));
            }
            clients.iter_mut().for_each(Client::hear_system);
        }
    }
}

/// What clients cost that do nothing.
#[derive(Clone, Copy, Debug)]
pub struct Idle {
    /// Memory of each, private and shared.
    pub bytes_each: f64,
    /// Part of a core that the server uses all the same.
    pub load: f64,
}

impl std::fmt::Display for Idle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "memory       {:.0} bytes for each connection",
            self.bytes_each
        )?;
        write!(
            f,
            "processor    {:.3} % of a core while nothing happens",
            self.load * 100.0
        )
    }
}

/// Holds `count` logged-in clients for `span`.
pub fn idle(subject: &Subject, count: usize, span: Duration) -> Idle {
    // The first ones touch what belongs to no connection.
    let first = swarm::log_in(subject.address(), 900_000, 64);
    let before = tree::pss(subject.pid());
    let clients = swarm::log_in(subject.address(), 0, count);
    std::thread::sleep(Duration::from_secs(1));
    let bytes = tree::pss(subject.pid()).saturating_sub(before);
    let spent = tree::cpu(subject.pid());
    std::thread::sleep(span);
    let spent = tree::cpu(subject.pid()) - spent;
    first.into_iter().chain(clients).for_each(Client::cut);
    Idle {
        bytes_each: bytes as f64 / count as f64,
        load: spent.as_secs_f64() / span.as_secs_f64(),
    }
}
