use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{MsgFlags, send, setsockopt, sockopt};

use super::*;

/// Who connected, and who accepted.
fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (ours, _) = listener.accept().unwrap();
    (peer, ours)
}

fn of(socket: &TcpStream) -> (u64, u64) {
    let counts = counts(socket.as_fd()).unwrap();
    (counts.consumed, counts.written)
}

fn state(socket: &TcpStream) -> u8 {
    info(socket.as_fd()).unwrap().state
}

fn unread(socket: &TcpStream) -> u64 {
    queue(socket.as_fd(), libc::FIONREAD).unwrap()
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        thread::sleep(Duration::from_millis(1));
    }
}

fn take(socket: &mut TcpStream, bytes: usize) {
    socket.read_exact(&mut vec![0; bytes]).unwrap();
}

/// Makes `socket` reset its connection when it is closed.
fn reset(socket: TcpStream) {
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    setsockopt(&socket, sockopt::Linger, &linger).unwrap();
    drop(socket);
}

#[test]
fn an_accepted_connection_begins_at_nothing() {
    let (peer, ours) = pair();
    assert_eq!(of(&ours), (0, 0));
    eventually("our SYN counts where we connected", || of(&peer) == (0, 1));
}

#[test]
fn what_was_read_is_consumed_and_what_waits_is_not() {
    let (mut peer, mut ours) = pair();
    let (mut sent, mut read) = (0_u64, 0_u64);
    for (send, take_now) in [
        (1, 0),
        (10, 11),
        (100_000, 1),
        (5, 50_000),
        (1, 0),
        (0, 50_005),
    ] {
        peer.write_all(&vec![7; send]).unwrap();
        sent += send as u64;
        eventually("arrives", || unread(&ours) == sent - read);
        assert_eq!(of(&ours), (read, 0));
        take(&mut ours, take_now);
        read += take_now as u64;
        assert_eq!(of(&ours), (read, 0));
        assert_eq!(unread(&ours), sent - read);
    }
}

#[test]
fn what_was_written_counts_before_and_after_it_is_acknowledged() {
    let (mut peer, mut ours) = pair();
    let mut written = 0;
    for bytes in [1, 17, 1000, 70_000] {
        ours.write_all(&vec![7; bytes]).unwrap();
        written += bytes as u64;
        assert_eq!(of(&ours), (0, written));
        take(&mut peer, bytes);
        eventually("acknowledged", || {
            queue(ours.as_fd(), libc::TIOCOUTQ).unwrap() == 0
        });
        assert_eq!(of(&ours), (0, written));
    }
}

#[test]
fn a_full_send_queue_beside_unread_data() {
    let (mut peer, mut ours) = pair();
    peer.write_all(&[7; 3000]).unwrap();
    eventually("arrives", || unread(&ours) == 3000);
    take(&mut ours, 1234);
    ours.set_nonblocking(true).unwrap();
    let mut written = 0;
    while let Ok(bytes) = ours.write(&[7; 65_536]) {
        written += bytes as u64;
        assert_eq!(of(&ours), (1234, written));
    }
    assert!(queue(ours.as_fd(), libc::TIOCOUTQ).unwrap() > 0);
    // Our FIN waits behind what the peer does not read.
    ours.shutdown(Shutdown::Write).unwrap();
    assert_eq!(of(&ours), (1234, written));
    take(&mut peer, written as usize);
    assert_eq!(peer.read(&mut [0]).unwrap(), 0);
    eventually("our FIN is acknowledged", || state(&ours) == FIN_WAIT2);
    assert_eq!(of(&ours), (1234, written));
}

#[test]
fn the_peers_fin_is_not_counted_before_or_after_it_is_read() {
    for waiting in [0, 1, 500] {
        let (mut peer, mut ours) = pair();
        peer.write_all(&vec![7; waiting]).unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        eventually("the FIN arrives", || state(&ours) == CLOSE_WAIT);
        assert_eq!(of(&ours), (0, 0));
        take(&mut ours, waiting);
        assert_eq!(of(&ours), (waiting as u64, 0));
        assert_eq!(ours.read(&mut [0]).unwrap(), 0);
        assert_eq!(of(&ours), (waiting as u64, 0));
        ours.write_all(b"still ours").unwrap();
        assert_eq!(of(&ours), (waiting as u64, 10));
        // The kernel did count it.
        assert_eq!(
            info(ours.as_fd()).unwrap().bytes_received,
            waiting as u64 + 1
        );
    }
}

#[test]
fn our_fin_is_not_counted_and_reading_goes_on() {
    let (mut peer, mut ours) = pair();
    ours.write_all(b"last").unwrap();
    ours.shutdown(Shutdown::Write).unwrap();
    assert_eq!(of(&ours), (0, 4));
    eventually("our FIN is acknowledged", || state(&ours) == FIN_WAIT2);
    assert_eq!(of(&ours), (0, 4));
    assert_eq!(info(ours.as_fd()).unwrap().bytes_acked, 5);
    peer.write_all(&[7; 300]).unwrap();
    eventually("arrives", || unread(&ours) == 300);
    assert_eq!(of(&ours), (0, 4));
    take(&mut ours, 200);
    assert_eq!(of(&ours), (200, 4));
}

#[test]
fn both_fins_the_peers_first() {
    let (mut peer, mut ours) = pair();
    peer.write_all(&[7; 9]).unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    eventually("the FIN arrives", || state(&ours) == CLOSE_WAIT);
    ours.set_nonblocking(true).unwrap();
    let mut written = 0;
    while let Ok(bytes) = ours.write(&[7; 65_536]) {
        written += bytes as u64;
    }
    ours.shutdown(Shutdown::Write).unwrap();
    assert_eq!(state(&ours), LAST_ACK);
    assert_eq!(of(&ours), (0, written));
    take(&mut ours, 5);
    assert_eq!(of(&ours), (5, written));
    take(&mut peer, written as usize);
    eventually("over", || state(&ours) == CLOSE);
    assert_eq!(of(&ours).0, 5);
    take(&mut ours, 4);
    assert_eq!(of(&ours).0, 9);
    assert_eq!(ours.read(&mut [0]).unwrap(), 0);
    assert_eq!(of(&ours).0, 9);
}

#[test]
fn both_fins_ours_first() {
    let (mut peer, mut ours) = pair();
    ours.shutdown(Shutdown::Write).unwrap();
    eventually("our FIN is acknowledged", || state(&ours) == FIN_WAIT2);
    peer.write_all(&[7; 9]).unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    // The kernel keeps TIME_WAIT elsewhere and shows the socket as closed.
    eventually("over", || state(&ours) == CLOSE);
    assert_eq!(of(&ours).0, 0);
    take(&mut ours, 9);
    assert_eq!(of(&ours).0, 9);
}

#[test]
fn both_fins_at_once() {
    let (mut peer, mut ours) = pair();
    // Neither FIN gets out while the other side's queue is full: they cross, and the side whose data is read last is CLOSING.
    let mut written = [0_u64; 2];
    for (socket, written) in [&mut peer, &mut ours].into_iter().zip(&mut written) {
        socket.set_nonblocking(true).unwrap();
        while let Ok(bytes) = socket.write(&[7; 65_536]) {
            *written += bytes as u64;
        }
        socket.shutdown(Shutdown::Write).unwrap();
        assert_eq!(state(socket), FIN_WAIT1);
    }
    for socket in [&peer, &ours] {
        socket.set_nonblocking(false).unwrap();
    }
    take(&mut ours, written[0] as usize);
    eventually("the peer's FIN arrives", || state(&ours) == CLOSING);
    assert_eq!(of(&ours), (written[0], written[1]));
    take(&mut peer, written[1] as usize);
    eventually("over", || state(&ours) == CLOSE);
    assert_eq!(of(&ours).0, written[0]);
}

#[test]
fn after_a_reset_what_was_read_and_written_is_still_known() {
    for fin_first in [false, true] {
        for waiting in [0, 9, 5000] {
            let (mut peer, mut ours) = pair();
            ours.write_all(b"unread").unwrap();
            peer.write_all(&vec![7; waiting + 3]).unwrap();
            eventually("arrives", || unread(&ours) == waiting as u64 + 3);
            take(&mut ours, 3);
            if fin_first {
                peer.shutdown(Shutdown::Write).unwrap();
                eventually("the FIN arrives", || state(&ours) == CLOSE_WAIT);
            }
            reset(peer);
            eventually("the reset arrives", || state(&ours) == CLOSE);
            // Asked twice, because the first time may take the pending error.
            for _ in 0..2 {
                assert_eq!(of(&ours), (3, 6), "{fin_first} {waiting}");
            }
            take(&mut ours, waiting);
            for _ in 0..2 {
                assert_eq!(of(&ours), (waiting as u64 + 3, 6), "{fin_first} {waiting}");
            }
            assert_eq!(ours.read(&mut [0]).unwrap_or(0), 0);
            assert_eq!(of(&ours), (waiting as u64 + 3, 6), "{fin_first} {waiting}");
        }
    }
}

#[test]
fn exact_while_both_sides_are_busy() {
    const TOTAL: u64 = 200 << 20;
    const READ_BYTES_MAX: usize = 20_011;

    let (mut peer, mut ours) = pair();
    let mut answers = peer.try_clone().unwrap();
    let watched = ours.try_clone().unwrap();
    // Raised after, and before, each call: the true count is never below the first nor above the second.
    let (consumed_min, consumed_max) = (AtomicU64::new(0), AtomicU64::new(0));
    let (written_min, written_max) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..TOTAL >> 13 {
                peer.write_all(&[7; 1 << 13]).unwrap();
            }
        });
        scope.spawn(|| while answers.read(&mut [0; 30_011]).unwrap() > 0 {});
        let echo = scope.spawn(|| {
            let mut block = [0; READ_BYTES_MAX];
            let mut passed = 0;
            while passed < TOTAL {
                consumed_max.store(passed + READ_BYTES_MAX as u64, Ordering::SeqCst);
                let bytes = ours.read(&mut block).unwrap();
                assert!(bytes > 0);
                consumed_min.store(passed + bytes as u64, Ordering::SeqCst);
                written_max.store(passed + bytes as u64, Ordering::SeqCst);
                ours.write_all(&block[..bytes]).unwrap();
                passed += bytes as u64;
                written_min.store(passed, Ordering::SeqCst);
            }
        });
        let mut readings = 0;
        while !echo.is_finished() {
            let least = (
                consumed_min.load(Ordering::SeqCst),
                written_min.load(Ordering::SeqCst),
            );
            // Asked as often as it takes, as whoever waits for a running connection must.
            let counts = match counts(watched.as_fd()) {
                Ok(counts) => counts,
                Err(e) if e.kind() == io::ErrorKind::ResourceBusy => continue,
                Err(e) => panic!("{e}"),
            };
            let most = (
                consumed_max.load(Ordering::SeqCst),
                written_max.load(Ordering::SeqCst),
            );
            assert!(
                (least.0..=most.0).contains(&counts.consumed),
                "{least:?} {counts:?} {most:?}"
            );
            assert!(
                (least.1..=most.1).contains(&counts.written),
                "{least:?} {counts:?} {most:?}"
            );
            readings += 1;
        }
        echo.join().unwrap();
        assert!(readings > 0);
        assert_eq!(of(&watched), (TOTAL, TOTAL));
        watched.shutdown(Shutdown::Write).unwrap();
    });
}

#[test]
fn an_urgent_byte_in_line_is_a_byte() {
    let (peer, mut ours) = pair();
    setsockopt(&ours, sockopt::OobInline, &true).unwrap();
    send(peer.as_raw_fd(), b"abc!", MsgFlags::MSG_OOB).unwrap();
    send(peer.as_raw_fd(), b"def", MsgFlags::empty()).unwrap();
    eventually("arrives", || {
        info(ours.as_fd()).unwrap().bytes_received == 7
    });
    assert_eq!(of(&ours), (0, 0));
    for read in [2, 3, 4, 6, 7] {
        let before = of(&ours).0 as usize;
        take(&mut ours, read - before);
        assert_eq!(of(&ours), (read as u64, 0));
    }
}

#[test]
fn an_urgent_byte_out_of_line_spoils_the_count() {
    let (peer, mut ours) = pair();
    send(peer.as_raw_fd(), b"abc!", MsgFlags::MSG_OOB).unwrap();
    send(peer.as_raw_fd(), b"def", MsgFlags::empty()).unwrap();
    eventually("arrives", || {
        info(ours.as_fd()).unwrap().bytes_received == 7
    });
    // The queue is said to end at the urgent byte.
    assert_eq!(of(&ours), (4, 0));
    // Six bytes can be read.
    take(&mut ours, 6);
    assert_eq!(of(&ours), (7, 0));
}

#[test]
fn what_is_no_connection_is_an_error() {
    let (unix, _other) = UnixStream::pair().unwrap();
    let error = counts(unix.as_fd()).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EOPNOTSUPP));
    let file = std::fs::File::open("/dev/null").unwrap();
    let error = counts(file.as_fd()).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOTSOCK));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let error = counts(listener.as_fd()).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
}

#[test]
fn what_waits_is_told_with_how_long_it_has_been_there() {
    let (mut peer, mut ours) = pair();
    let of = |socket: &TcpStream| waiting(socket.as_fd()).unwrap();
    assert_eq!(of(&ours).input_ms, None);
    assert!(of(&ours).room_ms.is_some());
    let start = Instant::now();
    peer.write_all(b"x").unwrap();
    eventually("it comes", || of(&ours).input_ms.is_some());
    eventually("it waits", || {
        let most = start.elapsed();
        let told = of(&ours).input_ms.unwrap();
        assert!(Duration::from_millis(told.into()) <= most + Duration::from_millis(20));
        told >= 50
    });
    take(&mut ours, 1);
    assert_eq!(of(&ours).input_ms, None);

    ours.set_nonblocking(true).unwrap();
    while ours.write(&[0; 65536]).is_ok() {}
    assert_eq!(of(&ours).room_ms, None);
    peer.set_nonblocking(true).unwrap();
    let mut room = [0; 65536];
    eventually("there is room again", || {
        while peer.read(&mut room).is_ok_and(|bytes| bytes > 0) {}
        of(&ours).room_ms.is_some()
    });
    eventually("and it waits", || {
        of(&ours).room_ms.is_some_and(|ms| ms >= 50)
    });
}
