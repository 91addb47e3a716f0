//! HTTP as a test needs it: bytes out, one response back.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};

use crate::wait::PATIENCE;

/// One response.
#[derive(Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Names in small letters, values trimmed, in their order.
    pub headers: Vec<(String, String)>,
    /// What came behind the head.
    pub body: Vec<u8>,
}

impl Response {
    /// The first header of that name (in small letters).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// GET over a connection of its own; fails the test when no response comes.
pub fn get(address: SocketAddr, path: &str) -> Response {
    try_get(address, path).unwrap_or_else(|error| panic!("GET {path}: {error}"))
}

/// GET over a connection of its own.
pub fn try_get(address: SocketAddr, path: &str) -> Result<Response> {
    exchange(
        address,
        format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes(),
    )
}

/// Sends these bytes over a connection of its own and reads one response.
pub fn exchange(address: SocketAddr, request: &[u8]) -> Result<Response> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request)?;
    read_response(&mut stream, &mut Vec::new(), true)
}

/// Reads one response. What came behind its head stays in `rest` when there is no body to read (`with_body` false, or status 101).
pub fn read_response(
    stream: &mut TcpStream,
    rest: &mut Vec<u8>,
    with_body: bool,
) -> Result<Response> {
    let head_len = loop {
        if let Some(at) = rest.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if read_more(stream, rest)? == 0 {
            return Err(Error::new(
                ErrorKind::UnexpectedEof,
                format!("closed after {:?}", String::from_utf8_lossy(rest)),
            ));
        }
    };
    let head = String::from_utf8_lossy(&rest[..head_len]).into_owned();
    rest.drain(..head_len);
    let mut lines = head.split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let status = status_line
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| {
        Error::new(
            ErrorKind::InvalidData,
            format!("not a status line: {status_line:?}"),
        )
    })?;
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
    let mut response = Response {
        status,
        headers: headers.collect(),
        body: Vec::new(),
    };
    if with_body && status != 101 {
        let len = response
            .header("content-length")
            .and_then(|text| text.parse().ok())
            .unwrap_or(usize::MAX);
        while rest.len() < len && read_more(stream, rest)? > 0 {}
        response.body = rest.drain(..rest.len().min(len)).collect();
    }
    Ok(response)
}

fn read_more(stream: &mut TcpStream, into: &mut Vec<u8>) -> Result<usize> {
    let mut bytes = [0; 16384];
    let count = stream.read(&mut bytes)?;
    into.extend_from_slice(&bytes[..count]);
    Ok(count)
}
