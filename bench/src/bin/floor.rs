//! The floor: what the kernel alone costs. One thread reads each readable socket once a turn, looks at frame headers and at fixed offsets
//! and no further, and writes each socket once a turn. It checks nothing, limits nothing and survives nothing.
//!
//! `floor --listen ADDRESS` prints `ready` when it listens.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)] // a yardstick that cannot be set up ends with its place

use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{MsgFlags, recv, send};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use yardstick::layout::Request;
use yardstick::wire::{self, Frame};

const LISTENER: u64 = u64::MAX;
const READ_BYTES: usize = 256 * 1024;
const USERS: usize = 1_000_000;
const GROUPS: usize = 10_000;

/// A client, under the number of its descriptor.
struct Client {
    stream: TcpStream,
    /// The beginning of a frame, or of the handshake.
    rest: Vec<u8>,
    out: Vec<u8>,
    user: Option<u32>,
    groups: Vec<u16>,
    upgraded: bool,
    dirty: bool,
    blocked: bool,
}

struct Floor {
    epoll: Epoll,
    listener: TcpListener,
    clients: Vec<Option<Client>>,
    /// Descriptor of each user, plus one.
    users: Vec<u32>,
    groups: Vec<Vec<u32>>,
    dirty: Vec<u32>,
    buffer: Vec<u8>,
    plain: Vec<u8>,
}

fn main() {
    let address = yardstick::place::listen_at("floor");
    let listener = TcpListener::bind(address).unwrap();
    listener.set_nonblocking(true).unwrap();
    // As long a queue as the kernel allows: the standard library asks for 128 (listen(2) may be called again).
    nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::MAXCONN).unwrap();
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
    let event = EpollEvent::new(EpollFlags::EPOLLIN, LISTENER);
    epoll.add(&listener, event).unwrap();
    println!("ready");
    let mut floor = Floor {
        epoll,
        listener,
        clients: Vec::new(),
        users: vec![0; USERS],
        groups: vec![Vec::new(); GROUPS],
        dirty: Vec::new(),
        buffer: vec![0; READ_BYTES],
        plain: Vec::new(),
    };
    let mut events = vec![EpollEvent::empty(); 1024];
    loop {
        floor.turn(&mut events);
    }
}

impl Floor {
    fn turn(&mut self, events: &mut [EpollEvent]) {
        let count = match self.epoll.wait(events, EpollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => return,
            other => other.unwrap(),
        };
        for event in &events[..count] {
            match event.data() {
                LISTENER => self.accept(),
                fd => {
                    let out = EpollFlags::EPOLLOUT;
                    if event.events().intersects(!out) {
                        self.read(fd as usize);
                    }
                    if event.events().contains(out) {
                        self.unblock(fd as usize);
                    }
                }
            }
        }
        let mut dirty = std::mem::take(&mut self.dirty);
        for fd in dirty.drain(..) {
            self.write(fd as usize);
        }
        self.dirty = dirty;
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            stream.set_nonblocking(true).unwrap();
            stream.set_nodelay(true).unwrap();
            let fd = stream.as_raw_fd() as usize;
            let event = EpollEvent::new(EpollFlags::EPOLLIN, fd as u64);
            self.epoll.add(&stream, event).unwrap();
            if self.clients.len() <= fd {
                self.clients.resize_with(fd + 1, || None);
            }
            self.clients[fd] = Some(Client {
                stream,
                rest: Vec::new(),
                out: Vec::new(),
                user: None,
                groups: Vec::new(),
                upgraded: false,
                dirty: false,
                blocked: false,
            });
        }
    }

    fn read(&mut self, fd: usize) {
        let Some(Some(client)) = self.clients.get_mut(fd) else {
            return;
        };
        let mut buffer = std::mem::take(&mut self.buffer);
        let kept = client.rest.len();
        if kept + 64 > buffer.len() {
            self.buffer = buffer;
            return self.close(fd);
        }
        buffer[..kept].copy_from_slice(&client.rest);
        client.rest.clear();
        match recv(fd as i32, &mut buffer[kept..], MsgFlags::MSG_DONTWAIT) {
            Ok(0) | Err(nix::errno::Errno::ECONNRESET) => self.close(fd),
            Ok(bytes) => self.parse(fd, &buffer[..kept + bytes]),
            Err(_) => client.rest.extend_from_slice(&buffer[..kept]),
        }
        self.buffer = buffer;
    }

    fn parse(&mut self, fd: usize, input: &[u8]) {
        let mut rest = input;
        if let Some(Some(client)) = self.clients.get_mut(fd)
            && !client.upgraded
        {
            match upgrade(client, rest) {
                Some(used) => rest = &rest[used..],
                None => {
                    client.rest.extend_from_slice(rest);
                    return;
                }
            }
            self.soil(fd);
        }
        let mut plain = std::mem::take(&mut self.plain);
        while let Some(frame) = Frame::read(rest) {
            wire::unmask(frame.payload(rest), frame.mask, &mut plain);
            rest = &rest[frame.header + frame.len..];
            match (frame.opcode, Request::read(&plain)) {
                (8, _) => {
                    self.close(fd);
                    rest = &[];
                }
                (9, _) => self.put(fd, 10, &plain),
                (_, Some(request)) => self.obey(fd, request, &plain),
                _ => {}
            }
        }
        self.plain = plain;
        if let Some(Some(client)) = self.clients.get_mut(fd) {
            client.rest.extend_from_slice(rest);
        }
    }

    fn obey(&mut self, fd: usize, request: Request, message: &[u8]) {
        match request {
            Request::SendTo(user) => {
                if let Some(to @ 1..) = self.users.get(user) {
                    self.put(*to as usize - 1, 1, message);
                }
            }
            Request::SendGroup(group) => {
                let members = std::mem::take(&mut self.groups[group]);
                for member in &members {
                    if *member as usize != fd {
                        self.put(*member as usize, 1, message);
                    }
                }
                self.groups[group] = members;
            }
            Request::Login(user) => {
                self.users[user] = fd as u32 + 1;
                if let Some(Some(client)) = self.clients.get_mut(fd) {
                    client.user = Some(user as u32);
                }
                self.put(fd, 1, br#"{"type":"system","event":"login"}"#);
            }
            Request::Join(group) => {
                self.groups[group].push(fd as u32);
                if let Some(Some(client)) = self.clients.get_mut(fd) {
                    client.groups.push(group as u16);
                }
                self.put(fd, 1, br#"{"type":"system","event":"join"}"#);
            }
        }
    }

    fn put(&mut self, fd: usize, opcode: u8, payload: &[u8]) {
        if let Some(Some(client)) = self.clients.get_mut(fd) {
            wire::header(opcode, payload.len(), false, &mut client.out);
            client.out.extend_from_slice(payload);
            self.soil(fd);
        }
    }

    fn soil(&mut self, fd: usize) {
        if let Some(Some(client)) = self.clients.get_mut(fd)
            && !client.dirty
        {
            client.dirty = true;
            self.dirty.push(fd as u32);
        }
    }

    fn write(&mut self, fd: usize) {
        let Some(Some(client)) = self.clients.get_mut(fd) else {
            return;
        };
        client.dirty = false;
        if client.blocked || client.out.is_empty() {
            return;
        }
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let sent = match send(fd as i32, &client.out, flags) {
            Ok(sent) => sent,
            Err(nix::errno::Errno::EAGAIN) => 0,
            Err(_) => return self.close(fd),
        };
        if sent == client.out.len() {
            client.out.clear();
            return;
        }
        client.out.drain(..sent);
        client.blocked = true;
        self.watch(fd, EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT);
    }

    fn unblock(&mut self, fd: usize) {
        if let Some(Some(client)) = self.clients.get_mut(fd)
            && client.blocked
        {
            client.blocked = false;
            self.watch(fd, EpollFlags::EPOLLIN);
            self.soil(fd);
        }
    }

    fn watch(&self, fd: usize, flags: EpollFlags) {
        if let Some(Some(client)) = self.clients.get(fd) {
            let mut event = EpollEvent::new(flags, fd as u64);
            self.epoll.modify(&client.stream, &mut event).unwrap();
        }
    }

    fn close(&mut self, fd: usize) {
        let Some(client) = self.clients[fd].take() else {
            return;
        };
        for group in &client.groups {
            self.groups[usize::from(*group)].retain(|member| *member as usize != fd);
        }
        if let Some(user) = client.user
            && self.users[user as usize] as usize == fd + 1
        {
            self.users[user as usize] = 0;
        }
    }
}

/// Answers the handshake once its head is complete, and says how many bytes that were.
fn upgrade(client: &mut Client, input: &[u8]) -> Option<usize> {
    let end = memchr::memmem::find(input, b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&input[..end]);
    let key = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("sec-websocket-key")
            .then_some(value.trim())
    })?;
    let accept = derive_accept_key(key.as_bytes());
    io::Write::write_fmt(
        &mut client.out,
        format_args!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        ),
    )
    .ok()?;
    let open = br#"{"type":"open"}"#;
    wire::header(1, open.len(), false, &mut client.out);
    client.out.extend_from_slice(open);
    client.upgraded = true;
    Some(end)
}
