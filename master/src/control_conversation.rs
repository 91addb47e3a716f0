//! One client of the control socket and what passes between it and the server. Neither reading nor writing waits.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::control::{Reply, Request};

/// Bytes of one request.
const REQUEST_BYTES_MAX: usize = 1024;

/// Somebody who has connected.
pub struct Client {
    pub stream: UnixStream,
    /// What it has said, and what it has not taken yet.
    pub input: Vec<u8>,
    pub output: Vec<u8>,
    /// It has asked, and nothing more is expected from it.
    pub asked: bool,
    /// When it has taken too long; `None`: it waits for us, for an answer or for the end of the server.
    pub end: Option<Instant>,
}

/// What passed between a client and this master, for the one who goes on with it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Conversation {
    pub input: Vec<u8>,
    pub output: Vec<u8>,
    pub asked: bool,
    pub waits: bool,
}

impl Client {
    /// Reads what has come. The request when it is whole.
    ///
    /// # Errors
    /// There will be none.
    pub fn request(&mut self) -> io::Result<Option<Request>> {
        let mut bytes = [0; REQUEST_BYTES_MAX];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.input.extend_from_slice(&bytes[..count]),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            }
            if let Some(end) = self.input.iter().position(|&b| b == b'\n') {
                return Ok(Some(serde_json::from_slice(&self.input[..end])?));
            }
            if self.input.len() > REQUEST_BYTES_MAX {
                return Err(ErrorKind::InvalidData.into());
            }
        }
    }

    /// Has it told something, once it takes it.
    pub fn reply(&mut self, reply: &Reply) {
        self.output.extend_from_slice(&line(reply));
    }

    /// Writes what the client takes; true when that was all.
    ///
    /// # Errors
    /// It takes nothing any more.
    pub fn write(&mut self) -> io::Result<bool> {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(count) => drop(self.output.drain(..count)),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }
}

/// A reply as it is sent.
pub fn line(reply: &Reply) -> Vec<u8> {
    // A structure of plain fields always has a JSON form.
    let mut line = serde_json::to_vec(reply).unwrap_or_default();
    line.push(b'\n');
    line
}
