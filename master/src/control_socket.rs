//! The server's end of the control socket: for the user who runs the server and nobody else, few clients, short requests, and never a wait.
//!
//! Whoever does not ask, or does not take the answer, is closed after a while; and while the system has no descriptor for another client, there
//! is still one that is kept for whoever wants to know why.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::epoll::EpollFlags;
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::stat::{FileStat, Mode, SFlag, umask};
use nix::unistd::{Uid, geteuid};
use sys::files::{Account, Folder, is_the_systems};

use crate::control::{Reply, Request, listener};
use crate::control_conversation::{Client, Conversation, line};
use crate::master::Master;
use crate::poller::{Poller, Token};
use crate::shortage::{REST, is_shortage};
use crate::status::Status;

/// Clients at one time; another one is told so and closed at once.
const CLIENTS_MAX: usize = 16;
/// How long a client may take to ask and to read its answer.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(5);

/// The socket and who has connected to it. Its name is removed when this is dropped.
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
    clients: BTreeMap<u32, Client>,
    next: u32,
    /// Given up where there is no descriptor left, for one client more.
    spare: Option<File>,
    /// When accepting is tried again after the system had no room; until then nothing is waited for at the socket.
    again_at: Option<Instant>,
}

impl ControlSocket {
    /// Makes the socket, readable and writable for this user only, or for whom this process will become, `account`. The caller holds the
    /// lock of the pid file beside it, so a socket that lies there is a killed server's.
    ///
    /// # Errors
    /// A sentence with the path.
    pub fn bind(path: &Path, account: Option<Account>) -> Result<Self, String> {
        let listener = bind(path, account)
            .map_err(|e| format!("the control socket {} cannot be made: {e}", path.display()))?;
        Ok(Self::of(listener, path.to_owned()))
    }

    /// One that another master has made.
    pub fn inherited(listener: OwnedFd, path: PathBuf) -> Self {
        Self::of(listener.into(), path)
    }

    fn of(listener: UnixListener, path: PathBuf) -> Self {
        Self {
            listener,
            path,
            clients: BTreeMap::new(),
            next: 0,
            spare: spare(),
            again_at: None,
        }
    }

    /// Goes on with a client; its number. Before [`Self::register`].
    pub fn resume(&mut self, stream: OwnedFd, conversation: Conversation) -> u32 {
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        let Conversation {
            input,
            output,
            asked,
            waits,
        } = conversation;
        self.clients.insert(
            number,
            Client {
                stream: stream.into(),
                input,
                output,
                asked,
                end: (!waits).then(|| Instant::now() + CLIENT_TIMEOUT),
            },
        );
        number
    }

    /// Every client: its number, its connection, and what passed.
    pub fn conversations(&self) -> impl Iterator<Item = (u32, BorrowedFd<'_>, Conversation)> {
        self.clients.iter().map(|(&number, client)| {
            let conversation = Conversation {
                input: client.input.clone(),
                output: client.output.clone(),
                asked: client.asked,
                waits: client.end.is_none(),
            };
            (number, client.stream.as_fd(), conversation)
        })
    }

    /// # Errors
    /// What the system says.
    pub fn register(&self, poller: &Poller) -> io::Result<()> {
        poller.add(&self.listener, Token::Control, EpollFlags::EPOLLIN)?;
        for (&number, client) in &self.clients {
            let flags = match (client.asked, client.output.is_empty()) {
                (false, _) => EpollFlags::EPOLLIN,
                (true, true) => EpollFlags::empty(),
                (true, false) => EpollFlags::EPOLLOUT,
            };
            poller.add(&client.stream, Token::ControlClient(number), flags)?;
        }
        Ok(())
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves the connections of those who wait for the end of the server open until the process is gone, whatever happens before.
    pub fn keep_until_the_end(&mut self) {
        std::mem::forget(std::mem::take(&mut self.clients));
    }

    /// Takes in one who connects.
    ///
    /// # Errors
    /// The system had no room; it is tried again after a rest, see [`Self::next_end`].
    fn accept(&mut self, poller: &Poller) -> io::Result<()> {
        let mut accepted = self.listener.accept();
        if accepted.as_ref().is_err_and(is_shortage) && self.spare.take().is_some() {
            accepted = self.listener.accept();
        }
        let mut stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) if is_shortage(&error) => {
                self.rest(poller);
                return Err(error);
            }
            // The one who waited has gone.
            Err(_) => return Ok(()),
        };
        if let Err(why) = may_command(&stream) {
            let _ = stream.set_nonblocking(true);
            let _ = stream.write(&line(&Reply::of(Err(why))));
            return Ok(());
        }
        // A client that cannot be waited for is none.
        if stream.set_nonblocking(true).is_err() {
            return Ok(());
        }
        if self.clients.len() >= CLIENTS_MAX {
            let why = format!("{CLIENTS_MAX} others are being answered; try again in a moment");
            // A new connection has room for these few bytes.
            let _ = stream.write(&line(&Reply::of(Err(why))));
            return Ok(());
        }
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        if poller
            .add(&stream, Token::ControlClient(number), EpollFlags::EPOLLIN)
            .is_ok()
        {
            let end = Some(Instant::now() + CLIENT_TIMEOUT);
            self.clients.insert(
                number,
                Client {
                    stream,
                    input: Vec::new(),
                    output: Vec::new(),
                    asked: false,
                    end,
                },
            );
        }
        Ok(())
    }

    /// Leaves those who wait in the kernel's queue, which epoll would report for ever.
    fn rest(&mut self, poller: &Poller) {
        self.again_at = Some(Instant::now() + REST);
        self.listen(poller, EpollFlags::empty());
    }

    fn listen(&self, poller: &Poller, flags: EpollFlags) {
        if let Err(error) = poller.modify(&self.listener, Token::Control, flags) {
            tracing::error!(%error, "the control socket cannot be opened or closed");
        }
    }

    /// Closes those who take too long, and opens the socket again after a rest.
    pub fn time(&mut self, poller: &Poller, now: Instant) {
        if self.again_at.take_if(|at| *at <= now).is_some() {
            self.spare = self.spare.take().or_else(spare);
            self.listen(poller, EpollFlags::EPOLLIN);
        }
        let late: Vec<u32> = self
            .clients
            .iter()
            .filter(|(_, c)| c.end.is_some_and(|end| end <= now))
            .map(|(&n, _)| n)
            .collect();
        for number in late {
            self.close(poller, number);
        }
    }

    /// When [`Self::time`] has something to do.
    pub fn next_end(&self) -> Option<Instant> {
        let ends = self.clients.values().filter_map(|client| client.end);
        ends.chain(self.again_at).min()
    }

    fn close(&mut self, poller: &Poller, number: u32) {
        if let Some(client) = self.clients.remove(&number) {
            poller.remove(&client.stream);
            drop(client);
            self.spare = self.spare.take().or_else(spare);
        }
    }
}

impl AsFd for ControlSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for ControlSocket {
    /// A name that leads to another server's socket by now, or to nothing, stays as it is.
    fn drop(&mut self) {
        if listener(&self.path) != Some(Some(std::process::id().cast_signed())) {
            return;
        }
        let removed = || {
            let (Some(folder), Some(name)) = (self.path.parent(), self.path.file_name()) else {
                return Ok(());
            };
            Folder::open(folder, None, false)?.remove(name)
        };
        if let Err(error) = removed() {
            tracing::warn!(%error, path = %self.path.display(), "the control socket stays");
        }
    }
}

impl Master<'_> {
    /// Somebody connects to the control socket.
    pub fn welcome_to_control(&mut self) {
        if let Err(error) = self.control.accept(&self.poller) {
            self.shortage.note("answer at the control socket", &error);
        }
    }

    /// A client of the control socket has said something, has taken something, or has gone.
    pub fn serve_control_client(&mut self, number: u32) {
        let Some(client) = self.control.clients.get_mut(&number) else {
            return;
        };
        if !client.asked {
            match client.request() {
                Ok(None) => return,
                Ok(Some(request)) => {
                    client.asked = true;
                    self.answer(number, request);
                }
                Err(_) => return self.control.close(&self.poller, number),
            }
        } else if client.output.is_empty() {
            // Nothing is waited for but its going away.
            return self.control.close(&self.poller, number);
        }
        self.write_to(number);
    }

    /// Gives one who waits the answer, if they are still there.
    pub fn answer_later(&mut self, number: u32, reply: &Reply) {
        if let Some(client) = self.control.clients.get_mut(&number) {
            client.reply(reply);
            client.end = Some(Instant::now() + CLIENT_TIMEOUT);
            self.write_to(number);
        }
    }

    /// Tells one who asked for what takes time how long that may be; the outcome follows by [`Self::answer_later`].
    pub fn tell_the_time(&mut self, number: Option<u32>, within: Duration) {
        if let Some(client) = number.and_then(|n| self.control.clients.get_mut(&n)) {
            client.reply(&Reply {
                ok: true,
                more: true,
                within_ms: Some(ms(within)),
                ..Reply::default()
            });
            client.end = None;
        }
    }

    fn answer(&mut self, number: u32, request: Request) {
        let reply = match request {
            Request::Status => Reply {
                ok: true,
                status: Some(Box::new(Status::of(self))),
                ..Reply::default()
            },
            Request::Audit => return self.begin_audit(number, Instant::now()),
            Request::Reload => return self.reload(Some(number)),
            Request::Upgrade => return self.upgrade(Some(number)),
            Request::Stop => self.stop_for_a_client(),
        };
        let Some(client) = self.control.clients.get_mut(&number) else {
            return;
        };
        if request == Request::Stop {
            client.end = None;
        }
        client.reply(&reply);
    }

    fn stop_for_a_client(&mut self) -> Reply {
        let again = self.phase.is_stopping();
        // Two people who ask for a stop want the same; only a second signal is impatience.
        if !again {
            self.stop("control socket");
        }
        let left = self.longest_stop(Instant::now());
        Reply {
            ok: true,
            text: if again {
                "the server is stopping already".into()
            } else {
                "stopping".into()
            },
            within_ms: Some(ms(left)),
            ..Reply::default()
        }
    }

    fn write_to(&mut self, number: u32) {
        let Some(client) = self.control.clients.get_mut(&number) else {
            return;
        };
        let waits = client.end.is_none();
        match client.write() {
            Ok(true) if !waits => self.control.close(&self.poller, number),
            Ok(done) => {
                // While one waits for us only their going away counts, which epoll reports unasked.
                let flags = if done {
                    EpollFlags::empty()
                } else {
                    EpollFlags::EPOLLOUT
                };
                if self
                    .poller
                    .modify(&client.stream, Token::ControlClient(number), flags)
                    .is_err()
                {
                    self.control.close(&self.poller, number);
                }
            }
            Err(_) => self.control.close(&self.poller, number),
        }
    }
}

fn bind(path: &Path, account: Option<Account>) -> io::Result<UnixListener> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::IsADirectory.into());
    };
    let folder = Folder::open(folder, account, false)?;
    let there = folder.path_to(name);
    let is_socket = |found: FileStat| {
        SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT == SFlag::S_IFSOCK
    };
    match folder.stat(name).map(is_socket) {
        // The pid file of one that answers was removed under it.
        Ok(true) if folder.as_its_owner(|| listener(&there))?.is_some() => {
            return Err(io::Error::other("a server answers there"));
        }
        Ok(true) => folder.remove(name)?,
        Ok(false) => return Err(io::Error::other("there is another file of that name")),
        Err(_) => {}
    }
    let socket = folder.as_its_owner(|| {
        // From its first moment on nobody else can connect.
        let before = umask(Mode::from_bits_truncate(0o177));
        let socket = UnixListener::bind(&there);
        umask(before);
        socket
    })??;
    socket.set_nonblocking(true)?;
    let me = std::process::id().cast_signed();
    folder.give_socket(name, |path| listener(path) == Some(Some(me)))?;
    Ok(socket)
}

/// Whether whoever has connected may give commands. The mode of the socket says so as well, until somebody changes it.
fn may_command(stream: &UnixStream) -> Result<(), String> {
    let peer = getsockopt(stream, PeerCredentials)
        .map_err(|e| format!("who you are cannot be found out: {e}"))?;
    let (peer, me) = (Uid::from_raw(peer.uid()), geteuid());
    if peer == me || is_the_systems(peer) {
        return Ok(());
    }
    Err(format!(
        "only root and the user that the server works as (number {me}) may give it commands; you are user {peer}"
    ))
}

fn spare() -> Option<File> {
    File::open("/dev/null").ok()
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("steadfast-{name}-{}.sock", std::process::id()))
    }

    #[test]
    fn only_the_owner_may_connect_and_the_name_goes_with_the_socket() {
        let path = path("mode");
        let socket = ControlSocket::bind(&path, None).unwrap();
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn a_dead_socket_is_replaced_and_a_living_one_or_another_file_is_not() {
        let path = path("stale");
        drop(UnixListener::bind(&path).unwrap());
        let living = ControlSocket::bind(&path, None).unwrap();
        let reason = ControlSocket::bind(&path, None).map(drop).unwrap_err();
        assert!(reason.contains("a server answers there"), "{reason}");
        assert!(path.exists());
        drop(living);

        std::fs::write(&path, "mine").unwrap();
        let reason = ControlSocket::bind(&path, None).map(drop).unwrap_err();
        assert!(reason.contains("another file"), "{reason}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
        std::fs::remove_file(&path).unwrap();
    }
}
