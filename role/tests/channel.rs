//! Both ends of a channel, over a real socket and with real descriptors.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::cell::Cell;
use std::fs::File;
use std::io::{self, PipeReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::thread;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use role::{Channel, ChannelError, MasterEnd, Seat, ToMaster, ToRole};
use sys::packet::Buffer;

fn seat(row: u32) -> Seat {
    Seat { row, generation: 1 }
}

fn channel() -> (MasterEnd, Channel) {
    let (master, socket) = MasterEnd::pair().unwrap();
    (master, Channel::new(socket))
}

fn wait_readable(socket: impl AsFd) {
    poll(
        &mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)],
        PollTimeout::NONE,
    )
    .unwrap();
}

/// The next message of a role that runs in another thread.
fn next(master: &mut MasterEnd) -> ToMaster {
    loop {
        wait_readable(&*master);
        if let Some(message) = master.receive(&mut Buffer::default()).unwrap() {
            return message;
        }
    }
}

#[test]
fn seats_travel_in_full_packets_each_with_its_own_descriptor() {
    let (mut master, role) = channel();
    let count = Seat::MAX + 3;
    let pipes: Vec<(PipeReader, OwnedFd)> = (0..count)
        .map(|_| {
            let (reader, writer) = io::pipe().unwrap();
            (reader, writer.into())
        })
        .collect();
    for row in 0..count {
        master.queue_seat(seat(row as u32));
    }
    master.queue(ToRole::Drain);
    // The connection in row 1 has gone away meanwhile: it is left out, and the others keep theirs.
    master
        .flush(|seat| (seat.row != 1).then(|| pipes[seat.row as usize].1.as_fd()))
        .unwrap();
    assert!(!master.waits_for_room());

    let mut packets = Vec::new();
    while let Some(received) = role.receive().unwrap() {
        let ToRole::Seats(seats) = received.message else {
            assert_eq!(received.message, ToRole::Drain);
            break;
        };
        packets.push(seats.len());
        for (seat, descriptor) in seats.iter().zip(received.descriptors) {
            File::from(descriptor)
                .write_all(&seat.row.to_le_bytes())
                .unwrap();
        }
    }
    assert_eq!(packets, [Seat::MAX - 1, 3]);
    for (row, (mut reader, writer)) in pipes.into_iter().enumerate() {
        drop(writer);
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).unwrap();
        let expected = if row == 1 {
            vec![]
        } else {
            (row as u32).to_le_bytes().to_vec()
        };
        assert_eq!(bytes, expected, "row {row}");
    }
}

#[test]
fn what_a_role_does_not_take_waits_in_order_and_the_master_does_not() {
    let (mut master, role) = channel();
    let file = File::open("/dev/null").unwrap();
    let count = 200_000;
    for row in 0..count {
        master.queue_seat(seat(row));
        if row % 1000 == 0 {
            master.flush(|_| Some(file.as_fd())).unwrap();
        }
    }
    assert!(master.waits_for_room(), "the channel is not endless");

    let mut expected = 0;
    while expected < count {
        let Some(received) = role.receive().unwrap() else {
            master.flush(|_| Some(file.as_fd())).unwrap();
            continue;
        };
        let ToRole::Seats(seats) = received.message else {
            panic!("{:?}", received.message)
        };
        for s in seats {
            assert_eq!(s.row, expected);
            expected += 1;
        }
    }
}

#[test]
fn a_pause_is_served_inside_receive_and_keeps_what_comes_meanwhile() {
    let (mut master, socket) = MasterEnd::pair().unwrap();
    let role = thread::spawn(move || {
        let role = Channel::new(socket);
        let mut seen = Vec::new();
        loop {
            match role.receive().unwrap() {
                Some(received) if received.message == ToRole::Drain => return seen,
                Some(received) => seen.push(received.message),
                None => wait_readable(&role),
            }
        }
    });
    master.queue(ToRole::Pause);
    master.flush(|_| None).unwrap();
    assert_eq!(next(&mut master), ToMaster::Paused);
    master.queue(ToRole::ReopenLog);
    master.queue(ToRole::Resume);
    master.queue(ToRole::Pause);
    master.flush(|_| None).unwrap();
    assert_eq!(next(&mut master), ToMaster::Paused);
    master.queue(ToRole::Resume);
    master.queue(ToRole::Drain);
    master.flush(|_| None).unwrap();
    assert_eq!(role.join().unwrap(), [ToRole::ReopenLog]);
}

#[test]
fn a_process_that_waits_for_a_lock_serves_the_pause_there() {
    let (mut master, socket) = MasterEnd::pair().unwrap();
    master.queue(ToRole::ReopenLog);
    master.queue(ToRole::Pause);
    master.flush(|_| None).unwrap();
    let role = thread::spawn(move || {
        let role = Channel::new(socket);
        role.pause_point();
        // Nothing asks now: it returns by itself.
        role.pause_point();
        role.receive().unwrap().map(|received| received.message)
    });
    assert_eq!(next(&mut master), ToMaster::Paused);
    master.queue(ToRole::Resume);
    master.flush(|_| None).unwrap();
    assert_eq!(role.join().unwrap(), Some(ToRole::ReopenLog));
}

#[test]
fn what_comes_before_begin_is_kept() {
    let (mut master, socket) = MasterEnd::pair().unwrap();
    let role = thread::spawn(move || {
        let role = Channel::new(socket);
        role.send(&ToMaster::Ready).unwrap();
        role.await_begin().unwrap();
        role.send(&ToMaster::Left).unwrap();
        std::iter::from_fn(|| role.receive().unwrap())
            .map(|received| received.message)
            .collect::<Vec<_>>()
    });
    master.queue(ToRole::ReopenLog);
    master.flush(|_| None).unwrap();
    assert_eq!(next(&mut master), ToMaster::Ready);
    master.queue(ToRole::Settings(Box::default()));
    master.queue(ToRole::Begin);
    master.flush(|_| None).unwrap();
    assert_eq!(next(&mut master), ToMaster::Left);
    assert_eq!(
        role.join().unwrap(),
        [ToRole::ReopenLog, ToRole::Settings(Box::default())]
    );

    let (master, role) = channel();
    drop(master);
    assert!(matches!(role.await_begin(), Err(ChannelError::Gone)));
}

#[test]
fn any_number_of_finished_connections_arrives() {
    let (mut master, socket) = MasterEnd::pair().unwrap();
    let count = 100_000;
    let role = thread::spawn(move || {
        let all = (0..count).map(seat).collect();
        Channel::new(socket).send(&ToMaster::Finished(all)).unwrap();
    });
    let mut rows = Vec::new();
    while rows.len() < count as usize {
        let ToMaster::Finished(seats) = next(&mut master) else {
            panic!("only finished connections were sent")
        };
        rows.extend(seats.iter().map(|s| s.row));
    }
    assert!(rows.into_iter().eq(0..count));
    role.join().unwrap();
}

#[test]
fn each_end_notices_that_the_other_is_gone() {
    let (master, role) = channel();
    drop(master);
    assert!(matches!(role.receive(), Err(ChannelError::Gone)));
    assert!(matches!(
        role.send(&ToMaster::Ready),
        Err(ChannelError::Gone)
    ));

    let (mut master, role) = channel();
    role.send(&ToMaster::Ready).unwrap();
    drop(role);
    assert_eq!(next(&mut master), ToMaster::Ready);
    assert!(matches!(
        master.receive(&mut Buffer::default()),
        Err(ChannelError::Gone)
    ));
    master.queue(ToRole::Drain);
    assert!(matches!(master.flush(|_| None), Err(ChannelError::Gone)));
}

#[test]
fn the_last_words_of_a_role_that_did_not_read_on_arrive() {
    let (mut master, role) = channel();
    master.queue(ToRole::Leave);
    master.queue(ToRole::ReopenLog);
    master.flush(|_| None).unwrap();
    role.receive().unwrap();
    role.send(&ToMaster::Left).unwrap();
    role.send(&ToMaster::Failed("why".into())).unwrap();
    drop(role);
    assert_eq!(next(&mut master), ToMaster::Left);
    assert_eq!(next(&mut master), ToMaster::Failed("why".into()));
    assert!(matches!(
        master.receive(&mut Buffer::default()),
        Err(ChannelError::Gone)
    ));
}

#[test]
fn a_seat_that_nobody_has_any_more_is_not_sent() {
    let (mut master, role) = channel();
    let asked = Cell::new(0);
    master.queue_seat(seat(9));
    master
        .flush(|_| {
            asked.set(asked.get() + 1);
            None
        })
        .unwrap();
    assert_eq!(asked.get(), 1);
    assert!(!master.waits_for_room());
    assert!(role.receive().unwrap().is_none());
}

#[test]
fn a_doorbell_rings_until_it_is_silenced() {
    let bell = role::doorbell().unwrap();
    let rings = || {
        poll(
            &mut [PollFd::new(bell.as_fd(), PollFlags::POLLIN)],
            PollTimeout::ZERO,
        )
        .unwrap()
            == 1
    };
    assert!(!rings());
    role::ring(&bell);
    role::ring(&bell);
    assert!(rings());
    role::silence(&bell);
    assert!(!rings());
    role::silence(&bell);
}
