//! `storm`: everybody is cut off at once and returns at once, and again where the server says that it is full.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrStorage, connect, recv, send, socket,
};
use std::os::fd::{AsRawFd, OwnedFd};
use tests::raw::upgrade_request;
use yardstick::layout::Request;
use yardstick::wire;

use crate::subject::Subject;
use crate::swarm;
use crate::tree;

/// How long a storm may last.
const PATIENCE: Duration = Duration::from_secs(60);

/// What became of a storm.
#[derive(Clone, Copy, Debug)]
pub struct Storm {
    pub clients: usize,
    /// Until the last one was logged in again.
    pub seconds: f64,
    /// Connections that were turned away, or ended, before they were logged in.
    pub refused: usize,
    pub server: Duration,
}

impl std::fmt::Display for Storm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rate = self.clients as f64 / self.seconds;
        writeln!(
            f,
            "all {} are back after {:.2} s ({rate:.0} a second), {} refused",
            self.clients, self.seconds, self.refused
        )?;
        let us = self.server.as_secs_f64() * 1e6 / self.clients as f64;
        write!(f, "server       {us:.1} us of processor time each")
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Stage {
    Connecting,
    Upgrading,
    LoggingIn,
    Back,
}

struct Client {
    socket: OwnedFd,
    stage: Stage,
    heard: Vec<u8>,
}

/// Logs `count` clients in, cuts them all off, and lets them all return.
pub fn run(subject: &Subject, count: usize) -> Storm {
    let clients = swarm::log_in(subject.address(), 0, count);
    std::thread::sleep(Duration::from_millis(300));
    let spent = tree::cpu(subject.pid());
    let began = Instant::now();
    clients.into_iter().for_each(swarm::Client::cut);
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
    let mut clients: Vec<Client> = (0..count)
        .map(|number| return_to(subject.address(), &epoll, number))
        .collect();
    let mut events = vec![EpollEvent::empty(); 1024];
    let (mut back, mut refused) = (0, 0);
    while back < count {
        assert!(
            began.elapsed() < PATIENCE,
            "{back} of {count} are back after {PATIENCE:?}"
        );
        let came = epoll
            .wait(&mut events, EpollTimeout::from(100_u16))
            .unwrap_or(0);
        for event in &events[..came] {
            let number = event.data() as usize;
            let client = &mut clients[number];
            match client.go_on(subject.address(), number, event.events()) {
                Ok(true) => back += 1,
                Ok(false) => {}
                Err(()) => {
                    refused += 1;
                    *client = return_to(subject.address(), &epoll, number);
                }
            }
        }
    }
    Storm {
        clients: count,
        seconds: began.elapsed().as_secs_f64(),
        refused,
        server: tree::cpu(subject.pid()) - spent,
    }
}

fn return_to(address: SocketAddr, epoll: &Epoll, number: usize) -> Client {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Inet, SockType::Stream, flags, None).unwrap();
    // It goes on meanwhile.
    let _ = connect(socket.as_raw_fd(), &SockaddrStorage::from(address));
    let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
    epoll
        .add(&socket, EpollEvent::new(flags, number as u64))
        .unwrap();
    Client {
        socket,
        stage: Stage::Connecting,
        heard: Vec::new(),
    }
}

impl Client {
    /// True when it has just been logged in; an error when the connection is over.
    fn go_on(
        &mut self,
        address: SocketAddr,
        number: usize,
        events: EpollFlags,
    ) -> Result<bool, ()> {
        if self.stage == Stage::Back {
            return Ok(false);
        }
        if events.intersects(EpollFlags::EPOLLERR) {
            return Err(());
        }
        if self.stage == Stage::Connecting && events.contains(EpollFlags::EPOLLOUT) {
            self.say(upgrade_request(address, "/ws", "").as_bytes())?;
            self.stage = Stage::Upgrading;
        }
        let mut buffer = [0; 4096];
        loop {
            match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(0) => return Err(()),
                Ok(bytes) => self.heard.extend_from_slice(&buffer[..bytes]),
                Err(nix::errno::Errno::EAGAIN) => break,
                Err(_) => return Err(()),
            }
        }
        let has = |heard: &[u8], part: &str| memchr::memmem::find(heard, part.as_bytes()).is_some();
        if self.stage == Stage::Upgrading && has(&self.heard, "\"type\":\"open\"") {
            let text = Request::Login(number).text("");
            self.say(&wire::text(text.as_bytes(), [7, 77, 177, 7]))?;
            self.stage = Stage::LoggingIn;
        }
        if self.stage == Stage::LoggingIn && has(&self.heard, "\"event\":\"login\"") {
            self.stage = Stage::Back;
            self.heard = Vec::new();
            return Ok(true);
        }
        Ok(false)
    }

    fn say(&self, bytes: &[u8]) -> Result<(), ()> {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        match send(self.socket.as_raw_fd(), bytes, flags) {
            Ok(sent) if sent == bytes.len() => Ok(()),
            _ => Err(()),
        }
    }
}
