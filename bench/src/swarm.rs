//! Many clients in one thread, at little cost: what they send is prepared and only patched, what they get is compared where it lies.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{MsgFlags, recv, send};
use tests::raw::upgrade_request;
use yardstick::layout::Request;
use yardstick::wire::{self, Frame};

use crate::content::{Content, Template};

/// How long a client waits for an answer while it logs in.
const PATIENCE: Duration = Duration::from_secs(20);

/// Bytes read at once; more than one client's share of what is under way.
const READ_BYTES: usize = 1 << 20;

/// One logged-in client.
pub struct Client {
    stream: TcpStream,
    rest: Vec<u8>,
    out: Vec<u8>,
    template: Option<Template>,
    dirty: bool,
    blocked: bool,
}

/// All clients. What arrives is handed out with the number of who got it.
pub struct Swarm {
    pub clients: Vec<Client>,
    epoll: Epoll,
    events: Vec<EpollEvent>,
    buffer: Vec<u8>,
    dirty: Vec<u32>,
    began: Instant,
}

impl Client {
    /// Connects and asks for the upgrade.
    pub fn ask_to_open(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).expect("the server takes connections");
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut client = Client {
            stream,
            rest: Vec::new(),
            out: Vec::new(),
            template: None,
            dirty: false,
            blocked: false,
        };
        client.write(upgrade_request(address, "/ws", "").as_bytes());
        client
    }

    /// Reads the answer to the upgrade, and `open`.
    pub fn hear_open(&mut self) {
        loop {
            if let Some(end) = memchr::memmem::find(&self.rest, b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&self.rest[..end]).into_owned();
                assert!(head.starts_with("HTTP/1.1 101 "), "not upgraded: {head}");
                self.rest.drain(..end + 4);
                break;
            }
            self.read_more();
        }
        self.expect("open");
    }

    /// Sends a request.
    pub fn say(&mut self, request: Request) {
        self.write(&wire::text(request.text("").as_bytes(), [7, 77, 177, 7]));
    }

    /// Reads the answer to a login or a join.
    pub fn hear_system(&mut self) {
        self.expect("system");
        self.rest.shrink_to_fit();
    }

    fn expect(&mut self, kind: &str) {
        loop {
            if let Some(frame) = Frame::read(&self.rest) {
                let text = String::from_utf8_lossy(frame.payload(&self.rest)).into_owned();
                let start = format!("{{\"type\":\"{kind}\"");
                assert!(text.starts_with(&start), "{kind} was expected: {text}");
                self.rest.drain(..frame.header + frame.len);
                return;
            }
            self.read_more();
        }
    }

    fn read_more(&mut self) {
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
            Ok(0) => panic!("the server ended a connection"),
            Ok(bytes) => self.rest.extend_from_slice(&buffer[..bytes]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => panic!("no answer from the server: {error}"),
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        self.stream
            .write_all(bytes)
            .expect("the server takes what is sent");
    }

    /// Ends the connection at once, without the states in which TCP remembers it (`SO_LINGER` 0, socket(7)).
    pub fn cut(self) {
        let linger = nix::libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        // On a connection that has gone already there is nothing to set.
        let _ =
            nix::sys::socket::setsockopt(&self.stream, nix::sys::socket::sockopt::Linger, &linger);
    }
}

/// Logs clients in, each as the user of its number from `from` on. A few at once: the server should be kept busy, and its queue of
/// newcomers short.
pub fn log_in(address: SocketAddr, from: usize, count: usize) -> Vec<Client> {
    let mut all = Vec::with_capacity(count);
    let mut number = from;
    while all.len() < count {
        let batch = 64.min(count - all.len());
        let mut clients: Vec<Client> = (0..batch).map(|_| Client::ask_to_open(address)).collect();
        clients.iter_mut().for_each(Client::hear_open);
        for client in &mut clients {
            client.say(Request::Login(number));
            number += 1;
        }
        clients.iter_mut().for_each(Client::hear_system);
        all.append(&mut clients);
    }
    all
}

impl Swarm {
    pub fn new(clients: Vec<Client>) -> Swarm {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
        for (number, client) in clients.iter().enumerate() {
            client.stream.set_nonblocking(true).unwrap();
            let event = EpollEvent::new(EpollFlags::EPOLLIN, number as u64);
            epoll.add(&client.stream, event).unwrap();
        }
        Swarm {
            clients,
            epoll,
            events: vec![EpollEvent::empty(); 1024],
            buffer: vec![0; READ_BYTES],
            dirty: Vec::new(),
            began: Instant::now(),
        }
    }

    /// Nanoseconds since the swarm was made.
    pub fn now(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    /// Prepares what a client sends from here on.
    pub fn prepare(&mut self, number: usize, request: Request, content: &Content) {
        self.clients[number].template = Some(Template::new(number, request, content));
    }

    /// Puts a client's next message into its output; it goes with the end of the turn.
    pub fn post(&mut self, number: usize, time: u64) {
        let client = &mut self.clients[number];
        let template = client.template.as_mut().expect("prepared");
        client.out.extend_from_slice(template.next(time));
        if !client.dirty {
            client.dirty = true;
            self.dirty.push(number as u32);
        }
    }

    /// Messages that a client has posted.
    pub fn posted(&self, number: usize) -> u64 {
        let template = self.clients[number].template.as_ref();
        template.map_or(0, Template::posted)
    }

    /// Writes what was posted, each socket once.
    pub fn flush(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for number in dirty.drain(..) {
            let client = &mut self.clients[number as usize];
            client.dirty = false;
            if client.blocked {
                continue;
            }
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            let sent = match send(client.stream.as_raw_fd(), &client.out, flags) {
                Ok(sent) => sent,
                Err(Errno::EAGAIN) => 0,
                Err(error) => panic!("client {number} cannot send: {error}"),
            };
            if sent == client.out.len() {
                client.out.clear();
            } else {
                client.out.drain(..sent);
                client.blocked = true;
                self.watch(number, EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT);
            }
        }
        self.dirty = dirty;
    }

    fn watch(&self, number: u32, flags: EpollFlags) {
        let mut event = EpollEvent::new(flags, number.into());
        let stream = &self.clients[number as usize].stream;
        self.epoll.modify(stream, &mut event).unwrap();
    }

    /// Waits for something to come, at most so long, and hands out each message with the number of who got it.
    pub fn turn(&mut self, most_ms: u16, mut heard: impl FnMut(&mut Swarm, usize, &[u8])) {
        let mut events = std::mem::take(&mut self.events);
        let count = match self.epoll.wait(&mut events, EpollTimeout::from(most_ms)) {
            Err(Errno::EINTR) => 0,
            other => other.unwrap(),
        };
        for event in &events[..count] {
            let number = event.data() as usize;
            if event.events().contains(EpollFlags::EPOLLOUT) {
                self.clients[number].blocked = false;
                self.watch(number as u32, EpollFlags::EPOLLIN);
                self.clients[number].dirty = true;
                self.dirty.push(number as u32);
            }
            if event.events().intersects(!EpollFlags::EPOLLOUT) {
                self.read(number, &mut heard);
            }
        }
        self.events = events;
    }

    fn read(&mut self, number: usize, heard: &mut impl FnMut(&mut Swarm, usize, &[u8])) {
        let mut buffer = std::mem::take(&mut self.buffer);
        let client = &mut self.clients[number];
        let kept = client.rest.len();
        buffer[..kept].copy_from_slice(&client.rest);
        client.rest.clear();
        let fd = client.stream.as_raw_fd();
        let came = match recv(fd, &mut buffer[kept..], MsgFlags::MSG_DONTWAIT) {
            Ok(0) => panic!("the server ended the connection of client {number}"),
            Ok(bytes) => bytes,
            Err(Errno::EAGAIN | Errno::EINTR) => 0,
            Err(error) => panic!("client {number} cannot read: {error}"),
        };
        let mut rest = &buffer[..kept + came];
        while let Some(frame) = Frame::read(rest) {
            if frame.opcode == 1 {
                heard(self, number, frame.payload(rest));
            }
            rest = &rest[frame.header + frame.len..];
        }
        self.clients[number].rest.extend_from_slice(rest);
        self.buffer = buffer;
    }
}
