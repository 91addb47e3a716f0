//! Newcomers for whom there is no seat: each is told so, without a byte of theirs being read, and then let go.
//!
//! Closing at once would lose the answer: a socket that is closed with unread bytes resets the connection, and the client's system
//! throws away what it has received. So the sending side is shut, and the connection lingers until the client closes or a moment has
//! passed. At most `limits.refusals` linger at a time. Past that the oldest of the address that has the most of them is closed for one of an
//! address that has fewer, and any other newcomer at once: a flood from one address leaves the others their sentence.

use std::collections::{HashMap, VecDeque};
use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use nix::sys::epoll::EpollFlags;
use protocol::code::{CloseCode, ErrorCode};
use shm_table::Transport;

use crate::network::{Crowd, Network};
use crate::poller::{Poller, Token};

/// How long a refused newcomer may take to close.
const LINGER: Duration = Duration::from_secs(1);

/// When to come again, in seconds, as told in `Retry-After`.
pub const RETRY_AFTER: &str = "5";

/// Why somebody is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Every row of the table is taken.
    Full,
    /// `limits.connections_per_ip` is reached.
    TooManyFromThere,
    /// Rows are short, and as many as are free are taken from there already.
    ShareFromThere,
    /// The server is stopping.
    Draining,
    /// No worker lives, and none can be started.
    Unserved,
}

impl Reason {
    fn sentence(self) -> &'static str {
        match self {
            Self::Full => "the server is full, try again later",
            Self::TooManyFromThere => "too many connections from your address",
            Self::ShareFromThere => {
                "the server is nearly full, and your address has its share of it; try again later"
            }
            Self::Draining => "the server is stopping, try again later",
            Self::Unserved => "no process of the server can serve you now, try again later",
        }
    }
}

/// The refusals that are in progress.
#[derive(Default)]
pub struct Refusals {
    lingering: HashMap<u32, (TcpStream, Network)>,
    crowd: Crowd,
    /// In the order of their ends, which is that of their beginnings. Some have ended early.
    ends: VecDeque<(Instant, u32)>,
    next: u32,
    total: u64,
}

impl Refusals {
    /// Those that follow `total` of another master.
    pub fn after(total: u64) -> Self {
        Self {
            total,
            ..Self::default()
        }
    }

    /// Tells a newcomer that there is no seat.
    pub fn refuse(
        &mut self,
        poller: &Poller,
        connection: TcpStream,
        network: Network,
        transport: Transport,
        reason: Reason,
        most: u32,
    ) {
        self.total += 1;
        if self.has_room(poller, network, most) {
            let words = answer(transport, reason);
            self.let_go(poller, connection, network, &words, most);
        }
    }

    /// Makes room for one more of a network, if there is none and another network has more than this one.
    fn has_room(&mut self, poller: &Poller, network: Network, most: u32) -> bool {
        if self.lingering.len() < most as usize {
            return true;
        }
        let Some((largest, count)) = self.crowd.largest() else {
            return false;
        };
        if count <= self.crowd.of_network(network) + 1 {
            return false;
        }
        let is_largest = |number: &u32| {
            let lingering = self.lingering.get(number);
            lingering.is_some_and(|(_, network)| *network == largest)
        };
        let oldest = self.ends.iter().map(|(_, number)| *number).find(is_largest);
        if let Some(oldest) = oldest {
            self.closed(poller, oldest);
        }
        // Those that ended before their time are forgotten before they are many.
        if self.ends.len() > 2 * most as usize {
            self.ends
                .retain(|(_, number)| self.lingering.contains_key(number));
        }
        self.lingering.len() < most as usize
    }

    /// Tells a client its last words and lets it go: those of whom too many linger already without waiting whether they arrive.
    pub fn let_go(
        &mut self,
        poller: &Poller,
        mut connection: TcpStream,
        network: Network,
        words: &[u8],
        most: u32,
    ) {
        // A new connection has room for these few bytes; one that has not, or is gone, is not told.
        let told = !words.is_empty()
            && connection.write_all(words).is_ok()
            && connection.shutdown(Shutdown::Write).is_ok();
        if !told || self.lingering.len() >= most as usize {
            // Another process may have it open, though none serves it.
            let _ = connection.shutdown(Shutdown::Both);
            return;
        }
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        let flags = EpollFlags::EPOLLRDHUP;
        if poller
            .add(&connection, Token::Refusal(number), flags)
            .is_ok()
        {
            self.lingering.insert(number, (connection, network));
            self.crowd.add(network);
            self.ends.push_back((Instant::now() + LINGER, number));
        }
    }

    /// Somebody is refused whom a worker has to tell.
    pub fn note(&mut self) {
        self.total += 1;
    }

    /// The client has closed, or broken the connection.
    pub fn closed(&mut self, poller: &Poller, number: u32) {
        if let Some((connection, network)) = self.lingering.remove(&number) {
            self.crowd.remove(network);
            poller.remove(&connection);
        }
        // Those that are over need no end any more; without this the queue would grow with the rate of refusals.
        while self
            .ends
            .front()
            .is_some_and(|(_, n)| !self.lingering.contains_key(n))
        {
            self.ends.pop_front();
        }
    }

    /// Lets go those who have lingered long enough.
    pub fn time(&mut self, poller: &Poller, now: Instant) {
        while let Some(&(end, number)) = self.ends.front() {
            if end > now {
                return;
            }
            self.ends.pop_front();
            self.closed(poller, number);
        }
    }

    /// When [`Self::time`] has something to do.
    pub fn next_end(&self) -> Option<Instant> {
        self.ends.front().map(|&(end, _)| end)
    }

    /// How many are in progress.
    pub fn in_progress(&self) -> usize {
        self.lingering.len()
    }

    /// How many there have been.
    pub fn total(&self) -> u64 {
        self.total
    }
}

fn answer(transport: Transport, reason: Reason) -> Vec<u8> {
    let sentence = reason.sentence();
    match transport {
        Transport::WebSocket => {
            protocol::http::refusal(503, &[("Retry-After", RETRY_AFTER)], sentence)
        }
        Transport::Tcp => {
            let mut line = Vec::new();
            // Writing to memory does not fail.
            let _ = protocol::reply::error(
                &mut line,
                ErrorCode::Capacity,
                sentence,
                None,
                Some(CloseCode::TRY_AGAIN),
            );
            line.push(b'\n');
            line
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::TcpListener;

    struct Scene {
        poller: Poller,
        listener: TcpListener,
        refusals: Refusals,
    }

    impl Scene {
        fn new() -> Self {
            Self {
                poller: Poller::new().unwrap(),
                listener: TcpListener::bind("127.0.0.1:0").unwrap(),
                refusals: Refusals::default(),
            }
        }

        /// A client that has sent something and is then refused.
        fn refused(&mut self, transport: Transport, most: u32) -> TcpStream {
            self.refused_from(1, transport, most)
        }

        /// The same, of one of several networks.
        fn refused_from(&mut self, from: u8, transport: Transport, most: u32) -> TcpStream {
            let network = Network::of([192, 0, 2, from].into());
            let mut client = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
            client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
            let connection = self.listener.accept().unwrap().0;
            self.refusals.refuse(
                &self.poller,
                connection,
                network,
                transport,
                Reason::Full,
                most,
            );
            client
        }

        fn turn(&mut self) {
            for token in self.poller.wait(Some(Duration::from_secs(5))).unwrap() {
                let Token::Refusal(number) = token else {
                    panic!("{token:?}")
                };
                self.refusals.closed(&self.poller, number);
            }
        }
    }

    #[test]
    fn the_answer_arrives_although_nothing_was_read() {
        let mut scene = Scene::new();
        let mut client = scene.refused(Transport::WebSocket, 8);
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("HTTP/1.1 503 "), "{text}");
        assert!(
            text.to_ascii_lowercase().contains("\r\nretry-after: 5\r\n"),
            "{text}"
        );

        let mut client = scene.refused(Transport::Tcp, 8);
        let mut line = String::new();
        client.read_to_string(&mut line).unwrap();
        let line: serde_json::Value =
            serde_json::from_str(line.strip_suffix('\n').unwrap()).unwrap();
        assert_eq!(
            (&line["type"], &line["code"]),
            (&"error".into(), &"capacity".into())
        );
        assert_eq!(line["closeCode"], 1013);
    }

    #[test]
    fn it_ends_when_the_client_closes_or_after_a_moment() {
        let mut scene = Scene::new();
        let polite = scene.refused(Transport::Tcp, 8);
        let mut silent = scene.refused(Transport::Tcp, 8);
        assert_eq!(scene.refusals.in_progress(), 2);
        drop(polite);
        scene.turn();
        assert_eq!(scene.refusals.in_progress(), 1);

        let now = Instant::now();
        scene.refusals.time(&scene.poller, now);
        assert_eq!(scene.refusals.in_progress(), 1, "not yet");
        scene.refusals.time(&scene.poller, now + LINGER);
        assert_eq!(
            (scene.refusals.in_progress(), scene.refusals.next_end()),
            (0, None)
        );
        let mut answer = Vec::new();
        // It has its answer; what follows may be a reset, because it sent what nobody read.
        let _ = silent.read_to_end(&mut answer);
        assert!(!answer.is_empty());
    }

    #[test]
    fn past_the_limit_they_are_closed_without_a_word_and_nothing_is_left() {
        let mut scene = Scene::new();
        let first = scene.refused(Transport::Tcp, 1);
        let mut second = scene.refused(Transport::Tcp, 1);
        let mut answer = Vec::new();
        let _ = second.read_to_end(&mut answer);
        assert!(answer.is_empty());
        drop(first);
        scene.turn();
        for _ in 0..100 {
            drop(scene.refused(Transport::Tcp, 1));
            scene.turn();
        }
        assert_eq!(scene.refusals.total(), 102);
        assert_eq!(
            (scene.refusals.in_progress(), scene.refusals.ends.len()),
            (0, 0)
        );
    }

    #[test]
    fn a_flood_from_one_network_leaves_the_others_their_sentence() {
        let mut scene = Scene::new();
        let told = |scene: &mut Scene, from| {
            let mut client = scene.refused_from(from, Transport::Tcp, 8);
            let mut answer = Vec::new();
            let _ = client.read_to_end(&mut answer);
            (client, !answer.is_empty())
        };
        let flood: Vec<_> = (0..100).map(|_| told(&mut scene, 1)).collect();
        assert_eq!(flood.iter().filter(|(_, told)| *told).count(), 8);
        let others: Vec<_> = (2..6).map(|from| told(&mut scene, from)).collect();
        assert!(others.iter().all(|(_, told)| *told));
        assert!(
            !told(&mut scene, 1).1,
            "they have more than their part still"
        );
        assert_eq!(scene.refusals.in_progress(), 8);
        assert!(scene.refusals.ends.len() <= 17);
    }
}
