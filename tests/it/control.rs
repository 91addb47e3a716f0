//! The control socket: whoever connects there and does not go on keeps nobody from anything for long.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};
use tests::wait::PATIENCE;
use tests::{Client, Server, Transport, posts, processes};

/// As many as are let in at a time.
const MOST: usize = 16;

fn connect(server: &Server) -> UnixStream {
    let path = server.house().pid_file().with_extension("sock");
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Ends, with or without an error.
fn expect_end(mut stream: UnixStream) {
    let mut rest = Vec::new();
    if let Err(error) = stream.read_to_end(&mut rest) {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    }
}

#[test]
fn those_who_do_not_go_on_are_few_hold_up_nothing_and_are_let_go() {
    let server = Server::standard();
    let mut ann = Client::login(&server, Transport::WebSocket, "ann");
    let (mut silent, mut others): (Vec<_>, Vec<_>) = (Vec::new(), Vec::new());
    for number in 0..MOST {
        let mut stream = connect(&server);
        if number % 2 == 0 {
            // Half a request, and nothing more.
            stream.write_all(b"{\"request\":\"sta").unwrap();
            silent.push(stream);
        } else {
            // A whole one, of which the answer is not taken.
            let request = ["audit", "status"][number / 2 % 2];
            let line = format!("{{\"request\":\"{request}\"}}\nand more");
            stream.write_all(line.as_bytes()).unwrap();
            others.push(stream);
        }
    }
    // One too many is told so; some of those who have their answer may be gone already, and then it waits like them.
    silent.extend((0..MOST).map(|_| connect(&server)));
    let Some(last) = silent.last() else { return };
    let mut line = String::new();
    BufReader::new(last).read_line(&mut line).unwrap();
    let reply: Value = serde_json::from_str(&line).unwrap_or_default();
    assert_eq!(reply["ok"], false, "{line:?}");
    assert!(line.contains("try again"), "{line:?}");

    // Meanwhile the server does what it has to.
    let victim = server.workers()[0];
    assert!(posts::signal(victim, nix::sys::signal::Signal::SIGKILL));
    let mut ben = Client::login(&server, Transport::Tcp, "ben");
    ann.send(json!({"type": "sendto", "to": "ben", "content": "hello", "quiet": true}));
    assert_eq!(ben.expect("message")["content"], "hello");

    silent.into_iter().chain(others).for_each(expect_end);
    let pids = posts::filled(&server);
    assert!(!pids.contains(&victim) && !processes::alive(victim));
    posts::audit(&server).unwrap();
}
