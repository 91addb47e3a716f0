//! Packets between two processes of this host, with descriptors in them.
//!
//! - A packet arrives whole or not at all, in the order it was sent, with exactly the descriptors it was sent with.
//!   Where the receiver could not be given all of them (it has no descriptor left), [`receive`] says so instead of returning the rest.
//! - Both ends are non-blocking and closed on exec, and so is every descriptor received.
//! - The other end's death is [`Arrival::Ended`] when receiving and `EPIPE` when sending, never a signal.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg,
    sendmsg, socketpair,
};

/// Most descriptors in one packet: the kernel takes 253.
pub const DESCRIPTORS_MAX: usize = 250;

/// Largest packet in bytes. It fits the default send buffer of a socket (212,992 bytes) together with what the kernel adds.
pub const PACKET_BYTES_MAX: usize = 128 * 1024;

/// What [`receive`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Arrival {
    /// A packet of this many bytes, at the front of the buffer.
    Packet(usize),
    /// Nothing has come yet.
    Nothing,
    /// The other end is closed, and everything it sent has been received.
    Ended,
    /// A packet came, but this process had no room for all of its descriptors: those are lost.
    DescriptorsLost,
}

/// Where packets are received into: one per channel, reused.
pub struct Buffer {
    bytes: Box<[u8]>,
    control: Vec<u8>,
}

impl Default for Buffer {
    fn default() -> Self {
        Self {
            bytes: vec![0; PACKET_BYTES_MAX].into_boxed_slice(),
            control: nix::cmsg_space!([RawFd; DESCRIPTORS_MAX]),
        }
    }
}

impl Buffer {
    /// The bytes of the packet that came last, given its length.
    pub fn bytes(&self, len: usize) -> &[u8] {
        &self.bytes[..len.min(self.bytes.len())]
    }
}

/// Makes a connected pair of packet sockets.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        flags,
    )?)
}

/// Sends one packet. `Ok(false)`: there is no room for it now, nothing was sent.
///
/// # Errors
/// `InvalidInput` past [`PACKET_BYTES_MAX`] or [`DESCRIPTORS_MAX`] or for an empty packet (which would look like an end);
/// otherwise what the system says: `BrokenPipe` when the other end is gone, `ETOOMANYREFS` when this user has as many descriptors on
/// their way as a process may have open, which passes when the receivers read but is not announced by `poll(2)`.
pub fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<bool> {
    if bytes.is_empty() || bytes.len() > PACKET_BYTES_MAX || descriptors.len() > DESCRIPTORS_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "a packet of {} bytes and {} descriptors cannot be sent",
                bytes.len(),
                descriptors.len()
            ),
        ));
    }
    let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
    loop {
        let sent = sendmsg::<()>(
            socket.as_raw_fd(),
            &[IoSlice::new(bytes)],
            control,
            MsgFlags::MSG_NOSIGNAL,
            None,
        );
        match sent {
            Ok(_) => return Ok(true),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN | Errno::ENOBUFS) => return Ok(false),
            Err(e) => return Err(e.into()),
        }
    }
}

/// Receives one packet into `buffer` and its descriptors into `descriptors` (appended), without waiting.
///
/// # Errors
/// What the system says; `InvalidData` for a packet longer than [`PACKET_BYTES_MAX`].
pub fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut Buffer,
    descriptors: &mut Vec<OwnedFd>,
) -> io::Result<Arrival> {
    loop {
        let mut parts = [IoSliceMut::new(&mut buffer.bytes)];
        let got = recvmsg::<()>(
            socket.as_raw_fd(),
            &mut parts,
            Some(&mut buffer.control),
            MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT,
        );
        let message = match got {
            Ok(message) => message,
            Err(Errno::EINTR) => continue,
            Err(Errno::EAGAIN) => return Ok(Arrival::Nothing),
            Err(Errno::ECONNRESET) => return Ok(Arrival::Ended),
            Err(e) => return Err(e.into()),
        };
        if message.flags.contains(MsgFlags::MSG_CTRUNC) {
            return Ok(Arrival::DescriptorsLost);
        }
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(received) = control {
                // SAFETY: the kernel has just made these descriptors for this process as part of this message. Nobody else in the
                // process knows their numbers, and each is taken exactly once: `message` is dropped without closing them.
                descriptors.extend(
                    received
                        .into_iter()
                        .map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }),
                );
            }
        }
        if message.flags.contains(MsgFlags::MSG_TRUNC) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a packet longer than the buffer came",
            ));
        }
        return Ok(match message.bytes {
            0 => Arrival::Ended,
            len => Arrival::Packet(len),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    fn receive_one(socket: &OwnedFd) -> (Arrival, Vec<u8>, Vec<OwnedFd>) {
        let (mut buffer, mut descriptors) = (Buffer::default(), Vec::new());
        let arrival = receive(socket.as_fd(), &mut buffer, &mut descriptors).unwrap();
        let bytes = match arrival {
            Arrival::Packet(len) => buffer.bytes(len).to_vec(),
            _ => Vec::new(),
        };
        (arrival, bytes, descriptors)
    }

    #[test]
    fn packets_keep_their_borders_and_their_descriptors() {
        let (here, there) = pair().unwrap();
        assert_eq!(receive_one(&there).0, Arrival::Nothing);
        let (mut reader, writer) = io::pipe().unwrap();
        assert!(send(here.as_fd(), b"one", &[]).unwrap());
        assert!(send(here.as_fd(), b"two!", &[writer.as_fd(), writer.as_fd()]).unwrap());
        drop(writer);

        let (_, bytes, descriptors) = receive_one(&there);
        assert_eq!((bytes.as_slice(), descriptors.len()), (&b"one"[..], 0));
        let (_, bytes, descriptors) = receive_one(&there);
        assert_eq!((bytes.as_slice(), descriptors.len()), (&b"two!"[..], 2));

        for fd in descriptors {
            File::from(fd).write_all(b"through").unwrap();
        }
        let mut text = String::new();
        // Reads to the end: both duplicates are closed, so none was leaked by the channel.
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "throughthrough");
    }

    #[test]
    fn as_many_descriptors_as_promised_fit_one_packet() {
        let (here, there) = pair().unwrap();
        let file = File::open("/dev/null").unwrap();
        let many = vec![file.as_fd(); DESCRIPTORS_MAX];
        assert!(send(here.as_fd(), b"x", &many).unwrap());
        assert_eq!(receive_one(&there).2.len(), DESCRIPTORS_MAX);
        let too_many = vec![file.as_fd(); DESCRIPTORS_MAX + 1];
        assert_eq!(
            send(here.as_fd(), b"x", &too_many).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
    }

    #[test]
    fn the_largest_packet_passes_and_a_larger_one_is_refused() {
        let (here, there) = pair().unwrap();
        assert!(send(here.as_fd(), &vec![7; PACKET_BYTES_MAX], &[]).unwrap());
        assert_eq!(receive_one(&there).1.len(), PACKET_BYTES_MAX);
        assert!(send(here.as_fd(), &vec![7; PACKET_BYTES_MAX + 1], &[]).is_err());
        assert!(send(here.as_fd(), &[], &[]).is_err());
    }

    #[test]
    fn a_full_channel_refuses_and_takes_again_after_it_was_read() {
        let (here, there) = pair().unwrap();
        let mut sent = 0;
        while send(here.as_fd(), &[1; 1000], &[]).unwrap() {
            sent += 1;
        }
        assert!(sent > 0);
        assert_eq!(receive_one(&there).0, Arrival::Packet(1000));
        while receive_one(&there).0 != Arrival::Nothing {}
        assert!(send(here.as_fd(), &[1; 1000], &[]).unwrap());
    }

    #[test]
    fn the_other_end_closing_is_an_end_after_what_it_sent() {
        let (here, there) = pair().unwrap();
        assert!(send(here.as_fd(), b"last", &[]).unwrap());
        drop(here);
        assert_eq!(receive_one(&there).1, b"last");
        assert_eq!(receive_one(&there).0, Arrival::Ended);
        assert_eq!(
            send(there.as_fd(), b"x", &[]).unwrap_err().kind(),
            io::ErrorKind::BrokenPipe
        );
    }

    #[test]
    fn received_descriptors_are_closed_on_exec() {
        let (here, there) = pair().unwrap();
        let file = File::open("/dev/null").unwrap();
        send(here.as_fd(), b"x", &[file.as_fd()]).unwrap();
        let (_, _, descriptors) = receive_one(&there);
        let info =
            std::fs::read_to_string(format!("/proc/self/fdinfo/{}", descriptors[0].as_raw_fd()))
                .unwrap();
        let flags = info
            .lines()
            .find_map(|l| l.strip_prefix("flags:"))
            .unwrap()
            .trim();
        assert_ne!(
            u32::from_str_radix(flags, 8).unwrap() & 0o2_000_000,
            0,
            "O_CLOEXEC in {info}"
        );
    }
}
