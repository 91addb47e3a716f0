use super::*;

/// An address for every hundred rows, a user for every ten.
fn flow(row: u32) -> Flow {
    Flow {
        address: row / 100,
        user: row / 10,
    }
}

fn queue(rows: impl IntoIterator<Item = u32>) -> FairQueue {
    let mut queue = FairQueue::default();
    rows.into_iter().for_each(|row| queue.push(row, flow(row)));
    queue
}

/// Serves so many rows that always have more, each for so long; tells how often each was served.
fn serve(queue: &mut FairQueue, times: usize, us: impl Fn(u32) -> u64) -> Vec<u32> {
    let served = (0..times).map(|_| {
        let row = queue.pop().unwrap();
        queue.charge(us(row));
        queue.push(row, flow(row));
        row
    });
    served.collect()
}

#[test]
fn one_users_rows_are_served_in_the_order_they_came() {
    let mut queue = queue([3, 1, 2, 3]);
    assert_eq!(queue.len(), 3);
    assert!(queue.has(1) && !queue.has(0));
    let order: Vec<u32> = std::iter::from_fn(|| queue.pop()).collect();
    assert_eq!(order, [3, 1, 2]);
    assert!(queue.is_empty() && !queue.has(1));
    queue.charge(10_000);
    // Nobody else waits, so that does not matter.
    queue.push(1, flow(1));
    assert_eq!(queue.pop(), Some(1));
}

#[test]
fn a_neighbour_comes_after_a_share_of_each_other_address_however_many_wait_there() {
    for addresses in [1, 5, 64] {
        // Ten connections of ten users at each.
        let mut queue = queue(0..100 * addresses);
        serve(&mut queue, 500, |_| 50);
        let neighbour = 100 * addresses;
        queue.push(neighbour, flow(neighbour));
        let mut waited = 0;
        while queue.pop().unwrap() != neighbour {
            queue.charge(50);
            waited += 50;
        }
        let most = u64::from(addresses) * (ADDRESS_US as u64 + 50);
        assert!(waited <= most, "{addresses} addresses: {waited}");
    }
}

#[test]
fn time_is_shared_and_not_turns() {
    // A user whose requests are dear, and one whose requests are cheap, at one address; more connections at another.
    let mut queue = queue((0..20).chain(100..150));
    let us = |row| if row < 10 { 300 } else { 20 };
    let served = serve(&mut queue, 20_000, us);
    let time = |rows: std::ops::Range<u32>| -> u64 {
        let mine = served.iter().filter(|row| rows.contains(row));
        mine.map(|row| us(*row)).sum()
    };
    let (dear, cheap, others) = (time(0..10), time(10..20), time(100..200));
    let near = |one: u64, other: u64| one.abs_diff(other) * 10 < one;
    assert!(near(dear, cheap), "{dear} {cheap}");
    assert!(near(dear + cheap, others), "{dear} {cheap} {others}");
}

#[test]
fn a_debt_is_bounded() {
    let mut queue = queue([0, 100]);
    let row = queue.pop().unwrap();
    queue.charge(10_000_000);
    queue.push(row, flow(row));
    let other = serve(&mut queue, 100, |row| if row == 0 { 1 } else { 400 });
    assert!(other[..5].contains(&row), "{other:?}");
}

#[test]
fn an_epoch_is_over_when_all_who_waited_were_served() {
    let mut queue = queue(0..30);
    assert!(queue.is_epoch_over());
    queue.begin_epoch();
    let mut served = Vec::new();
    while !queue.is_epoch_over() {
        served.extend(serve(&mut queue, 1, |row| u64::from(row % 7) * 40));
    }
    assert!((0..30).all(|row| served.contains(&row)));
    served.dedup();
    assert!(served.len() < 200, "{}", served.len());
}
