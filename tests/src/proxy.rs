//! A relay between a client and the server that the test can cut.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// Listens on a free port and passes every connection on to one address.
pub struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    down: AtomicBool,
    muted: AtomicBool,
    streams: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    /// Starts the relay.
    pub fn start(to: SocketAddr) -> Proxy {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let shared = state.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if !shared.down.load(Ordering::SeqCst) {
                    let _ = relay(shared.clone(), client, to);
                }
            }
        });
        Proxy { address, state }
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts every connection and refuses new ones.
    pub fn cut(&self) {
        self.state.down.store(true, Ordering::SeqCst);
        for stream in self.state.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Swallows what the server says from now on; what clients say still passes.
    pub fn mute(&self) {
        self.state.muted.store(true, Ordering::SeqCst);
    }

    /// Lets new connections, and what the server says, through again.
    pub fn mend(&self) {
        self.state.muted.store(false, Ordering::SeqCst);
        self.state.down.store(false, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
    }
}

fn relay(state: Arc<State>, client: TcpStream, to: SocketAddr) -> io::Result<()> {
    let server = TcpStream::connect(to)?;
    state
        .streams
        .lock()
        .unwrap()
        .extend([client.try_clone()?, server.try_clone()?]);
    let (back_from, back_to) = (server.try_clone()?, client.try_clone()?);
    thread::spawn(move || copy(client, server, || false));
    thread::spawn(move || copy(back_from, back_to, || state.muted.load(Ordering::SeqCst)));
    Ok(())
}

fn copy(mut from: TcpStream, mut to: TcpStream, swallowed: impl Fn() -> bool) {
    let mut bytes = [0; 16384];
    while let Ok(count) = from.read(&mut bytes) {
        if count == 0 || !swallowed() && to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}
