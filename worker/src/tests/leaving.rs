//! What a worker may not keep to itself when it stands still, leaves or takes over.

use std::os::fd::OwnedFd;
use std::rc::Rc;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use role::{Channel, MasterEnd, ToMaster, ToRole};
use shm_table::{FIRST_WORKER, Order, Transport};

use super::house::{House, settings, table};

fn doorbells() -> Vec<OwnedFd> {
    (0..FIRST_WORKER + 2)
        .map(|_| role::doorbell().unwrap())
        .collect()
}

fn is_rung(bell: &OwnedFd) -> bool {
    let mut asked = [PollFd::new(
        std::os::fd::AsFd::as_fd(bell),
        PollFlags::POLLIN,
    )];
    poll(&mut asked, PollTimeout::ZERO).unwrap() == 1
}

fn heard(master: &mut MasterEnd) -> Vec<ToMaster> {
    let mut buffer = sys::packet::Buffer::default();
    std::iter::from_fn(|| master.receive(&mut buffer).unwrap_or(None)).collect()
}

#[test]
fn whoever_stands_still_or_leaves_has_woken_others_and_told_what_is_over() {
    for last in [vec![ToRole::Pause, ToRole::Resume], vec![ToRole::Leave]] {
        let table = table(8);
        let mut house = House::new(&table, &settings());
        let ada = house.user(0, "ada");
        let bob = house.user(1, "bob");
        let (mut master, theirs) = MasterEnd::pair().unwrap();
        let channel = Rc::new(Channel::new(theirs));
        let bells = doorbells();
        assert!(house.works[1].hands.about_to_sleep());

        // In the middle of hearing the master: one connection is over, and another worker's has an order.
        let leaves = last.contains(&ToRole::Leave);
        last.into_iter().for_each(|message| master.queue(message));
        master.flush(|_| None).unwrap();
        house.works[0].hands.order(bob.handle, Order::KICKED);
        let mut connection = house.works[0].connection(ada.handle.row).unwrap();
        house.works[0].finish(&mut connection);
        house.hear(0, &channel, &bells);
        assert!(is_rung(&bells[usize::from(FIRST_WORKER) + 1]));
        assert_eq!(house.works[0].leaving, leaves);
        let said = heard(&mut master);
        assert!(matches!(said[0], ToMaster::Finished(_)), "{said:?}");
        assert_eq!(said.get(1), (!leaves).then_some(&ToMaster::Paused));
        assert!(house.works[0].finished.is_empty());
    }
}

#[test]
fn whoever_leaves_wakes_those_for_whom_he_did_something_last() {
    let table = table(8);
    let mut house = House::new(&table, &settings());
    let bob = house.user(1, "bob");
    let (mut master, theirs) = MasterEnd::pair().unwrap();
    let channel = Channel::new(theirs);
    let bells = doorbells();
    assert!(house.works[1].hands.about_to_sleep());
    house.works[0].hands.order(bob.handle, Order::KICKED);
    house.works[0].leave(&channel, &bells).unwrap();
    assert!(is_rung(&bells[usize::from(FIRST_WORKER) + 1]));
    assert_eq!(heard(&mut master), [ToMaster::Left]);
}

#[test]
fn a_newcomer_that_waited_too_long_for_its_worker_is_let_go() {
    for transport in [Transport::Tcp, Transport::WebSocket] {
        let table = table(8);
        let mut house = House::new(&table, &settings());
        let mut client = house.dial(0, transport);
        // Its worker looks before it has the connection, so that the mark is gone.
        let late = table.now_ms() + 60_000;
        assert_eq!(house.works[1].hands.expire_deadlines(late).expired, 1);
        house.turn(0);
        house.hand_over_dialled(0, client.handle);
        house.settle();
        let heard = String::from_utf8(client.bytes()).unwrap();
        assert!(client.has_ended(), "{transport:?}: {heard}");
        drop(client);
        house.assert_empty();
    }
}

#[test]
fn a_deadline_that_passes_while_the_one_before_is_looked_at_counts() {
    let table = table(8);
    let mut house = House::new(&table, &settings());
    let mut ada = house.user(0, "ada");
    let expire =
        |house: &mut House<'_>, at_ms| house.works[1].hands.expire_deadlines(at_ms).expired;
    assert_eq!(expire(&mut house, table.now_ms() + 120_000), 1);
    // The worker has looked at the order and found that the client gave a sign of life in time; before it takes the order away, the next
    // deadline passes.
    let orders = house.works[0].hands.orders(ada.handle);
    assert!(orders.has(Order::DEADLINE));
    let soon = table.now_ms();
    house.works[0].hands.set_deadline(ada.handle, soon.max(1));
    assert_eq!(expire(&mut house, soon + 32), 1);
    house.works[0].hands.obeyed(ada.handle, orders);
    house.assert_nobody_is_forgotten();
    house.settle();
    assert!(ada.lines().concat().contains("4002"));
    drop(ada);
    house.assert_empty();
}
