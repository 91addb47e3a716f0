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

/// Connects `count` clients, `at_once` at a time.
pub fn connect(subject: &Subject, count: usize, at_once: usize) -> Connected {
    let round = |from: usize| {
        let mut clients: Vec<Client> = (0..at_once)
            .map(|_| Client::ask_to_open(subject.address()))
            .collect();
        clients.iter_mut().for_each(Client::hear_open);
        for (number, client) in clients.iter_mut().enumerate() {
            client.say(Request::Login(from + number));
        }
        clients.iter_mut().for_each(Client::hear_system);
        clients.into_iter().for_each(Client::cut);
    };
    // The first ones fill caches.
    (0..10).for_each(|number| round(number * at_once));
    let (began, before) = (Instant::now(), tree::cpu(subject.pid()));
    let rounds = count.div_ceil(at_once);
    (0..rounds).for_each(|number| round(number * at_once));
    // What the ends cost belongs to it.
    std::thread::sleep(Duration::from_millis(200));
    Connected {
        connections: rounds * at_once,
        seconds: began.elapsed().as_secs_f64() - 0.2,
        server: tree::cpu(subject.pid()) - before,
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
